import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { newOrgId } from "../../../platform/ids.ts";
import {
  createLocalRateLimiter,
  LocalOrgLimiter,
  type Waiter,
} from "../../../proxy/layers/rate-limiter.ts";
import { ManualClock } from "../../support/manual-clock.ts";
import { seed } from "../../support/seed.ts";

/** Notes when it is admitted. */
class Recorder implements Waiter {
  readonly admittedAtMs: number[];
  readonly #clock: ManualClock;

  constructor(clock: ManualClock, admittedAtMs: number[] = []) {
    this.#clock = clock;
    this.admittedAtMs = admittedAtMs;
  }

  admitted(): void {
    this.admittedAtMs.push(this.#clock.nowMs());
  }
}

/** Sends a request as a session does: it runs at once, or waits for its turn. */
function request(limiter: LocalOrgLimiter, clock: ManualClock, waiter: Waiter, weight = 1): void {
  if (limiter.take(weight, clock.nowMs()) === 0) waiter.admitted();
  else limiter.wait(waiter, weight);
}

describe("an org within its rate", () => {
  test("is admitted at once, a second's worth in one burst", () => {
    const clock = new ManualClock();
    const limiter = new LocalOrgLimiter(10, clock);
    const waits = Array.from({ length: 11 }, () => limiter.take(1, clock.nowMs()));
    expect(waits.slice(0, 10)).toEqual(Array(10).fill(0));
    expect(waits[10]).toBeCloseTo(100);
    clock.advance(100);
    expect(limiter.take(1, clock.nowMs())).toBe(0);
  });

  test("has its whole burst again after a second, and no more after an hour", () => {
    const clock = new ManualClock();
    const limiter = new LocalOrgLimiter(10, clock);
    for (const pauseMs of [0, 1_000, 3_600_000]) {
      clock.advance(pauseMs);
      const admitted = Array.from({ length: 20 }, () => limiter.take(1, clock.nowMs()));
      expect(admitted.filter((waitMs) => waitMs === 0).length).toBe(10);
    }
  });
});

describe("an org over its rate", () => {
  test("is served in its order, one every tenth of a second", () => {
    const clock = new ManualClock();
    const limiter = new LocalOrgLimiter(10, clock);
    const recorders = Array.from({ length: 15 }, () => new Recorder(clock));
    const startMs = clock.nowMs();
    for (const recorder of recorders) request(limiter, clock, recorder);
    expect(limiter.waiting).toBe(5);
    clock.advance(10_000);
    const delays = recorders.map(({ admittedAtMs }) => (admittedAtMs[0] ?? -1) - startMs);
    expect(delays).toEqual([...Array(10).fill(0), 100, 200, 300, 400, 500]);
    expect(limiter.waiting).toBe(0);
    expect(clock.scheduled).toBe(0);
  });

  test("is told a wait that counts those who wait already", () => {
    const clock = new ManualClock();
    const limiter = new LocalOrgLimiter(10, clock);
    for (let n = 0; n < 13; n++) request(limiter, clock, new Recorder(clock));
    expect(limiter.take(1, clock.nowMs())).toBeCloseTo(400);
    expect(limiter.take(5, clock.nowMs())).toBeCloseTo(800);
  });

  test("cannot overtake those who wait, however little it asks for", () => {
    const clock = new ManualClock();
    const limiter = new LocalOrgLimiter(10, clock);
    for (let n = 0; n < 10; n++) request(limiter, clock, new Recorder(clock));
    const [heavy, light] = [new Recorder(clock), new Recorder(clock)];
    request(limiter, clock, heavy, 5);
    clock.advance(50);
    request(limiter, clock, light, 0.05);
    clock.advance(5_000);
    expect(heavy.admittedAtMs[0]).toBeLessThanOrEqual(light.admittedAtMs[0] ?? 0);
  });

  test("pays what is found out late before it goes on", () => {
    const clock = new ManualClock();
    const limiter = new LocalOrgLimiter(10, clock);
    expect(limiter.take(1, clock.nowMs())).toBe(0);
    limiter.charge(24, clock.nowMs());
    expect(limiter.owedMs(clock.nowMs())).toBe(2_500);
    expect(limiter.take(1, clock.nowMs())).toBeCloseTo(1_600);
  });

  test("holds no turn for somebody who has left", () => {
    const clock = new ManualClock();
    const limiter = new LocalOrgLimiter(10, clock);
    for (let n = 0; n < 10; n++) request(limiter, clock, new Recorder(clock));
    const startMs = clock.nowMs();
    const [first, second, third] = [1, 2, 3].map(() => new Recorder(clock)) as [
      Recorder,
      Recorder,
      Recorder,
    ];
    for (const waiter of [first, second, third]) request(limiter, clock, waiter);
    limiter.leave(first);
    limiter.leave(second);
    limiter.leave(second);
    expect(limiter.waiting).toBe(1);
    clock.advance(1_000);
    expect(first.admittedAtMs).toEqual([]);
    expect(third.admittedAtMs).toEqual([startMs + 100]);
  });
});

describe("a change of rate", () => {
  test("keeps what has been used: changing to and fro is no fresh allowance", () => {
    const clock = new ManualClock();
    const limiter = new LocalOrgLimiter(10, clock);
    const admitted = (): number => {
      let count = 0;
      while (limiter.take(1, clock.nowMs()) === 0) count += 1;
      return count;
    };
    expect(admitted()).toBe(10);
    limiter.setRate(50);
    expect(admitted()).toBe(40);
    limiter.setRate(10);
    expect(admitted()).toBe(0);
    limiter.setRate(50);
    expect(admitted()).toBe(0);
  });

  test("reaches those who wait", () => {
    const clock = new ManualClock();
    const limiter = new LocalOrgLimiter(1, clock);
    const recorders = Array.from({ length: 11 }, () => new Recorder(clock));
    for (const recorder of recorders) request(limiter, clock, recorder);
    const startMs = clock.nowMs();
    limiter.setRate(5);
    clock.advance(5_000);
    const delays = recorders.map(({ admittedAtMs }) => (admittedAtMs[0] ?? -1) - startMs);
    expect(delays).toEqual([0, 0, 0, 0, 0, 200, 400, 600, 800, 1_000, 1_200]);
  });
});

type Step =
  | { readonly step: "pass"; readonly ms: number }
  | { readonly step: "ask"; readonly count: number; readonly weight: number };

const steps = fc.array(
  fc.oneof(
    fc.record({ step: fc.constant("pass" as const), ms: fc.integer({ min: 0, max: 1_500 }) }),
    fc.record({
      step: fc.constant("ask" as const),
      count: fc.integer({ min: 1, max: 30 }),
      weight: fc.constantFrom(1, 0.05, 3),
    }),
  ),
  { maxLength: 40 },
);

/** Runs the steps and returns what was admitted when, and in which order it was asked for. */
function simulate(limitQps: number, plan: readonly Step[]) {
  const clock = new ManualClock();
  const limiter = new LocalOrgLimiter(limitQps, clock);
  const admitted: { atMs: number; weight: number; number: number }[] = [];
  let asked = 0;
  for (const step of plan) {
    if (step.step === "pass") clock.advance(step.ms);
    else {
      for (let n = 0; n < step.count; n++) {
        const number = asked++;
        const { weight } = step;
        const waiter = { admitted: () => admitted.push({ atMs: clock.nowMs(), weight, number }) };
        request(limiter, clock, waiter, weight);
      }
    }
  }
  clock.advance(10_000_000);
  return { admitted, asked, scheduled: clock.scheduled };
}

test("in any window of t seconds at most burst + rate·t are admitted; all are, and in their order", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 200 }), steps, (limitQps, plan) => {
      // A request heavier than the burst could never be admitted; no protocol has one.
      fc.pre(limitQps >= 3);
      const { admitted, asked, scheduled } = simulate(limitQps, plan);
      expect(admitted.length).toBe(asked);
      expect(admitted.map(({ number }) => number)).toEqual(
        Array.from({ length: asked }, (_, n) => n),
      );
      expect(scheduled).toBe(0);
      for (let from = 0; from < admitted.length; from++) {
        let weight = 0;
        for (let to = from; to < admitted.length; to++) {
          const [first, last] = [admitted[from], admitted[to]];
          if (first === undefined || last === undefined) continue;
          weight += last.weight;
          const seconds = (last.atMs - first.atMs) / 1_000;
          if (weight > limitQps + limitQps * seconds + 0.01) {
            throw new Error(`${weight} in ${seconds} s at ${limitQps} per second`);
          }
        }
      }
    }),
    { seed, numRuns: 100 },
  );
});

