/**
 * Layer 4, rate limiter: queries per second of an org, over all its connections.
 *
 * GCRA with a burst of one second's worth: in any window of t seconds at most burst + rate·t
 * queries are admitted. A request over the limit waits in its org's queue, first come, first
 * served. Admission is decided at the moment a request starts, never reserved ahead, so that a
 * stalled process cannot hand out its backlog in one burst.
 */
import type { OrgId } from "../../platform/ids.ts";

/** Weights are in units of one query: a statement is 1, a cheap Redis command 1/20. */
export type Weight = number;

/** Somebody who waits for a turn. */
export type Waiter = {
  /** Called when the turn has come; the weight has been charged. */
  admitted(): void;
};

/** What an org's sessions share. */
export type OrgLimiter = {
  /**
   * Charges `weight` and returns 0 when the request may start now. Otherwise charges nothing and
   * returns after how many milliseconds it could, those who wait already counted.
   */
  take(weight: Weight, nowMs: number): number;
  /** Joins the queue; `admitted` is called when the turn has come. Leave with `leave`. */
  wait(waiter: Waiter, weight: Weight): void;
  leave(waiter: Waiter): void;
  /**
   * Charges what was found out too late to refuse, such as the further statements of a query
   * message.
   */
  charge(weight: Weight, nowMs: number): void;
  setRate(limitQps: number): void;
};

export type RateLimiter = {
  /** The limiter of an org; `release` it when the session ends. */
  acquire(orgId: OrgId, limitQps: number): OrgLimiter;
  release(orgId: OrgId): void;
  waiting(): number;
};

export type LimiterClock = {
  /** Monotonic, in milliseconds. */
  nowMs(): number;
  /** Calls once after `delayMs`; returns how to call it off. */
  schedule(delayMs: number, call: () => void): () => void;
};

type Queued = { readonly waiter: Waiter; readonly weight: Weight };

/** Limits in this process: exact for one worker. */
export class LocalOrgLimiter implements OrgLimiter {
  readonly #clock: LimiterClock;
  #emissionMs: number;
  #burstMs = 1_000;
  /**
   * Theoretical arrival time: when everything charged so far would have been sent at the steady
   * rate.
   */
  #tatMs = Number.NEGATIVE_INFINITY;
  readonly #queue: Queued[] = [];
  #queuedWeight = 0;
  #cancelTimer: (() => void) | null = null;

  constructor(limitQps: number, clock: LimiterClock) {
    this.#clock = clock;
    this.#emissionMs = 1_000 / limitQps;
  }

  get waiting(): number {
    return this.#queue.length;
  }

  /** After how many milliseconds everything charged so far has been worked off. */
  owedMs(nowMs: number): number {
    return Math.max(0, Math.ceil(this.#tatMs - nowMs));
  }

  take(weight: Weight, nowMs: number): number {
    if (this.#queue.length === 0 && this.#admit(weight, nowMs)) return 0;
    const backlog = this.#emissionMs * (this.#queuedWeight + weight);
    return Math.max(1, Math.max(this.#tatMs, nowMs) + backlog - this.#burstMs - nowMs);
  }

  wait(waiter: Waiter, weight: Weight): void {
    this.#queue.push({ waiter, weight });
    this.#queuedWeight += weight;
    this.#arm();
  }

  leave(waiter: Waiter): void {
    const index = this.#queue.findIndex((queued) => queued.waiter === waiter);
    if (index < 0) return;
    const [queued] = this.#queue.splice(index, 1);
    this.#queuedWeight -= queued?.weight ?? 0;
  }

  charge(weight: Weight, nowMs: number): void {
    this.#tatMs = Math.max(this.#tatMs, nowMs) + this.#emissionMs * weight;
  }

  setRate(limitQps: number): void {
    const emissionMs = 1_000 / limitQps;
    if (emissionMs === this.#emissionMs) return;
    // What has been used of the burst stays used in proportion: a change of rate is no fresh
    // allowance.
    const now = this.#clock.nowMs();
    const used = Math.max(0, this.#tatMs - now) / this.#emissionMs;
    this.#tatMs = now + used * emissionMs;
    this.#emissionMs = emissionMs;
    this.#cancelTimer?.();
    this.#cancelTimer = null;
    this.#arm();
  }

  #admit(weight: Weight, nowMs: number): boolean {
    const next = Math.max(this.#tatMs, nowMs) + this.#emissionMs * weight;
    // The tolerance absorbs the rounding of sums of fractions, a thousandth of a millisecond.
    if (next - this.#burstMs > nowMs + 0.001) return false;
    this.#tatMs = next;
    return true;
  }

  #arm(): void {
    const head = this.#queue[0];
    if (head === undefined || this.#cancelTimer !== null) return;
    const now = this.#clock.nowMs();
    const delay = Math.max(this.#tatMs, now) + this.#emissionMs * head.weight - this.#burstMs - now;
    this.#cancelTimer = this.#clock.schedule(Math.max(0, Math.ceil(delay)), () => {
      this.#cancelTimer = null;
      this.#serve();
    });
  }

  #serve(): void {
    for (;;) {
      const head = this.#queue[0];
      if (head === undefined || !this.#admit(head.weight, this.#clock.nowMs())) break;
      this.#queue.shift();
      this.#queuedWeight = this.#queue.length === 0 ? 0 : this.#queuedWeight - head.weight;
      head.waiter.admitted();
    }
    this.#arm();
  }
}

/**
 * Keeps a limiter per org. One that has been left stays until its burst has refilled, or
 * reconnecting would be a way around the limit.
 */
export function createLocalRateLimiter(clock: LimiterClock): RateLimiter {
  type Entry = { limiter: LocalOrgLimiter; sessions: number; cancelRemoval: (() => void) | null };
  const entries = new Map<OrgId, Entry>();
  return {
    acquire(orgId, limitQps) {
      let entry = entries.get(orgId);
      if (entry === undefined) {
        entry = { limiter: new LocalOrgLimiter(limitQps, clock), sessions: 0, cancelRemoval: null };
        entries.set(orgId, entry);
      }
      entry.cancelRemoval?.();
      entry.cancelRemoval = null;
      entry.sessions += 1;
      entry.limiter.setRate(limitQps);
      return entry.limiter;
    },
    release(orgId) {
      const entry = entries.get(orgId);
      if (entry === undefined) return;
      entry.sessions -= 1;
      if (entry.sessions > 0) return;
      const removeWhenRefilled = (): void => {
        const owedMs = entry.limiter.owedMs(clock.nowMs());
        if (owedMs > 0) entry.cancelRemoval = clock.schedule(owedMs, removeWhenRefilled);
        else entries.delete(orgId);
      };
      removeWhenRefilled();
    },
    waiting() {
      let waiting = 0;
      for (const entry of entries.values()) waiting += entry.limiter.waiting;
      return waiting;
    },
  };
}
