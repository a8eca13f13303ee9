import { expect, setDefaultTimeout, test } from "bun:test";
import { type OrgId, parseDatabaseId } from "../../platform/ids.ts";
import { flushUsage } from "../../platform/usage/flush.ts";
import { periodOf, readUsage } from "../../platform/usage/report.ts";
import { makeCompute, startComputeHost } from "../support/compute-host.ts";
import { createControlPlane } from "../support/control-plane.ts";
import { startPostgres } from "../support/postgres-server.ts";
import { until } from "../support/until.ts";

setDefaultTimeout(60_000);

const LEASE = { holder: "o7s-1", leaseMs: 60_000, deadlineMs: 20_000 };

test("compute seconds reach the control plane exactly once, over kills, restarts and drops", async () => {
  await using server = await startPostgres();
  await using control = await createControlPlane(server.adminUrl);
  await using host = await startComputeHost({ DATABASE_URL: control.url });
  const compute = await makeCompute(host);
  const orgId = compute.roleName as OrgId;
  const reported = async (): Promise<number> => {
    await flushUsage(control.sql, 5_000);
    const { byDatabase } = await readUsage(control.sql, orgId, periodOf(Date.now()));
    const row = byDatabase.find(({ databaseId }) => databaseId === compute.computeId);
    return row?.computeSeconds ?? 0;
  };
  const settled = async (): Promise<number> => {
    const status = await host.client.status(compute.computeId);
    expect(status?.state).toBe("stopped");
    return status?.computeSeconds ?? -1;
  };

  await host.client.wake(compute.computeId, LEASE);
  await host.client.suspend(compute.computeId);
  const first = await settled();
  expect(first).toBeGreaterThan(0);
  await until("the first report", async () => (await reported()) === first);

  await host.client.wake(compute.computeId, LEASE);
  await host.kill();
  await host.start();
  await host.client.suspend(compute.computeId);
  const second = await settled();
  expect(second).toBeGreaterThan(first);
  await until("the report after a kill", async () => (await reported()) === second);

  await host.client.wake(compute.computeId, LEASE);
  await host.client.drop(compute.computeId);
  const last = await until("the report after the drop", async () => {
    const seconds = await reported();
    return seconds > second ? seconds : null;
  });
  await host.stop();
  await host.start();
  expect(await reported()).toBe(last);
  expect(parseDatabaseId(compute.computeId)).not.toBeNull();
});
