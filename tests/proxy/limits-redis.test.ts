/**
 * Two proxies, one of them of two workers, with one Redis: the limits mean what they mean with one,
 * whatever happens to any of the three or to Redis.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { setLimits } from "../../platform/control/orgs.ts";
import { TIER_LIMITS, type Tier } from "../../platform/tiers.ts";
import { MEMBER_LEASE_MS } from "../../proxy/limits/redis-authority.ts";
import { type Service, startService } from "../../scripts/bench/service.ts";
import { refusalOf } from "../support/outcome.ts";
import { startPlatform, type TestOrg, type TestPlatform } from "../support/platform.ts";
import { isInstalled } from "../support/programs.ts";
import { startRedis, type TestRedis } from "../support/redis-server.ts";
import { until } from "../support/until.ts";
import { errorText, rowsOf, WireClient } from "../support/wire.ts";

const ACTOR = { name: "tests", requestId: null };
/** A dead member's places return when its lease has run out; the rest is for a busy machine. */
const RETURN_DEADLINE_MS = MEMBER_LEASE_MS + 5_000;

let redis: TestRedis;
let platform: TestPlatform;
let second: Service;

const portOf = (proxy: Service): number => Number(proxy.started["postgresPort"]);

function startAnother(workers = 1): Promise<Service> {
  const environment = { ...platform.environment, O7S_WORKERS: String(workers) };
  return startService("proxy/main.ts", environment, "started");
}

async function orgWith(...settings: Parameters<TestPlatform["createOrg"]>): Promise<TestOrg> {
  const org = await platform.createOrg(...settings);
  await platform.createDatabase(org, "app");
  return org;
}

function open(org: TestOrg, proxy: Service): Promise<WireClient> {
  const login = { user: org.orgId, password: org.token, database: "app" };
  return WireClient.login({ port: portOf(proxy) }, login);
}

/** Tries so many connections at once through each proxy; those that got in. */
async function openMany(
  org: TestOrg,
  count: number,
  proxies: readonly Service[],
): Promise<WireClient[]> {
  const attempts = proxies.flatMap((proxy) =>
    Array.from({ length: count }, () => open(org, proxy)),
  );
  const outcomes = await Promise.allSettled(attempts);
  return outcomes.flatMap((outcome) => {
    if (outcome.status === "fulfilled") return [outcome.value];
    expect(String(outcome.reason)).toContain("53300");
    return [];
  });
}

function closeAll(clients: readonly WireClient[]): void {
  for (const client of clients) client.destroy();
}

/** Queries one after the other until `endsMs`; how many were answered. */
async function queryUntil(client: WireClient, endsMs: number): Promise<number> {
  let answered = 0;
  while (performance.now() < endsMs) {
    expect(rowsOf(await client.query("SELECT 1"))).toEqual([["1"]]);
    answered += 1;
  }
  return answered;
}

async function troubles(proxy: Service): Promise<string> {
  const response = await fetch(`http://127.0.0.1:${Number(proxy.started["httpPort"])}/healthz`);
  return JSON.stringify(await response.json());
}

