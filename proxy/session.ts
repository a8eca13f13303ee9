/** A session: one authenticated connection of a tenant to one database, whatever its protocol. */
import type { OrgId, TokenId } from "../platform/ids.ts";
import type { Tenant } from "../platform/tenants.ts";
import type { Denial } from "./denial.ts";
import type { Parting } from "./draining.ts";
import type { GateSlot } from "./layers/connection-gate.ts";
import type { Route } from "./layers/database-router.ts";
import type { OrgLimiter } from "./layers/rate-limiter.ts";
import type { UsageMeter } from "./layers/usage-tracker.ts";

/** What a session does at the moment, for operators. */
export type SessionActivity = {
  /** In words, a bounded number of them. */
  readonly state: string;
  /** What binds it to its connection, or null. */
  readonly held: string | null;
  readonly lastTrafficMs: number;
};

export type Session = {
  readonly id: number;
  readonly orgId: OrgId;
  readonly tokenId: TokenId;
  readonly protocol: string;
  /** The client's, without port. */
  readonly address: string;
  readonly openedAtMs: number;
  /** The tenant as of its last change. */
  tenant: Tenant;
  readonly slot: GateSlot;
  readonly route: Route;
  readonly limiter: OrgLimiter;
  readonly meter: UsageMeter;
  /**
   * How the protocol ends it: with the denial in its own form, after what is under way has been
   * cut.
   */
  end: (denial: Denial) => void;
  /** Called every second, for the time limits that O7s keeps itself. */
  tick: (nowMs: number) => void;
  activity: () => SessionActivity;
  /**
   * The proxy is being replaced: ends the session if it is one of those that may end now, or when
   * it becomes one.
   */
  part: (parting: Parting, nowMs: number) => void;
};

/** The open sessions, by org. */
export class SessionRegistry {
  readonly #byOrg = new Map<OrgId, Set<Session>>();
  #size = 0;

  get size(): number {
    return this.#size;
  }

  add(session: Session): void {
    let sessions = this.#byOrg.get(session.orgId);
    if (sessions === undefined) {
      sessions = new Set();
      this.#byOrg.set(session.orgId, sessions);
    }
    sessions.add(session);
    this.#size += 1;
  }

  delete(session: Session): void {
    const sessions = this.#byOrg.get(session.orgId);
    if (sessions === undefined || !sessions.delete(session)) return;
    this.#size -= 1;
    if (sessions.size === 0) this.#byOrg.delete(session.orgId);
  }

  /** Oldest first. */
  of(orgId: OrgId): readonly Session[] {
    return [...(this.#byOrg.get(orgId) ?? [])];
  }

  has(orgId: OrgId): boolean {
    return this.#byOrg.has(orgId);
  }

  keys(): Iterable<OrgId> {
    return this.#byOrg.keys();
  }

  *all(): Iterable<Session> {
    for (const sessions of this.#byOrg.values()) yield* sessions;
  }
}
