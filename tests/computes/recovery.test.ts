import { expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync } from "node:fs";
import path from "node:path";
import { adoptServer } from "../../computes/postgres/server.ts";
import type { NewCompute } from "../../platform/compute-host.ts";
import { isRunning } from "../../platform/process-identity.ts";
import {
  connectTo,
  makeCompute,
  newCompute,
  startComputeHost,
  type TestComputeHost,
} from "../support/compute-host.ts";
import { until } from "../support/until.ts";

setDefaultTimeout(60_000);

const LEASE = { holder: "o7s-1", leaseMs: 60_000, deadlineMs: 20_000 };

const dataOf = (host: TestComputeHost, compute: NewCompute): string =>
  path.join(host.directory, "computes", compute.computeId, "data");

const secondsOf = async (host: TestComputeHost, compute: NewCompute): Promise<number> =>
  (await host.client.status(compute.computeId))?.computeSeconds ?? 0;

test("a killed host's computes live on: connections hold, and the next host adopts and meters them", async () => {
  await using host = await startComputeHost();
  const compute = await makeCompute(host);
  const lease = await host.client.wake(compute.computeId, LEASE);
  await using sql = connectTo(compute, lease);
  await sql`create table kept as select 1 as n`;
  const before = await secondsOf(host, compute);
  await host.kill();
  expect(await sql`select n from kept`).toEqual([{ n: 1 }] as never);

  await host.start();
  const adopted = await host.client.wake(compute.computeId, LEASE);
  expect(adopted).toEqual(lease);
  expect(await sql`select n from kept`).toEqual([{ n: 1 }] as never);
  const after = await host.client.status(compute.computeId);
  expect(after?.wakes).toBe(lease.generation);
  expect(after?.computeSeconds).toBeGreaterThan(before);

  // An adopted process that ends is noticed, and one that is stopped stops.
  await host.client.suspend(compute.computeId);
  expect(adoptServer(dataOf(host, compute))).toBeNull();
});

test("a lease that a killed host had granted is kept by the next one", async () => {
  await using host = await startComputeHost();
  const held = await makeCompute(host);
  const graced = await makeCompute(host);
  await host.client.wake(held.computeId, LEASE);
  await host.kill();
  await host.start();
  // The other had only the host's own short grace, so when it is gone, only the lease keeps the
  // first one up.
  await until("the end of the grace", async () => {
    return (await host.client.status(graced.computeId))?.state === "stopped";
  });
  expect((await host.client.status(held.computeId))?.state).toBe("running");
});

test("after a kill of host and computes alike nothing committed is lost, and nothing is metered of the dead time", async () => {
  await using host = await startComputeHost();
  const compute = await makeCompute(host);
  const lease = await host.client.wake(compute.computeId, LEASE);
  {
    await using sql = connectTo(compute, lease);
    await sql`create table kept as select generate_series(1, 100) as n`;
  }
  const metered = await secondsOf(host, compute);
  await host.kill();
  const server = adoptServer(dataOf(host, compute));
  process.kill(server?.identity.pid ?? 0, "SIGKILL");
  await until("its end", () => server !== null && !isRunning(server.identity));
  const diedMs = performance.now();
  await host.start();
  const startedMs = performance.now();
  const afterwards = await secondsOf(host, compute);
  expect(afterwards).toBeGreaterThanOrEqual(metered - 1);
  // At most until the last sight of it, which was before the kill.
  expect(afterwards).toBeLessThan(metered + 1 + (startedMs - diedMs) / 1_000);
  expect(await secondsOf(host, compute)).toBe(afterwards);

  const again = await host.client.wake(compute.computeId, LEASE);
  expect(again.generation).toBe(lease.generation + 1);
  await using sql = connectTo(compute, again);
  expect(await sql`select count(*)::int as n from kept`).toEqual([{ n: 100 }] as never);
});

test("a process that no record tells of is stopped at the next start", async () => {
  await using host = await startComputeHost();
  const compute = await makeCompute(host);
  await host.client.wake(compute.computeId, LEASE);
  await host.kill();
  const server = adoptServer(dataOf(host, compute));
  const meter = Bun.file(path.join(host.directory, "meters", `${compute.computeId}.json`));
  await Bun.write(meter, JSON.stringify({ ...(await meter.json()), life: null }));
  await host.start();
  expect(server !== null && isRunning(server.identity)).toBe(false);
  const again = await host.client.wake(compute.computeId, LEASE);
  await using sql = connectTo(compute, again);
  expect(await sql`select 1 as one`).toEqual([{ one: 1 }] as never);
});

test("making a compute can be killed at any moment and is finished by the same request", async () => {
  await using host = await startComputeHost();
  for (const killAfterMs of [0, 30, 90, 180]) {
    const compute = newCompute();
    const request = host.client.create(compute).catch(() => {});
    await Bun.sleep(killAfterMs); // Not waited for anything: the moment of the kill is the point.
    await host.kill();
    await request;
    await host.start();
    await host.client.create(compute);
    const lease = await host.client.wake(compute.computeId, LEASE);
    await using sql = connectTo(compute, lease);
    expect(await sql`select current_database() as name`).toEqual([{ name: "shop" }] as never);
  }
  expect(readdirSync(path.join(host.directory, "half"))).toEqual([]);
});

test("a host that is asked to stop stops its computes, and its data can be served again", async () => {
  await using host = await startComputeHost();
  const compute = await makeCompute(host);
  await host.client.wake(compute.computeId, LEASE);
  await host.stop();
  expect(adoptServer(dataOf(host, compute))).toBeNull();
  await host.start();
  const lease = await host.client.wake(compute.computeId, LEASE);
  await using sql = connectTo(compute, lease);
  expect(await sql`select 1 as one`).toEqual([{ one: 1 }] as never);
});

test("two hosts never serve one directory", async () => {
  await using host = await startComputeHost();
  const pid = host.service?.pid;
  const second = await host.start().then(
    () => "started",
    (error: Error) => error.message,
  );
  expect(second).toContain(`is held by process ${pid}`);
});
