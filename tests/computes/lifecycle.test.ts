import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readdirSync } from "node:fs";
import path from "node:path";
import { readPostmasterFile } from "../../computes/postgres/data-directory.ts";
import type { ComputeHostError, NewCompute } from "../../platform/compute-host.ts";
import {
  connectTo,
  makeCompute,
  newCompute,
  startComputeHost,
  type TestComputeHost,
} from "../support/compute-host.ts";
import { until } from "../support/until.ts";

setDefaultTimeout(60_000);

let host: TestComputeHost;
beforeAll(async () => {
  host = await startComputeHost();
});
afterAll(() => host[Symbol.asyncDispose]());

const LEASE = { holder: "o7s-1", leaseMs: 60_000, deadlineMs: 20_000 };

const codeOf = (error: unknown): string => (error as ComputeHostError).code;
const dataOf = (compute: NewCompute): string =>
  path.join(host.directory, "computes", compute.computeId, "data");
const untilStopped = (compute: NewCompute): Promise<unknown> =>
  until("the compute's stop", async () => {
    const status = await host.client.status(compute.computeId);
    return status?.state === "stopped";
  });

test("200 concurrent wakes start one process, and all get its lease", async () => {
  const compute = await makeCompute(host);
  await host.client.suspend(compute.computeId);
  const before = await host.client.status(compute.computeId);
  const leases = await Promise.all(
    Array.from({ length: 200 }, (_, at) =>
      host.client.wake(compute.computeId, { ...LEASE, holder: `o7s-${at}` }),
    ),
  );
  expect(new Set(leases.map((lease) => lease.generation)).size).toBe(1);
  const after = await host.client.status(compute.computeId);
  expect(after?.wakes).toBe((before?.wakes ?? 0) + 1);
});

test("a tenant gets its own database, and nothing of the server's", async () => {
  const compute = await makeCompute(host);
  const lease = await host.client.wake(compute.computeId, LEASE);
  await using sql = connectTo(compute, lease);
  await sql`create table item (id int primary key)`;
  const [role] = await sql`
    select rolsuper, rolcreaterole, rolcreatedb, rolbypassrls from pg_roles
    where rolname = current_user`;
  expect(role).toEqual({
    rolsuper: false,
    rolcreaterole: false,
    rolcreatedb: false,
    rolbypassrls: false,
  });
  for (const statement of [
    "select pg_read_file('/etc/passwd')",
    "copy item from program 'id'",
    "alter system set fsync = off",
    "set role postgres",
  ]) {
    expect(await sql.unsafe(statement).then(() => "done", codeOf)).toBe("42501");
  }
  for (const database of ["OgelAdmin", "template1"]) {
    await using other = connectTo(compute, lease, { database });
    expect(await other`select 1`.then(() => "connected", codeOf)).toBe("42501");
  }
});

test("a compute stops when its last lease has run out, and not while another holds one", async () => {
  const held = await makeCompute(host);
  const idle = await makeCompute(host);
  await host.client.wake(held.computeId, LEASE);
  await host.client.wake(held.computeId, { ...LEASE, holder: "o7s-2", leaseMs: 1 });
  await host.client.suspend(idle.computeId);
  await host.client.wake(idle.computeId, { ...LEASE, leaseMs: 50 });
  await untilStopped(idle);
  expect(readPostmasterFile(dataOf(idle))).toBeNull();
  expect((await host.client.status(held.computeId))?.state).toBe("running");
});

test("a wake that meets a stop waits for it and starts the next generation", async () => {
  const compute = await makeCompute(host);
  const first = await host.client.wake(compute.computeId, LEASE);
  const stop = host.client.suspend(compute.computeId);
  const wakes = await Promise.all([stop, host.client.wake(compute.computeId, LEASE)]);
  // Which of the two came first is open; that the lease is of a living process is not.
  const lease = await host.client.wake(compute.computeId, LEASE);
  expect(lease.generation).toBeGreaterThanOrEqual(wakes[1].generation);
  expect(lease.generation).toBe(first.generation + 1);
  await using sql = connectTo(compute, lease);
  expect(await sql`select 1 as one`).toEqual([{ one: 1 }] as never);
});

test("a compute that is killed is noticed, and recovers with all that was committed", async () => {
  const compute = await makeCompute(host);
  const lease = await host.client.wake(compute.computeId, LEASE);
  {
    await using sql = connectTo(compute, lease);
    await sql`create table kept as select generate_series(1, 1000) as n`;
    process.kill(readPostmasterFile(dataOf(compute))?.pid ?? 0, "SIGKILL");
  }
  await untilStopped(compute);
  const again = await host.client.wake(compute.computeId, LEASE);
  expect(again.generation).toBe(lease.generation + 1);
  await using sql = connectTo(compute, again);
  expect(await sql`select count(*)::int as n from kept`).toEqual([{ n: 1000 }] as never);
});

