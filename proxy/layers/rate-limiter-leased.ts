/**
 * Layer 4 where several workers or replicas serve an org: turns are leased from an authority, a few
 * at a time, and spent here without asking. A request that finds the lease empty waits in its org's
 * queue while the next is fetched, one fetch at a time; one that finds it half empty has it fetched
 * ahead.
 */
import type { OrgId } from "../../platform/ids.ts";
import {
  type LimitAuthority,
  TURN_LEASE_MS,
  type TurnAsk,
  type TurnGrant,
} from "../limits/authority.ts";
import type { LimiterClock, OrgLimiter, RateLimiter, Waiter, Weight } from "./rate-limiter.ts";

type Queued = { readonly waiter: Waiter; readonly weight: Weight };

/** A lease is trusted for so much less than the authority counts it for. */
const LEASE_MARGIN_MS = 50;
/**
 * A lease is accounted for at least this often, and given back when it has not been used for as
 * long.
 */
const SETTLE_MS = TURN_LEASE_MS / 2;
/** After an ask that failed. */
const RETRY_MS = 50;
/**
 * Members that compete for an org's turns ask again at different moments, or the nearest would win
 * every time.
 */
const JITTER_MS_MAX = 50;
const LEASE_SHARE_MAX = 0.05;
/** Absorbs the rounding of sums of fractions. */
const TOLERANCE = 1e-6;

export class LeasedOrgLimiter implements OrgLimiter {
  readonly #orgId: OrgId;
  readonly #authority: LimitAuthority;
  readonly #clock: LimiterClock;
  readonly #settled: () => void;
  #limitQps: number;
  #leased = 0;
  #spent = 0;
  #validUntilMs = Number.NEGATIVE_INFINITY;
  /** When the authority expects to have a turn, where it had none. */
  #turnAtMs = Number.NEGATIVE_INFINITY;
  #others = 0;
  #asking = false;
  #usedSinceGrant = false;
  #cancelRetry: (() => void) | null = null;
  #cancelSettle: (() => void) | null = null;
  readonly #queue: Queued[] = [];
  #queuedWeight = 0;

  /** `settled` is called when nothing is held or owed here any more. */
  constructor(
    orgId: OrgId,
    limitQps: number,
    parts: { readonly authority: LimitAuthority; readonly clock: LimiterClock },
    settled: () => void,
  ) {
    this.#orgId = orgId;
    this.#limitQps = limitQps;
    this.#authority = parts.authority;
    this.#clock = parts.clock;
    this.#settled = settled;
  }

  get waiting(): number {
    return this.#queue.length;
  }

  /** Nothing is leased, owed or asked for. */
  get idle(): boolean {
    return !this.#asking && this.#leased === 0 && this.#spent === 0 && this.#queue.length === 0;
  }

