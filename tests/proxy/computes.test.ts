/** Databases that sleep, as their clients see them. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import postgres from "postgres";
import type { ComputeHost, ComputeStatus } from "../../platform/compute-host.ts";
import type { DatabaseId } from "../../platform/ids.ts";
import { flushUsage } from "../../platform/usage/flush.ts";
import { periodOf, readUsage } from "../../platform/usage/report.ts";
import { startPlatform, type TestOrg, type TestPlatform } from "../support/platform.ts";
import { run } from "../support/programs.ts";
import { until } from "../support/until.ts";
import { errorText, extended, rowsOf, WireClient } from "../support/wire.ts";

let platform: TestPlatform;
let host: ComputeHost;
let org: TestOrg;
/** An org whose computes sleep after ten seconds: they do so while the other tests run. */
let frugal: TestOrg;
let left: {
  resting: WireClient;
  listening: WireClient;
  restingId: DatabaseId;
  listeningId: DatabaseId;
};

beforeAll(async () => {
  platform = await startPlatform({ computes: true });
  if (platform.computes === null) throw new Error("no compute host");
  ({ host } = platform.computes);
  frugal = await platform.createOrg("FREE");
  const restingId = await platform.createDatabase(frugal, "resting", "neon");
  const listeningId = await platform.createDatabase(frugal, "listening", "neon");
  const resting = await open(frugal, "resting");
  await resting.query("SELECT 1");
  const listening = await open(frugal, "listening");
  await listening.query("LISTEN news");
  left = { resting, listening, restingId, listeningId };
  org = await platform.createOrg("ENTERPRISE", { limitQps: 1_000_000 });
}, 60_000);

afterAll(async () => {
  left.resting.destroy();
  left.listening.destroy();
  await platform[Symbol.asyncDispose]();
}, 60_000);

const open = (owner: TestOrg, database: string): Promise<WireClient> =>
  WireClient.login(
    { port: platform.postgresPort },
    { user: owner.orgId, password: owner.token, database },
  );

async function statusOf(databaseId: DatabaseId): Promise<ComputeStatus> {
  const status = await host.status(databaseId);
  if (status === null) throw new Error("no such compute");
  return status;
}

async function suspend(databaseId: DatabaseId): Promise<void> {
  await host.suspend(databaseId);
  await until("its sleep", async () => (await statusOf(databaseId)).state === "stopped");
}

let databases = 0;
async function newDatabase(): Promise<{ name: string; databaseId: DatabaseId }> {
  const name = `database-${++databases}`;
  return { name, databaseId: await platform.createDatabase(org, name, "neon") };
}

describe("a sleeping database", () => {
  test("is woken by whoever comes, who notices nothing but the time", async () => {
    const { name, databaseId } = await newDatabase();
    {
      await using client = await open(org, name);
      await client.query("CREATE TABLE kept AS SELECT 42 AS answer");
    }
    await suspend(databaseId);
    const sql = postgres(platform.url(org, name), { max: 1 });
    expect([...(await sql`SELECT answer FROM kept`)]).toEqual([{ answer: 42 }]);
    expect((await statusOf(databaseId)).state).toBe("running");
    await sql.end();
  });

  test("keeps its clients' connections open, and wakes with their next query", async () => {
    const { name, databaseId } = await newDatabase();
    await using client = await open(org, name);
    const started = "SELECT pg_postmaster_start_time()";
    const [first] = rowsOf(await client.query(started));
    const { wakes } = await statusOf(databaseId);
    for (let sleep = 1; sleep <= 3; sleep++) {
      await suspend(databaseId);
      expect(client.closed).toBe(false);
      expect(client.pendingBytes).toBe(0);
      const [again] = rowsOf(await client.query(started));
      expect(again).not.toEqual(first);
      expect((await statusOf(databaseId)).wakes).toBe(wakes + sleep);
    }
  });

  test("is woken once by all who come at the same time", async () => {
    const { name, databaseId } = await newDatabase();
    const clients = await Promise.all([1, 2, 3, 4, 5].map(() => open(org, name)));
    await Promise.all(clients.map((client) => client.query("SELECT 1")));
    const { wakes } = await statusOf(databaseId);
    await suspend(databaseId);
    const answers = await Promise.all(clients.map((client) => client.query("SELECT 2")));
    expect(answers.map(rowsOf)).toEqual(Array(5).fill([["2"]]));
    expect((await statusOf(databaseId)).wakes).toBe(wakes + 1);
    for (const client of clients) client.destroy();
  });

  test("has its prepared statements again when it wakes", async () => {
    const { name, databaseId } = await newDatabase();
    await using client = await open(org, name);
    client.send(extended.parse("named", "SELECT $1::text"), extended.sync);
    await client.untilReady();
    const sql = postgres(platform.url(org, name), { max: 1, idle_timeout: 600 });
    const ask = (text: string) => sql`SELECT ${text} AS said`;
    await ask("before");
    await suspend(databaseId);
    client.send(extended.bind("", "named", "after"), extended.execute(""), extended.sync);
    expect(rowsOf(await client.untilReady())).toEqual([["after"]]);
    expect([...(await ask("after"))]).toEqual([{ said: "after" }]);
    await sql.end();
  });
});