test("a dropped compute is gone with its process and its files, and dropping it again is fine", async () => {
  const compute = await makeCompute(host);
  await host.client.wake(compute.computeId, LEASE);
  await host.client.drop(compute.computeId);
  expect(existsSync(path.dirname(dataOf(compute)))).toBe(false);
  expect(readdirSync(path.join(host.directory, "half"))).toEqual([]);
  expect(readdirSync(path.join(host.directory, "run"))).not.toContain(compute.computeId);
  expect(await host.client.status(compute.computeId)).toBeNull();
  expect(await host.client.wake(compute.computeId, LEASE).then(() => "", codeOf)).toBe("not_found");
  await host.client.drop(compute.computeId);
});

test("a damaged data directory fails its own wake with a plain code, and no other compute", async () => {
  const damaged = await makeCompute(host);
  const sound = await makeCompute(host);
  await host.client.suspend(damaged.computeId);
  await Bun.write(path.join(dataOf(damaged), "global", "pg_control"), "rubbish");
  const refusal = await host.client.wake(damaged.computeId, LEASE).catch((error) => error);
  expect(codeOf(refusal)).toBe("start_failed");
  expect(refusal.message).not.toContain(host.directory);
  expect((await host.client.status(damaged.computeId))?.state).toBe("stopped");
  const lease = await host.client.wake(sound.computeId, LEASE);
  await using sql = connectTo(sound, lease);
  expect(await sql`select 1 as one`).toEqual([{ one: 1 }] as never);
});

test("creating again changes nothing, and other names under the same id are refused", async () => {
  const compute = await makeCompute(host);
  await host.client.create(compute);
  const other = { ...compute, databaseName: "other" };
  expect(await host.client.create(other).then(() => "", codeOf)).toBe("conflict");
});

test("whatever tenants do to their own login is repaired", async () => {
  const compute = await makeCompute(host);
  const lease = await host.client.wake(compute.computeId, LEASE);
  const { databaseName: database, roleName: role } = compute;
  {
    await using sql = connectTo(compute, lease);
    for (const statement of [
      `ALTER ROLE ${role} SET local_preload_libraries = 'nothing_such'`,
      `ALTER DATABASE ${database} SET role = 'postgres'`,
      `ALTER DATABASE ${database} CONNECTION LIMIT 0`,
      `REVOKE ALL ON DATABASE ${database} FROM ${role}`,
      `ALTER ROLE ${role} PASSWORD 'my own'`,
    ]) {
      await sql.unsafe(statement).catch((error) => {
        // Some of this PostgreSQL refuses itself, which is as well.
        expect(codeOf(error)).toStartWith("42");
      });
    }
  }
  {
    await using sql = connectTo(compute, lease);
    expect(await sql`select 1`.then(() => "connected", codeOf)).toBe("28P01");
  }
  await host.client.repairLogin(compute);
  await using sql = connectTo(compute, lease);
  expect(await sql`select 1 as one`).toEqual([{ one: 1 }] as never);
});

test("the host refuses strangers, nonsense and names that would have to be quoted", async () => {
  const compute = newCompute();
  const route = `/v1/computes/${compute.computeId}`;
  expect((await host.request("GET", "/v1/computes", undefined, "Bearer wrong")).status).toBe(401);
  expect((await host.request("GET", "/healthz", undefined, "")).status).toBe(200);
  expect((await host.request("POST", "/v1/computes/db_1/wake", LEASE)).status).toBe(400);
  expect((await host.request("POST", `${route}/wake`, LEASE)).status).toBe(404);
  expect((await host.request("POST", `${route}/wake`, { ...LEASE, leaseMs: -1 })).status).toBe(400);
  expect((await host.request("POST", `${route}/wake`, "rubbish")).status).toBe(400);
  expect((await host.request("PATCH", route, {})).status).toBe(405);
  for (const wrong of [
    { databaseName: 'x"; DROP DATABASE y; --' },
    { databaseName: "template1" },
    { roleName: "postgres" },
    { passwordVerifier: "SCRAM-SHA-256$1:a$b'c:d" },
  ]) {
    const response = await host.request("PUT", route, { ...compute, ...wrong });
    expect([response.status, ((await response.json()) as { code: string }).code]).toEqual([
      400,
      "invalid",
    ]);
  }
});

test("metrics count what runs", async () => {
  const compute = await makeCompute(host);
  await host.client.wake(compute.computeId, LEASE);
  const text = await (await host.request("GET", "/metrics")).text();
  expect(text).toMatch(/^ogel_computes_running [1-9]\d*$/m);
  expect(text).toMatch(/^ogel_compute_wake_seconds_count [1-9]\d*$/m);
});

test("what a compute stores is told, while it sleeps too, and the list catches up with it", async () => {
  const compute = await makeCompute(host);
  await host.client.suspend(compute.computeId);
  const status = await host.client.status(compute.computeId);
  expect(status?.storageBytes).toBeGreaterThan(10_000_000);
  await until("the list's own look at all", async () =>
    (await host.client.list()).every(({ storageBytes }) => storageBytes > 10_000_000),
  );
});
