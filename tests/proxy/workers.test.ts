/** Several workers on one port: to clients they are one proxy. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { connect } from "node:net";
import path from "node:path";
import { flushUsage } from "../../platform/usage/flush.ts";
import { periodOf, readUsage } from "../../platform/usage/report.ts";
import { message } from "../../proxy/protocols/postgres/messages.ts";
import { type Service, startService } from "../../scripts/bench/service.ts";
import { refusalOf } from "../support/outcome.ts";
import { startPlatform, type TestOrg, type TestPlatform } from "../support/platform.ts";
import { until, within } from "../support/until.ts";
import { errorText, rowsOf, WireClient } from "../support/wire.ts";

const WORKERS = 3;

let platform: TestPlatform;

beforeAll(async () => {
  platform = await startPlatform({ environment: { O7S_WORKERS: String(WORKERS) } });
}, 60_000);

afterAll(async () => {
  await platform?.[Symbol.asyncDispose]();
}, 60_000);

async function orgWith(...settings: Parameters<TestPlatform["createOrg"]>): Promise<TestOrg> {
  const org = await platform.createOrg(...settings);
  await platform.createDatabase(org, "app");
  return org;
}

function open(org: TestOrg): Promise<WireClient> {
  const login = { user: org.orgId, password: org.token, database: "app" };
  return WireClient.login({ port: platform.postgresPort }, login);
}

async function openMany(org: TestOrg, count: number): Promise<WireClient[]> {
  const outcomes = await Promise.allSettled(Array.from({ length: count }, () => open(org)));
  return outcomes.flatMap((outcome) => {
    if (outcome.status === "fulfilled") return [outcome.value];
    expect(String(outcome.reason)).toContain("53300");
    return [];
  });
}

function closeAll(clients: readonly WireClient[]): void {
  for (const client of clients) client.destroy();
}

async function metrics(): Promise<string> {
  return await (await fetch(`http://127.0.0.1:${platform.httpPort}/metrics`)).text();
}

/** A metric's value for each worker, by number. */
async function byWorker(name: string): Promise<number[]> {
  const samples = (await metrics()).matchAll(
    new RegExp(`^${name}\\{worker="\\d+"\\} (\\S+)$`, "gm"),
  );
  return [...samples].map(([, value]) => Number(value));
}

/** Each worker says for itself that it has started, maybe after the primary has said so. */
async function workerPids(proxy: Service): Promise<number[]> {
  const lines = await until("the workers", () => {
    const started = proxy.lines().filter((line) => line.includes('"worker_started"'));
    return started.length >= WORKERS ? started : null;
  });
  return lines.map((line) => (JSON.parse(line) as { pid: number }).pid);
}

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** A cancel request, on a connection of its own as the protocol has it. */
function cancelRequest(keyData: Buffer): Promise<void> {
  const request = Buffer.alloc(8);
  request.writeUInt32BE(8 + keyData.length, 0);
  request.writeUInt32BE(80_877_102, 4);
  return new Promise((resolve, reject) => {
    const socket = connect({ port: platform.postgresPort, host: "127.0.0.1" }, () => {
      socket.write(Buffer.concat([request, keyData]));
    });
    socket.on("error", reject);
    socket.on("close", () => resolve());
    socket.resume();
  });
}