describe("state is never lost silently", () => {
  test("a session that holds some is ended with an error when its compute is stopped", async () => {
    for (const making of ["CREATE TEMP TABLE held (a int)", "LISTEN held", "BEGIN"]) {
      const { name, databaseId } = await newDatabase();
      await using client = await open(org, name);
      await client.query(making);
      await suspend(databaseId);
      const [error] = await client.untilClosed();
      expect(error && errorText(error)).toMatch(/^(57P0\d|08006) /);
      await using next = await open(org, name);
      expect(rowsOf(await next.query("SELECT 1"))).toEqual([["1"]]);
    }
  }, 20_000);
});

describe("a compute that is killed", () => {
  test("is up again for the next query of those who held nothing", async () => {
    const { name } = await newDatabase();
    await using client = await open(org, name);
    await client.query("CREATE TABLE kept AS SELECT 42 AS answer");
    const [row] = rowsOf(await client.query("SELECT pg_backend_pid()"));
    const parent = await run(["ps", "-o", "ppid=", "-p", row?.[0] ?? ""]);
    process.kill(Number(parent.stdout), "SIGKILL");
    // What meets the crash itself may be told so; after that everything is as it was.
    const answer = await until("the recovery", async () => {
      await using next = await open(org, name).catch(() => null);
      const replies = await next?.query("SELECT answer FROM kept").catch(() => []);
      const rows = rowsOf(replies ?? []);
      return rows.length > 0 ? rows : null;
    });
    expect(answer).toEqual([["42"]]);
    if (!client.closed) expect(rowsOf(await client.query("SELECT 1"))).toEqual([["1"]]);
  }, 20_000);
});

test("compute time is metered while a database is awake, and not while it sleeps", async () => {
  const metered = await platform.createOrg("PRO");
  const databaseId = await platform.createDatabase(metered, "metered", "neon");
  const seconds = async (): Promise<number> => {
    await flushUsage(platform.sql, 10_000);
    const usage = await readUsage(platform.sql, metered.orgId, periodOf(Date.now()));
    return usage.quantities.computeSeconds;
  };
  await using client = await open(metered, "metered");
  await client.query("SELECT pg_sleep(0.3)");
  await suspend(databaseId);
  const awake = await seconds();
  expect(awake).toBeGreaterThanOrEqual(0.3);
  expect(await seconds()).toBe(awake);
});

describe("a FREE database that nobody queries for ten seconds", () => {
  test("goes to sleep under its client's open connection, which wakes it again", async () => {
    const { resting, restingId } = left;
    await until("its sleep", async () => (await statusOf(restingId)).state === "stopped", 25_000);
    expect(resting.closed).toBe(false);
    expect(rowsOf(await resting.query("SELECT 'awake'"))).toEqual([["awake"]]);
  }, 30_000);

  test("stays awake while a session listens on it, and delivers what it hears", async () => {
    const { listening, listeningId } = left;
    // It had its last query before the other one, which has been asleep since.
    const status = await statusOf(listeningId);
    expect(status.state).toBe("running");
    await using other = await open(frugal, "listening");
    await other.query("NOTIFY news, 'still here'");
    const { type, body } = await listening.message();
    expect(type).toBe("A");
    expect(body.subarray(4).toString()).toBe("news\0still here\0");
  });
});
