/**
 * An authority on limits in this process's memory. `redis-scripts.ts` keeps the same books in
 * Redis.
 *
 * Turns are GCRA with reservations: what has been spent is in the theoretical arrival time, what is
 * leased is reserved beside it, and both together never exceed the burst. A lease is charged as
 * spent when its member reports it spent, and as a whole when it runs out without a report; so
 * whenever within its lease a member spends a turn, there is room for it.
 */
import type { OrgId } from "../../platform/ids.ts";
import {
  BURST_MS,
  type PlaceClaim,
  TURN_LEASE_MS,
  type TurnAsk,
  type TurnGrant,
} from "./authority.ts";

type Lease = { turns: number; expiresMs: number };

type Turns = {
  limitQps: number;
  /** When everything spent so far would have been sent at the steady rate. */
  tatMs: number;
  readonly leases: Map<string, Lease>;
};

/** Absorbs the rounding of sums of fractions. */
const TOLERANCE = 1e-6;

export class LimitLedger {
  readonly #nowMs: () => number;
  readonly #startMs: number;
  readonly #turns = new Map<OrgId, Turns>();
  readonly #places = new Map<OrgId, Map<string, number>>();

  /**
   * `nowMs` is monotonic. `spentBefore` says that nothing is known of what was spent before this
   * moment, so that every burst is taken for used up.
   */
  constructor(nowMs: () => number, options: { readonly spentBefore: boolean }) {
    this.#nowMs = nowMs;
    this.#startMs = options.spentBefore ? nowMs() + BURST_MS : Number.NEGATIVE_INFINITY;
  }

  turns(member: string, orgId: OrgId, ask: TurnAsk): TurnGrant {
    const now = this.#nowMs();
    const turns = this.#turnsOf(orgId, ask.limitQps, now);
    const emissionMs = 1_000 / turns.limitQps;
    chargeExpired(turns, now);
    const keptHeld = turns.leases.delete(member);
    const charge = keptHeld ? ask.spent : Math.max(0, ask.spent - ask.leased);
    if (charge > 0) turns.tatMs = Math.max(turns.tatMs, now) + charge * emissionMs;

    const kept = keptHeld ? ask.kept : 0;
    let reserved = kept;
    for (const lease of turns.leases.values()) reserved += lease.turns;
    const others = turns.leases.size;
    const burst = Math.max(BURST_MS / emissionMs, ask.least);
    const free = burst - Math.max(0, turns.tatMs - now) / emissionMs - reserved;
    const granted = grantOf(free, ask);
    // One who waits is noted without turns, so that the others know of it.
    if (kept + granted > 0 || ask.least > 0) {
      turns.leases.set(member, { turns: kept + granted, expiresMs: now + TURN_LEASE_MS });
    }
    const waitMs = granted > 0 || ask.most === 0 ? 0 : Math.max(1, (ask.least - free) * emissionMs);
    return { keptHeld, granted, waitMs, others };
  }

  places(member: string, orgId: OrgId, claim: PlaceClaim): number {
    let held = this.#places.get(orgId);
    if (held === undefined) {
      held = new Map();
      this.#places.set(orgId, held);
    }
    held.delete(member);
    let room = claim.limit - claim.held;
    for (const count of held.values()) room -= count;
    let granted = 0;
    if (room >= 0) granted = Math.min(claim.wanted, room);
    else if (claim.mayShrink) granted = Math.max(room, -claim.held);
    if (claim.held + granted > 0) held.set(member, claim.held + granted);
    if (held.size === 0) this.#places.delete(orgId);
    return granted;
  }

  /**
   * Ends the books of an org with a member's last account: how many turns have been spent and not
   * yet been worked off. Null when there are no books of it.
   */
  closeBooks(member: string, orgId: OrgId, ask: TurnAsk): number | null {
    if (!this.#turns.has(orgId)) return null;
    this.turns(member, orgId, { ...ask, kept: 0, least: 0, most: 0 });
    const turns = this.#turns.get(orgId);
    this.#turns.delete(orgId);
    if (turns === undefined) return null;
    return (Math.max(0, turns.tatMs - this.#nowMs()) * turns.limitQps) / 1_000;
  }

  /** A member is no more: its places are free. Its leases run out by themselves. */
  forget(member: string): void {
    for (const [orgId, held] of this.#places) {
      held.delete(member);
      if (held.size === 0) this.#places.delete(orgId);
    }
  }

  /** Drops what an org that is back at its full burst would begin with anyway. */
  sweep(): void {
    const now = this.#nowMs();
    for (const [orgId, turns] of this.#turns) {
      chargeExpired(turns, now);
      if (turns.leases.size === 0 && turns.tatMs <= now) this.#turns.delete(orgId);
    }
  }

  #turnsOf(orgId: OrgId, limitQps: number, now: number): Turns {
    let turns = this.#turns.get(orgId);
    if (turns === undefined) {
      turns = { limitQps, tatMs: this.#startMs, leases: new Map() };
      this.#turns.set(orgId, turns);
    } else if (turns.limitQps !== limitQps) {
      // What has been used of the burst stays used in proportion: a change of rate is no fresh
      // allowance.
      turns.tatMs = now + (Math.max(0, turns.tatMs - now) * turns.limitQps) / limitQps;
      turns.limitQps = limitQps;
    }
    return turns;
  }
}

/** Whoever held it may have spent all of it, up to its last moment. */
function chargeExpired(turns: Turns, now: number): void {
  for (const [member, lease] of turns.leases) {
    if (lease.expiresMs > now) continue;
    turns.leases.delete(member);
    if (lease.turns === 0) continue;
    turns.tatMs = Math.max(turns.tatMs, lease.expiresMs) + (lease.turns * 1_000) / turns.limitQps;
  }
}

/** Whole turns where there are, so that no slivers lie about with members. */
function grantOf(free: number, { least, most }: TurnAsk): number {
  if (most <= 0 || free + TOLERANCE < least) return 0;
  return Math.min(most, Math.max(least, Math.floor(free + TOLERANCE)));
}