test("connections are spread over all workers, and each is told apart in the metrics", async () => {
  const org = await orgWith("PRO");
  const clients = await openMany(org, 50);
  const sessions = await byWorker("o7s_sessions");
  expect(sessions.length).toBe(WORKERS);
  expect(Math.min(...sessions)).toBeGreaterThan(0);
  expect(sessions.reduce((sum, count) => sum + count)).toBe(50);
  const text = await metrics();
  expect(text.match(/^# TYPE o7s_sessions gauge$/gm)?.length).toBe(1);
  closeAll(clients);
});

test("an org has exactly its tier's connections over all workers", async () => {
  const orgs: TestOrg[] = [];
  for (let n = 0; n < 12; n++) orgs.push(await orgWith("FREE"));
  const admitted = await Promise.all(orgs.map((org) => openMany(org, 12)));
  expect(admitted.map(({ length }) => length)).toEqual(Array(12).fill(5));
  closeAll(admitted.flat());
});

test("an org has its tier's rate over all workers, and no more", async () => {
  const limitQps = 40;
  const org = await orgWith("FREE", { limitQps, connections: 12 });
  const clients = await openMany(org, 12);
  const startMs = performance.now();
  let answered = 0;
  await Promise.all(
    clients.map(async (client) => {
      while (performance.now() - startMs < 2_000) {
        // One who would wait too long in a crowded worker is refused, and does not count.
        if (rowsOf(await client.query("SELECT 1")).length === 1) answered += 1;
      }
    }),
  );
  const lengthS = (performance.now() - startMs) / 1_000;
  closeAll(clients);
  expect(answered).toBeLessThanOrEqual(limitQps + limitQps * lengthS);
  // Leases of three workers, the last queries of twelve clients, and a quarter of a second of a
  // busy machine's time.
  expect(answered).toBeGreaterThanOrEqual(limitQps * 3 - 6 - 12 - 10);
});

test("a cancel request finds its query in whichever worker it runs, and reaches nobody else's", async () => {
  const org = await orgWith("PRO", { limitQps: 1_000 });
  const login = { user: org.orgId, password: org.token, database: "app" };
  const clients = await Promise.all(
    Array.from({ length: 12 }, async () => {
      const client = await WireClient.connect({ port: platform.postgresPort });
      const messages = await client.logIn(login);
      const key = messages.find(({ type }) => type === "K")?.body;
      if (key === undefined) throw new Error("no cancel key");
      return { client, key };
    }),
  );
  for (const { client } of clients) client.send(message("Q", "SELECT pg_sleep(600)"));
  const wrong = Buffer.from(clients[11]?.key ?? []);
  wrong.writeUInt8(wrong.readUInt8(7) ^ 1, 7);
  await cancelRequest(wrong);
  for (const { client, key } of clients.slice(0, 11)) {
    await until("the cancellation", async () => {
      await cancelRequest(key);
      return client.pendingBytes > 0;
    });
    const [error] = (await client.untilReady()).filter(({ type }) => type === "E");
    expect(error && errorText(error)).toStartWith("57014");
  }
  expect(clients[11]?.client.pendingBytes).toBe(0);
  closeAll(clients.map(({ client }) => client));
});

test("a killed worker takes no other down, is started again, and loses neither places nor usage", async () => {
  const org = await orgWith("ENTERPRISE", { connections: 12, limitQps: 100_000 });
  const clients = await openMany(org, 12);
  for (const client of clients) {
    for (let n = 0; n < 10; n++) expect(rowsOf(await client.query("SELECT 1"))).toEqual([["1"]]);
  }
  const [doomed] = await workerPids(platform.proxy);
  if (doomed === undefined) throw new Error("no worker");
  process.kill(doomed, "SIGKILL");
  await until("its sessions' end", () => clients.some((client) => client.closed));
  await until("its successor", async () => (await byWorker("o7s_sessions")).length === WORKERS);
  const kept = clients.filter((client) => !client.closed);
  expect(kept.length).toBeGreaterThan(0);
  for (const client of kept) expect(rowsOf(await client.query("SELECT 1"))).toEqual([["1"]]);
  const gained = await openMany(org, 12);
  expect(kept.length + gained.length).toBe(12);
  closeAll([...kept, ...gained]);
  expect(platform.proxy.lines().filter((line) => line.includes('"worker_ended"')).length).toBe(1);

  const directory = path.join(platform.environment["O7S_DATA_DIR"] ?? "", "usage");
  await until("the inheritance", () => readdirSync(directory).length === WORKERS);
  expect(await flushUsage(platform.sql, 10_000)).toEqual({ complete: true });
  const { quantities } = await readUsage(platform.sql, org.orgId, periodOf(Date.now()));
  expect(quantities.queries).toBe(120 + kept.length);
});

test("ports that are taken are a clear error, though workers could share them", async () => {
  const environment = {
    ...platform.environment,
    O7S_POSTGRES_PORT: String(platform.postgresPort),
    O7S_HTTP_PORT: String(platform.httpPort),
  };
  const { message: text } = await refusalOf(startService("proxy/main.ts", environment, "started"));
  expect(text).toContain(`port ${platform.postgresPort} (O7S_POSTGRES_PORT)`);
  expect(text).toContain("is taken");
});

test("health is that of all workers", async () => {
  const health = await fetch(`http://127.0.0.1:${platform.httpPort}/healthz`);
  expect(await health.json()).toEqual({ ok: true, draining: false, troubles: [] });
});

test("SIGTERM ends all workers, and so does the end of their primary", async () => {
  for (const end of ["stop", "kill"] as const) {
    const another = await startService("proxy/main.ts", platform.environment, "started");
    const pids = await workerPids(another);
    await another[end]();
    await within(
      "the workers' end",
      until("no worker", () => !pids.some(alive)),
    );
  }
});