  take(weight: Weight, nowMs: number): number {
    if (this.#queue.length === 0 && this.#spend(weight, nowMs)) {
      const low = this.#leased - this.#spent < this.#leaseMax / 2;
      if (low && !this.#asking && this.#turnAtMs <= nowMs) this.#ask();
      return 0;
    }
    const emissionMs = (1_000 / this.#limitQps) * (1 + this.#others);
    const untilTurnMs = Math.max(0, this.#turnAtMs - nowMs);
    return Math.max(1, untilTurnMs + emissionMs * (this.#queuedWeight + Math.max(0, weight - 1)));
  }

  wait(waiter: Waiter, weight: Weight): void {
    this.#queue.push({ waiter, weight });
    this.#queuedWeight += weight;
    this.#askForQueue();
  }

  leave(waiter: Waiter): void {
    const index = this.#queue.findIndex((queued) => queued.waiter === waiter);
    if (index < 0) return;
    const [queued] = this.#queue.splice(index, 1);
    this.#queuedWeight = this.#queue.length === 0 ? 0 : this.#queuedWeight - (queued?.weight ?? 0);
  }

  charge(weight: Weight, _nowMs: number): void {
    this.#spent += weight;
    this.#usedSinceGrant = true;
    if (!this.#asking && this.#cancelRetry === null) this.#ask();
  }

  setRate(limitQps: number): void {
    if (limitQps === this.#limitQps) return;
    this.#limitQps = limitQps;
    // What was said about the next turn was said about another rate.
    this.#turnAtMs = Number.NEGATIVE_INFINITY;
    this.#cancelRetry?.();
    this.#cancelRetry = null;
    this.#askForQueue();
  }

  get #leaseMax(): number {
    return Math.max(1, Math.floor(this.#limitQps * LEASE_SHARE_MAX));
  }

  #spend(weight: Weight, nowMs: number): boolean {
    if (this.#spent + weight > this.#leased + TOLERANCE || nowMs >= this.#validUntilMs) {
      return false;
    }
    this.#spent += weight;
    this.#usedSinceGrant = true;
    return true;
  }

  #askForQueue(): void {
    if (this.#queue.length === 0 || this.#asking || this.#cancelRetry !== null) return;
    const now = this.#clock.nowMs();
    if (this.#turnAtMs <= now) {
      this.#ask();
      return;
    }
    this.#cancelRetry = this.#clock.schedule(this.#turnAtMs - now, () => {
      this.#cancelRetry = null;
      this.#askForQueue();
    });
  }

  /** Accounts for the lease and asks for more, or gives it back when `giveBack` is set. */
  #ask(giveBack = false): void {
    const sentMs = this.#clock.nowMs();
    const turns = this.#account(sentMs, giveBack);
    this.#asking = true;
    this.#cancelSettle?.();
    this.#cancelSettle = null;
    const spentBefore = this.#spent;
    this.#authority.turns(this.#orgId, turns).then(
      (grant) => this.#granted(grant, sentMs, turns.kept, spentBefore),
      () => {
        this.#asking = false;
        this.#turnAtMs = this.#clock.nowMs() + RETRY_MS;
        this.#askForQueue();
      },
    );
  }

  #account(sentMs: number, giveBack: boolean): TurnAsk {
    const unspent = Math.max(0, this.#leased - this.#spent);
    const kept = giveBack || sentMs >= this.#validUntilMs ? 0 : unspent;
    if (kept < unspent) this.#validUntilMs = Number.NEGATIVE_INFINITY;
    const head = this.#queue[0]?.weight ?? 1;
    const least = giveBack ? 0 : Math.max(0, head - kept);
    const most = giveBack ? 0 : Math.max(least, this.#leaseMax - kept);
    return {
      limitQps: this.#limitQps,
      leased: this.#leased,
      spent: this.#spent,
      kept,
      least,
      most,
    };
  }

  #granted(grant: TurnGrant, sentMs: number, kept: number, spentBefore: number): void {
    const now = this.#clock.nowMs();
    this.#asking = false;
    this.#spent -= spentBefore;
    if (this.#spent < TOLERANCE) this.#spent = 0;
    this.#leased = (grant.keptHeld ? kept : 0) + grant.granted;
    this.#validUntilMs = sentMs + TURN_LEASE_MS - LEASE_MARGIN_MS;
    this.#others = grant.others;
    const jitterMs =
      grant.others > 0 ? Math.random() * Math.min(JITTER_MS_MAX, 500 / this.#limitQps) : 0;
    this.#turnAtMs =
      grant.waitMs > 0 ? now + Math.ceil(grant.waitMs + jitterMs) : Number.NEGATIVE_INFINITY;
    this.#usedSinceGrant = this.#spent > 0;
    this.#serve(now);
    if (this.#asking) return;
    if (this.#leased === 0 && this.#spent === 0) {
      if (this.#queue.length === 0) this.#settled();
      return;
    }
    this.#cancelSettle = this.#clock.schedule(SETTLE_MS, () => {
      this.#cancelSettle = null;
      if (!this.#asking) this.#ask(!this.#usedSinceGrant && this.#queue.length === 0);
    });
  }

  #serve(now: number): void {
    for (;;) {
      const head = this.#queue[0];
      if (head === undefined || !this.#spend(head.weight, now)) break;
      this.#queue.shift();
      this.#queuedWeight = this.#queue.length === 0 ? 0 : this.#queuedWeight - head.weight;
      head.waiter.admitted();
    }
    const owes = this.#spent > this.#leased + TOLERANCE;
    if (owes && !this.#asking) this.#ask();
    else this.#askForQueue();
  }
}

/**
 * Keeps a limiter per org. What an org has used is known to the authority: a limiter is dropped
 * once its lease has been accounted for.
 */
export function createLeasedRateLimiter(parts: {
  readonly authority: LimitAuthority;
  readonly clock: LimiterClock;
}): RateLimiter {
  type Entry = { limiter: LeasedOrgLimiter; sessions: number };
  const entries = new Map<OrgId, Entry>();
  const dropUnused = (orgId: OrgId): void => {
    const entry = entries.get(orgId);
    if (entry?.sessions === 0 && entry.limiter.idle) entries.delete(orgId);
  };
  return {
    acquire(orgId, limitQps) {
      let entry = entries.get(orgId);
      if (entry === undefined) {
        const limiter = new LeasedOrgLimiter(orgId, limitQps, parts, () => dropUnused(orgId));
        entry = { limiter, sessions: 0 };
        entries.set(orgId, entry);
      }
      entry.sessions += 1;
      entry.limiter.setRate(limitQps);
      return entry.limiter;
    },
    release(orgId) {
      const entry = entries.get(orgId);
      if (entry === undefined) return;
      entry.sessions -= 1;
      dropUnused(orgId);
    },
    waiting() {
      let waiting = 0;
      for (const entry of entries.values()) waiting += entry.limiter.waiting;
      return waiting;
    },
  };
}
