import { expect, setDefaultTimeout, test } from "bun:test";
import type { ComputeHostError } from "../../platform/compute-host.ts";
import { connectTo, makeCompute, startComputeHost } from "../support/compute-host.ts";

setDefaultTimeout(60_000);

const LEASE = { holder: "o7s-1", leaseMs: 60_000, deadlineMs: 20_000 };
const codeOf = (error: unknown): string => (error as ComputeHostError).code;

test("beyond the maximum a wake waits in line, and is refused when nobody leaves by its deadline", async () => {
  await using host = await startComputeHost({ O7S_COMPUTES_MAX: "2" });
  const [first, second, third] = [
    await makeCompute(host),
    await makeCompute(host),
    await makeCompute(host),
  ];
  // Making the third put one of the others to sleep: only the host's own grace had kept it up.
  await host.client.wake(first.computeId, LEASE);
  await host.client.wake(second.computeId, LEASE);
  const late = host.client.wake(third.computeId, { ...LEASE, deadlineMs: 100 });
  expect(await late.then(() => "woken", codeOf)).toBe("capacity");
  const running = await host.client.list();
  expect(
    running
      .filter(({ state }) => state === "running")
      .map((c) => c.computeId)
      .sort(),
  ).toEqual([first.computeId, second.computeId].sort());

  const waiting = host.client.wake(third.computeId, LEASE);
  await host.client.suspend(first.computeId);
  await using sql = connectTo(third, await waiting);
  expect(await sql`select 1 as one`).toEqual([{ one: 1 }] as never);
});

test("a wake that may wait longer is not refused with one that joined it and could not", async () => {
  await using host = await startComputeHost({ O7S_COMPUTES_MAX: "1" });
  const [first, second] = [await makeCompute(host), await makeCompute(host)];
  await host.client.wake(first.computeId, LEASE);
  const hasty = host.client.wake(second.computeId, { ...LEASE, deadlineMs: 50 });
  const patient = host.client.wake(second.computeId, LEASE);
  expect(await hasty.then(() => "woken", codeOf)).toBe("capacity");
  await host.client.suspend(first.computeId);
  expect((await patient).generation).toBeGreaterThan(0);
});