describe("the limiters of all orgs", () => {
  test("are one per org, shared by its sessions", () => {
    const clock = new ManualClock();
    const limiters = createLocalRateLimiter(clock);
    const [org, other] = [newOrgId(), newOrgId()];
    const limiter = limiters.acquire(org, 10);
    expect(limiters.acquire(org, 10)).toBe(limiter);
    expect(limiters.acquire(other, 10)).not.toBe(limiter);
  });

  test("are not made anew by connecting again", () => {
    const clock = new ManualClock();
    const limiters = createLocalRateLimiter(clock);
    const org = newOrgId();
    const limiter = limiters.acquire(org, 10);
    for (let n = 0; n < 10; n++) limiter.take(1, clock.nowMs());
    limiters.release(org);
    clock.advance(100);
    const again = limiters.acquire(org, 10);
    expect(again.take(1, clock.nowMs())).toBe(0);
    expect(again.take(1, clock.nowMs())).toBeGreaterThan(0);
  });

  test("are forgotten when their burst has refilled and nobody uses them", () => {
    const clock = new ManualClock();
    const limiters = createLocalRateLimiter(clock);
    const org = newOrgId();
    const first = limiters.acquire(org, 10);
    for (let n = 0; n < 10; n++) first.take(1, clock.nowMs());
    limiters.release(org);
    clock.advance(1_001);
    expect(clock.scheduled).toBe(0);
    expect(limiters.acquire(org, 10)).not.toBe(first);
  });

  test("tell how many requests wait", () => {
    const clock = new ManualClock();
    const limiters = createLocalRateLimiter(clock);
    for (const org of [newOrgId(), newOrgId()]) {
      const limiter = limiters.acquire(org, 1);
      limiter.take(1, clock.nowMs());
      limiter.wait(new Recorder(clock), 1);
    }
    expect(limiters.waiting()).toBe(2);
    clock.advance(5_000);
    expect(limiters.waiting()).toBe(0);
  });
});
