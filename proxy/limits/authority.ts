/**
 * Who owns an org's limits where several workers or replicas serve it. A member (a worker or a
 * replica) asks the authority for turns in small leases and claims its connections' places; what
 * the authority gives is never more than the limit.
 */
import type { OrgId } from "../../platform/ids.ts";

/** How long a lease on turns runs, counted by the authority from when it grants it. */
export const TURN_LEASE_MS = 1_000;
/** GCRA's burst: one second's worth. */
export const BURST_MS = 1_000;

/**
 * A member's account of its last lease, and what it would like next. Turns are in units of one
 * query.
 */
export type TurnAsk = {
  readonly limitQps: number;
  /** What the last lease gave; 0 when there was none. */
  readonly leased: number;
  /** Used since the last ask; more than `leased` where something was charged after it had run. */
  readonly spent: number;
  /** Unused, to be held for this member further. */
  readonly kept: number;
  /**
   * Nothing is granted unless it is at least this; both 0 give back everything that is not kept.
   */
  readonly least: number;
  readonly most: number;
};

export type TurnGrant = {
  /**
   * False when the last lease had run out: it has been charged in full and nothing of it is left.
   */
  readonly keptHeld: boolean;
  readonly granted: number;
  /** Where nothing was granted: after how many milliseconds `least` could be. */
  readonly waitMs: number;
  /** Other members that hold or want turns of this org. */
  readonly others: number;
};

export type PlaceClaim = {
  /** The member's connections now; it takes the place of whatever it claimed before. */
  readonly held: number;
  readonly wanted: number;
  readonly limit: number;
  /** Whether places that are held may be taken away where there are more than the limit. */
  readonly mayShrink: boolean;
};

export type LimitAuthority = {
  turns(orgId: OrgId, ask: TurnAsk): Promise<TurnGrant>;
  /**
   * How many of the wanted places are granted; below zero, how many of the held ones have to be
   * given up.
   */
  places(orgId: OrgId, claim: PlaceClaim): Promise<number>;
};
