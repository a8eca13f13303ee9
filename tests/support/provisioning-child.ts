/**
 * Creates or drops a database in a process of its own, so that a test can kill it anywhere. Says
 * `begun` once it is ready to act, and `done` when it has. Arguments: control plane's URL, shared
 * server's URL, act, org, name.
 */
import type { OrgId } from "../../platform/ids.ts";
import { openControlPlane } from "../../platform/postgres-client.ts";
import { createDatabase, dropDatabase } from "../../platform/provisioning.ts";
import { createProvisioning, TEST_ACTOR } from "./control-plane.ts";

const [url = "", adminUrl = "", act = "", orgId = "", name = ""] = process.argv.slice(2);
const sql = openControlPlane(url, { applicationName: "test-child" });
const parts = createProvisioning({ url, sql, async [Symbol.asyncDispose]() {} }, adminUrl);
await Promise.all([sql`SELECT 1`, parts.shared.admin`SELECT 1`]);
process.stdout.write("begun\n");
if (act === "create") {
  await createDatabase(parts, { orgId: orgId as OrgId, name, kind: "postgres" }, TEST_ACTOR);
} else {
  await dropDatabase(parts, { orgId: orgId as OrgId, address: name }, TEST_ACTOR);
}
process.stdout.write("done\n");
process.exit(0);
