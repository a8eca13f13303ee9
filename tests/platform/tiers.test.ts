import { expect, test } from "bun:test";
import { limitsOf, parseTier, TIER_LIMITS, TIERS } from "../../platform/tiers.ts";

test("the tiers are the ones that are sold, with their limits", () => {
  const rows = TIERS.map((tier) => {
    const { connections, limitQps, databases, statementTimeoutMs } = TIER_LIMITS[tier];
    return [tier, connections, limitQps, databases, statementTimeoutMs];
  });
  expect(rows).toEqual([
    ["FREE", 5, 10, 3, 15_000],
    ["STARTER", 10, 50, 10, 60_000],
    ["PRO", 50, 200, 50, 300_000],
    ["ENTERPRISE", 200, 1_000, 500, 3_600_000],
  ]);
});

test("a larger tier never allows less", () => {
  for (const [index, tier] of TIERS.entries()) {
    const next = TIERS[index + 1];
    if (next === undefined) continue;
    const [small, large] = [TIER_LIMITS[tier], TIER_LIMITS[next]];
    for (const limit of [
      "connections",
      "limitQps",
      "databases",
      "statementTimeoutMs",
      "idleInTransactionTimeoutMs",
      "workMemBytes",
      "tempFileLimitBytes",
    ] as const) {
      expect(large[limit]).toBeGreaterThanOrEqual(small[limit]);
    }
    const unbounded = Number.POSITIVE_INFINITY;
    const [smallCost, largeCost] = [small.queryCostMax, large.queryCostMax];
    expect(largeCost ?? unbounded).toBeGreaterThanOrEqual(smallCost ?? unbounded);
  }
});

test("a contract changes what it names and nothing else", () => {
  expect(limitsOf("FREE", { limitQps: 99 })).toEqual({ ...TIER_LIMITS.FREE, limitQps: 99 });
  expect(limitsOf("PRO")).toEqual(TIER_LIMITS.PRO);
});

test.each(["free", "GOLD", "", "toString", "FREE "])("%j is no tier", (text) => {
  expect(parseTier(text)).toBeNull();
});
