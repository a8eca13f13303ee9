/** The same books in memory and in Redis: each case runs against both. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { newOrgId, type OrgId } from "../../../platform/ids.ts";
import { silentLog } from "../../../platform/log.ts";
import type { LimitAuthority, PlaceClaim, TurnAsk } from "../../../proxy/limits/authority.ts";
import { LimitLedger } from "../../../proxy/limits/ledger.ts";
import { RedisAuthority } from "../../../proxy/limits/redis-authority.ts";
import { isInstalled } from "../../support/programs.ts";
import { startRedis, type TestRedis } from "../../support/redis-server.ts";
import { until } from "../../support/until.ts";

const nowMs = (): number => performance.now();

let redis: TestRedis;
const opened: RedisAuthority[] = [];

beforeAll(async () => {
  if (isInstalled("redis-server")) redis = await startRedis();
});

afterAll(async () => {
  await Promise.all(opened.map((authority) => authority.close()));
  await redis?.[Symbol.asyncDispose]();
});

async function membersInRedis(count: number): Promise<LimitAuthority[]> {
  const members = await Promise.all(
    Array.from({ length: count }, () =>
      RedisAuthority.open({ url: redis.url, log: silentLog, nowMs }),
    ),
  );
  opened.push(...members);
  return members;
}

function membersInMemory(count: number): Promise<LimitAuthority[]> {
  const ledger = new LimitLedger(nowMs, { spentBefore: false });
  return Promise.resolve(
    Array.from({ length: count }, (_, n) => ({
      turns: (orgId: OrgId, ask: TurnAsk) => Promise.resolve(ledger.turns(`${n}`, orgId, ask)),
      places: (orgId: OrgId, claim: PlaceClaim) =>
        Promise.resolve(ledger.places(`${n}`, orgId, claim)),
    })),
  );
}

const nothing = { leased: 0, spent: 0, kept: 0, least: 0, most: 0 };
const held = (count: number, wanted: number, limit = 5): PlaceClaim => ({
  held: count,
  wanted,
  limit,
  mayShrink: false,
});

/** The two members of a case, typed so that none is missing. */
async function pair(
  members: (count: number) => Promise<LimitAuthority[]>,
): Promise<readonly [LimitAuthority, LimitAuthority]> {
  const [one, other] = await members(2);
  if (one === undefined || other === undefined) throw new Error("no members");
  return [one, other];
}

const IMPLEMENTATIONS = [
  { name: "in memory", members: membersInMemory, runs: true },
  { name: "in Redis", members: membersInRedis, runs: isInstalled("redis-server") },
];

