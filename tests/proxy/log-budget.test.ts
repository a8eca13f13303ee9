/**
 * What tenants and strangers can make the proxy log is bounded, and nothing is left out in silence.
 */
import { expect, test } from "bun:test";
import { LogBudget } from "../../proxy/log-budget.ts";

function budget(totalPerSecond?: number): { take: LogBudget["take"]; pass(ms: number): void } {
  let now = 0;
  const total = totalPerSecond === undefined ? {} : { totalPerSecond };
  const lines = new LogBudget({ nowMs: () => now, burst: 3, perSecond: 1, ...total });
  return {
    take: (source) => lines.take(source),
    pass(ms) {
      now += ms;
    },
  };
}

test("a source has a burst and then its rate, and is told how many lines were left out", () => {
  const { take, pass } = budget();
  expect([1, 2, 3, 4, 5].map(() => take("a"))).toEqual([0, 0, 0, null, null]);
  pass(1_000);
  expect([take("a"), take("a")]).toEqual([2, null]);
  pass(60_000);
  expect([1, 2, 3, 4].map(() => take("a"))).toEqual([1, 0, 0, null]);
});

test("one source takes nothing from another", () => {
  const { take } = budget();
  for (let line = 0; line < 100; line++) take("loud");
  expect(take("quiet")).toBe(0);
});

test("sources that are made up have a limit together", () => {
  const { take, pass } = budget(5);
  const written = Array.from({ length: 50 }, (_, made) => take(`address ${made}`));
  expect(written.filter((line) => line !== null)).toHaveLength(5);
  pass(1_000);
  expect(take("address 60")).toBe(0);
});