describe.skipIf(!isInstalled("redis-server"))("two proxies with one Redis", () => {
  beforeAll(async () => {
    redis = await startRedis();
    platform = await startPlatform({ environment: { REDIS_URL: redis.url } });
    second = await startAnother(2);
  }, 60_000);

  afterAll(async () => {
    await second?.kill();
    await platform?.[Symbol.asyncDispose]();
    await redis?.[Symbol.asyncDispose]();
  }, 60_000);

  test("admit together exactly as many connections of each org as its tier allows", async () => {
    const tiers: Tier[] = [...Array(9).fill("FREE"), ...Array(3).fill("STARTER"), "PRO"];
    const orgs: TestOrg[] = [];
    for (const tier of tiers) orgs.push(await orgWith(tier));
    for (let round = 0; round < 2; round++) {
      const admitted = await Promise.all(
        orgs.map((org, n) => {
          const limit = TIER_LIMITS[tiers[n] ?? "FREE"].connections;
          return openMany(org, round === 0 ? limit : 4, [platform.proxy, second]);
        }),
      );
      const expected = tiers.map((tier) =>
        round === 0 ? TIER_LIMITS[tier].connections : Math.min(8, TIER_LIMITS[tier].connections),
      );
      expect(admitted.map(({ length }) => length)).toEqual(expected);
      closeAll(admitted.flat());
      await until("all places to be free", async () => {
        const keys = await redis.client.keys("o7s:places:*");
        return keys.length === 0;
      });
    }
  }, 60_000);

  test("let through as many queries as the limit says, and not fewer by more than their leases", async () => {
    const rates = [10, 10, 20, 50, 100];
    const orgs: TestOrg[] = [];
    for (const limitQps of rates) orgs.push(await orgWith("FREE", { limitQps }));
    const clients = await Promise.all(
      orgs.flatMap((org) => [platform.proxy, second].flatMap((p) => [open(org, p), open(org, p)])),
    );
    const startMs = performance.now();
    const counts = await Promise.all(clients.map((client) => queryUntil(client, startMs + 3_000)));
    const lengthS = (performance.now() - startMs) / 1_000;
    closeAll(clients);
    rates.forEach((limitQps, n) => {
      const answered = counts.slice(n * 4, n * 4 + 4).reduce((sum, count) => sum + count);
      // Leases of all three, the last queries of four clients, and a quarter of a second of a busy
      // machine's time.
      const short = 3 * Math.max(1, 0.05 * limitQps) + 4 + 0.25 * limitQps;
      expect(answered).toBeLessThanOrEqual(limitQps + limitQps * lengthS);
      expect(answered).toBeGreaterThanOrEqual(limitQps + limitQps * 3 - short);
    });
  }, 30_000);

  test("end what is too much, and no more, when a limit is lowered", async () => {
    const org = await orgWith("STARTER");
    const clients = await openMany(org, 5, [platform.proxy, second]);
    expect(clients.length).toBe(10);
    const ended: string[] = [];
    for (const client of clients) {
      client.untilClosed().then(
        (messages) => ended.push(...messages.map(errorText)),
        () => {},
      );
    }
    await setLimits(platform.sql, org.orgId, { connections: 3 }, ACTOR);
    await until("the end of seven", () => ended.length >= 7);
    const kept = clients.filter((client) => !client.closed);
    for (const client of kept) expect(rowsOf(await client.query("SELECT 1"))).toEqual([["1"]]);
    expect([kept.length, ended.length, new Set(ended).size]).toEqual([3, 7, 1]);
    expect(ended[0]).toStartWith("53300 too many connections: the STARTER tier allows 3 per org");
    const left = await redis.client.hvals(`o7s:places:${org.orgId}`);
    expect(left.reduce((sum, count) => sum + Number(count), 0)).toBe(3);
    closeAll(clients);
  });

  test("give a killed one's places to others once its lease has run out, and never one too many", async () => {
    const org = await orgWith("FREE");
    const doomed = await startAnother();
    const lost = await openMany(org, 3, [doomed]);
    const kept = await openMany(org, 5, [platform.proxy]);
    expect([lost.length, kept.length]).toEqual([3, 2]);
    await doomed.kill();
    closeAll(lost);
    expect(await openMany(org, 3, [second])).toEqual([]);
    const gained: WireClient[] = [];
    await until(
      "the three places",
      async () => {
        gained.push(...(await openMany(org, 1, [second, platform.proxy])));
        return gained.length >= 3;
      },
      RETURN_DEADLINE_MS,
    );
    expect(gained.length).toBe(3);
    expect(await openMany(org, 3, [second, platform.proxy])).toEqual([]);
    for (const client of kept) expect(rowsOf(await client.query("SELECT 1"))).toEqual([["1"]]);
    closeAll([...kept, ...gained]);
  }, 30_000);

  test("make one that was stalled beyond its lease end what others have been given meanwhile", async () => {
    const org = await orgWith("FREE");
    const stalled = await startAnother();
    const before = await openMany(org, 4, [stalled]);
    expect(before.length).toBe(4);
    process.kill(stalled.pid, "SIGSTOP");
    const taken: WireClient[] = [];
    await until(
      "two of its places",
      async () => {
        taken.push(...(await openMany(org, 3 - taken.length, [second])));
        return taken.length === 3;
      },
      RETURN_DEADLINE_MS,
    );
    let ended = 0;
    for (const client of before) {
      client.untilClosed().then(
        () => {
          ended += 1;
        },
        () => {},
      );
    }
    process.kill(stalled.pid, "SIGCONT");
    await until("the end of two", () => ended === 2);
    expect(await openMany(org, 2, [second, stalled])).toEqual([]);
    closeAll([...before, ...taken]);
    await stalled.stop();
  }, 30_000);

  test("keep to their shares while Redis is away, say so, and come back by themselves", async () => {
    const org = await orgWith("STARTER");
    const idle = await open(org, platform.proxy);
    const proxies = [platform.proxy, second];
    const restored = proxies.map((proxy) => proxy.lines().length);
    await redis.kill();
    for (const proxy of proxies) {
      await until("the trouble to be told", async () =>
        (await troubles(proxy)).includes("Redis does not answer"),
      );
    }
    // Ten connections over the members there were, at most so many of them alive.
    const admitted = await openMany(org, 10, proxies);
    expect(admitted.length).toBeGreaterThanOrEqual(2);
    expect(admitted.length).toBeLessThanOrEqual(9);
    const startMs = performance.now();
    const counts = await Promise.all(admitted.map((client) => queryUntil(client, startMs + 1_000)));
    const answered = counts.reduce((sum, count) => sum + count);
    expect(answered).toBeGreaterThan(0);
    // No burst is left to a share: nobody knows what was used up before.
    expect(answered).toBeLessThanOrEqual(2 * 50 + admitted.length);
    await redis.restart();
    for (const proxy of proxies) {
      await until("the return", async () => (await troubles(proxy)).endsWith('"troubles":[]}'));
    }
    proxies.forEach((proxy, n) => {
      const lines = proxy.lines().slice(restored[n]);
      // Once for each that counts: the first proxy is one, the second's workers are two.
      expect(lines.filter((line) => line.includes("limits_degraded")).length).toBe(n + 1);
      expect(lines.filter((line) => line.includes("limits_restored")).length).toBe(n + 1);
    });
    expect(rowsOf(await idle.query("SELECT 1"))).toEqual([["1"]]);
    closeAll([idle, ...admitted]);
    await until("all places to be free", async () => (await openFull(org)) === 10);
  }, 30_000);

  test("go on when Redis hangs instead of failing", async () => {
    const org = await orgWith("PRO");
    await using client = await open(org, platform.proxy);
    await client.query("SELECT 1");
    redis.freeze();
    try {
      const startMs = performance.now();
      await queryUntil(client, startMs + 2_000);
      expect(await troubles(platform.proxy)).toContain("Redis does not answer");
      (await open(org, platform.proxy)).destroy();
    } finally {
      redis.resume();
    }
    await until("the return", async () =>
      (await troubles(platform.proxy)).endsWith('"troubles":[]}'),
    );
  });

  async function openFull(org: TestOrg): Promise<number> {
    const clients = await openMany(org, 10, [platform.proxy, second]);
    closeAll(clients);
    return clients.length;
  }
});

test("a proxy whose Redis does not answer does not start, and says what to do", async () => {
  const environment = {
    DATABASE_URL: "postgres://nobody@127.0.0.1:1/none",
    SHARED_POSTGRES_URLS: "main=postgres://nobody@127.0.0.1:1/none",
    OGEL_MASTER_KEY: "00".repeat(32),
    O7S_DATA_DIR: process.env["TMPDIR"] ?? "/tmp",
    REDIS_URL: "redis://secret:secret@127.0.0.1:1",
  };
  const { message } = await refusalOf(startService("proxy/main.ts", environment, "started"));
  expect(message).toContain("Redis at 127.0.0.1:1 (REDIS_URL) does not answer");
  expect(message).not.toContain("secret");
});