for (const { name, members, runs } of IMPLEMENTATIONS) {
  describe.skipIf(!runs)(`turns ${name}`, () => {
    test("are a second's worth at once over all members, and none beyond", async () => {
      const [one, other] = await pair(members);
      const orgId = newOrgId();
      const ask: TurnAsk = { ...nothing, limitQps: 1, least: 1, most: 1 };
      expect(await one.turns(orgId, ask)).toMatchObject({ granted: 1, others: 0 });
      const refused = await other.turns(orgId, ask);
      expect(refused).toMatchObject({ granted: 0, others: 1 });
      expect(refused.waitMs).toBeGreaterThan(0);
    });

    test("that a member gives back unspent are there for another at once", async () => {
      const [one, other] = await pair(members);
      const orgId = newOrgId();
      const limitQps = 10;
      expect(await one.turns(orgId, { ...nothing, limitQps, least: 10, most: 10 })).toMatchObject({
        granted: 10,
      });
      const all: TurnAsk = { ...nothing, limitQps, least: 8, most: 10 };
      expect(await other.turns(orgId, all)).toMatchObject({ granted: 0 });
      const account = await one.turns(orgId, { ...nothing, limitQps, leased: 10, spent: 2 });
      expect(account).toMatchObject({ keptHeld: true, granted: 0 });
      expect((await other.turns(orgId, all)).granted).toBeGreaterThanOrEqual(8);
    });

    test("that are kept stay reserved, and those spent are charged", async () => {
      const [one, other] = await pair(members);
      const orgId = newOrgId();
      const limitQps = 10;
      await one.turns(orgId, { ...nothing, limitQps, least: 6, most: 6 });
      const kept = { ...nothing, limitQps, leased: 6, spent: 4, kept: 2, least: 3, most: 3 };
      expect(await one.turns(orgId, kept)).toMatchObject({ keptHeld: true, granted: 3 });
      // Four are spent and five reserved: of the ten there is one, and what has been worked off
      // since.
      const rest = await other.turns(orgId, { ...nothing, limitQps, least: 1, most: 10 });
      expect(rest.granted).toBeLessThanOrEqual(2);
    });

    test("leased to a member that is never heard of again are charged when its lease runs out", async () => {
      const [one, other] = await pair(members);
      const orgId = newOrgId();
      const limitQps = 1;
      const ask: TurnAsk = { ...nothing, limitQps, least: 1, most: 1 };
      await one.turns(orgId, ask);
      const asked = nowMs();
      // The lease runs for a second; then its turn counts as spent at its end, and takes another to
      // be worked off.
      await until("a turn", async () => (await other.turns(orgId, ask)).granted === 1, 4_000);
      expect(nowMs() - asked).toBeGreaterThanOrEqual(1_900);
    });

    test("spent beyond the lease are a debt, also when the lease has run out", async () => {
      const [one] = await pair(members);
      const orgId = newOrgId();
      const limitQps = 10;
      await one.turns(orgId, { ...nothing, limitQps, spent: 25 });
      const { waitMs } = await one.turns(orgId, { ...nothing, limitQps, least: 1, most: 1 });
      expect(waitMs).toBeGreaterThan(1_000);
      expect(waitMs).toBeLessThanOrEqual(1_600);
    });

    test("spent before a change of the rate stay spent", async () => {
      const [one, other] = await pair(members);
      const orgId = newOrgId();
      await one.turns(orgId, { ...nothing, limitQps: 10, least: 10, most: 10 });
      await one.turns(orgId, { ...nothing, limitQps: 10, leased: 10, spent: 10 });
      const raised = { ...nothing, limitQps: 20, least: 1, most: 20 };
      const { granted } = await other.turns(orgId, raised);
      expect(granted).toBeGreaterThanOrEqual(10);
      expect(granted).toBeLessThanOrEqual(12);
    });
  });

  describe.skipIf(!runs)(`places ${name}`, () => {
    test("are granted up to the limit over all members, and free when given back", async () => {
      const [one, other] = await pair(members);
      const orgId = newOrgId();
      expect(await one.places(orgId, held(0, 3))).toBe(3);
      expect(await other.places(orgId, held(0, 4))).toBe(2);
      expect(await one.places(orgId, held(3, 1))).toBe(0);
      expect(await other.places(orgId, held(1, 0))).toBe(0);
      expect(await one.places(orgId, held(3, 2))).toBe(1);
    });

    test("are taken away only where that is allowed, and only as many as are too many", async () => {
      const [one, other] = await pair(members);
      const orgId = newOrgId();
      await one.places(orgId, held(0, 3));
      await other.places(orgId, held(0, 2));
      expect(await one.places(orgId, held(3, 1, 1))).toBe(0);
      expect(await one.places(orgId, { ...held(3, 1, 1), mayShrink: true })).toBe(-3);
      expect(await other.places(orgId, { ...held(2, 0, 1), mayShrink: true })).toBe(-1);
      expect(await other.places(orgId, { ...held(1, 0, 1), mayShrink: true })).toBe(0);
    });

    test("stay exact when many ask at once", async () => {
      const all = await members(3);
      const orgId = newOrgId();
      const grants = await Promise.all(all.map((member) => member.places(orgId, held(0, 30, 50))));
      expect(grants.reduce((sum, grant) => sum + grant)).toBe(50);
    });
  });
}
