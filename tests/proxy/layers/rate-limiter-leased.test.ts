/**
 * Layer 4 over several members: what all of them admit together, on books in memory and in Redis.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { newOrgId, type OrgId } from "../../../platform/ids.ts";
import { silentLog } from "../../../platform/log.ts";
import type { OrgLimiter, RateLimiter } from "../../../proxy/layers/rate-limiter.ts";
import { createLeasedRateLimiter } from "../../../proxy/layers/rate-limiter-leased.ts";
import { LimitLedger } from "../../../proxy/limits/ledger.ts";
import { RedisAuthority } from "../../../proxy/limits/redis-authority.ts";
import { isInstalled } from "../../support/programs.ts";
import { startRedis, type TestRedis } from "../../support/redis-server.ts";
import { until } from "../../support/until.ts";

const nowMs = (): number => performance.now();
const clock = {
  nowMs,
  schedule(delayMs: number, call: () => void): () => void {
    const timer = setTimeout(call, delayMs);
    return () => clearTimeout(timer);
  },
};

let redis: TestRedis;
const opened: RedisAuthority[] = [];

beforeAll(async () => {
  if (isInstalled("redis-server")) redis = await startRedis();
});

afterAll(async () => {
  await Promise.all(opened.map((authority) => authority.close()));
  await redis?.[Symbol.asyncDispose]();
});

async function limitersInRedis(count: number): Promise<RateLimiter[]> {
  const authorities = await Promise.all(
    Array.from({ length: count }, () =>
      RedisAuthority.open({ url: redis.url, log: silentLog, nowMs }),
    ),
  );
  opened.push(...authorities);
  return authorities.map((authority) => createLeasedRateLimiter({ authority, clock }));
}

function limitersInMemory(count: number): Promise<RateLimiter[]> {
  const ledger = new LimitLedger(nowMs, { spentBefore: false });
  return Promise.resolve(
    Array.from({ length: count }, (_, n) =>
      createLeasedRateLimiter({
        authority: {
          turns: (orgId, ask) => Promise.resolve(ledger.turns(`${n}`, orgId, ask)),
          places: (orgId, claim) => Promise.resolve(ledger.places(`${n}`, orgId, claim)),
        },
        clock,
      }),
    ),
  );
}

/**
 * A client that sends its next request as soon as the last has been admitted, until it is told to
 * stop.
 */
function saturate(limiter: OrgLimiter, admittedAtMs: number[]): { stop(): void } {
  let stopped = false;
  const waiter = {
    admitted(): void {
      admittedAtMs.push(nowMs());
      setImmediate(next);
    },
  };
  const next = (): void => {
    if (stopped) return;
    if (limiter.take(1, nowMs()) === 0) waiter.admitted();
    else limiter.wait(waiter, 1);
  };
  next();
  return {
    stop() {
      stopped = true;
      limiter.leave(waiter);
    },
  };
}

/**
 * By how many requests the fullest window holds more than burst + rate·t, over every window there
 * is.
 */
function excess(admittedAtMs: readonly number[], limitQps: number): number {
  const sorted = [...admittedAtMs].sort((a, b) => a - b);
  let worst = Number.NEGATIVE_INFINITY;
  // With x(i) = i − rate·t(i), a window from i to j exceeds by 1 + x(j) − x(i) − burst.
  let least = Number.POSITIVE_INFINITY;
  sorted.forEach((atMs, index) => {
    const x = index - (limitQps * atMs) / 1_000;
    least = Math.min(least, x);
    worst = Math.max(worst, 1 + x - least - limitQps);
  });
  return worst;
}

const IMPLEMENTATIONS = [
  { name: "in memory", limiters: limitersInMemory, runs: true },
  { name: "in Redis", limiters: limitersInRedis, runs: isInstalled("redis-server") },
];

for (const { name, limiters, runs } of IMPLEMENTATIONS) {
  describe.skipIf(!runs)(`three members with leases ${name}`, () => {
    test("admit together, in every window, neither more than the limit nor less by more than their leases", async () => {
      const members = await limiters(3);
      const rates = [10, 10, 50, 50, 200, 200, 1_000];
      const orgs = rates.map((limitQps) => ({
        orgId: newOrgId(),
        limitQps,
        admittedAtMs: [] as number[],
      }));
      const startMs = nowMs();
      const clients = orgs.flatMap(({ orgId, limitQps, admittedAtMs }) =>
        members.flatMap((member) =>
          [1, 2].map(() => saturate(member.acquire(orgId, limitQps), admittedAtMs)),
        ),
      );
      // Long enough for several times the burst: the guarantee is about windows of time.
      await until("three seconds", () => nowMs() - startMs >= 3_000);
      for (const client of clients) client.stop();
      const lengthS = (nowMs() - startMs) / 1_000;
      for (const { limitQps, admittedAtMs } of orgs) {
        expect(excess(admittedAtMs, limitQps)).toBeLessThanOrEqual(0.01);
        const leases = 3 * Math.max(1, 0.05 * limitQps);
        // What a loaded machine adds to the round trips of the last lease is not the limiter's.
        const delayed = 0.1 * limitQps + 1;
        const due = limitQps + limitQps * lengthS - leases - delayed;
        expect(admittedAtMs.length).toBeGreaterThanOrEqual(due);
      }
      for (const { orgId } of orgs) for (const member of members) member.release(orgId);
    });

    test("let one alone have the whole rate", async () => {
      const [member] = await limiters(3);
      if (member === undefined) throw new Error("no member");
      const limiter = member.acquire(newOrgId(), 200);
      const admittedAtMs: number[] = [];
      const client = saturate(limiter, admittedAtMs);
      await until("the burst and half a second", () => admittedAtMs.length >= 300);
      client.stop();
      expect(excess(admittedAtMs, 200)).toBeLessThanOrEqual(0.01);
    });

    test("serve an org that sends now and then at once, and hold nothing of it afterwards", async () => {
      const [member, other] = await limiters(2);
      if (member === undefined || other === undefined) throw new Error("no members");
      const orgId: OrgId = newOrgId();
      const limiter = member.acquire(orgId, 10);
      const order: string[] = [];
      for (const word of ["first", "second", "third"]) {
        const waiter = { admitted: () => order.push(word) };
        if (limiter.take(1, nowMs()) === 0) waiter.admitted();
        else limiter.wait(waiter, 1);
      }
      await until("all three", () => order.length === 3);
      expect(order).toEqual(["first", "second", "third"]);
      // The other member gets all the rest, the first one's lease given back.
      const admittedAtMs: number[] = [];
      const client = saturate(other.acquire(orgId, 10), admittedAtMs);
      await until("the rest of the burst", () => admittedAtMs.length >= 7);
      client.stop();
    });
  });
}
