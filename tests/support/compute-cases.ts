/**
 * Talks to a compute host, on any runtime. Arguments: its socket, its secret. Prints what came
 * out.
 */
import process from "node:process";
import { ComputeHostError } from "../../platform/compute-host.ts";
import { createComputeHostClient } from "../../platform/compute-host-client.ts";
import { newDatabaseId } from "../../platform/ids.ts";

const [unixSocket = "", secret = ""] = process.argv.slice(2);
const address = { name: "local", url: "http://compute-host", unixSocket };
const client = createComputeHostClient({ address, secret });
const lease = { holder: "test", leaseMs: 1_000, deadlineMs: 1_000 };
const listed = await client.list();
const unknown = await client.status(newDatabaseId());
let refusal = "";
try {
  await client.wake(newDatabaseId(), lease);
} catch (error) {
  refusal = error instanceof ComputeHostError ? error.code : String(error);
}
process.stdout.write(`${JSON.stringify({ isList: Array.isArray(listed), unknown, refusal })}\n`);
