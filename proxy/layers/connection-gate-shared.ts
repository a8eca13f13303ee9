/**
 * Layer 3 where several workers or replicas serve an org: places are claimed from an authority.
 * Each claim states how many connections of the org are held here, so that one that was lost on its
 * way is made good by the next; an org's claims go one at a time, with all who wait by then in one.
 */
import type { OrgId } from "../../platform/ids.ts";
import type { Tenant } from "../../platform/tenants.ts";
import { connectionLimit, type Denial } from "../denial.ts";
import type { LimitAuthority } from "../limits/authority.ts";
import type { ConnectionGate, GateSlot } from "./connection-gate.ts";

export type SharedGateParts = {
  readonly authority: LimitAuthority;
  /** Ends so many of an org's sessions, the youngest first, and returns how many it could. */
  readonly endYoungest: (orgId: OrgId, count: number) => number;
};

type Applicant = {
  readonly tenant: Tenant;
  readonly answer: (outcome: GateSlot | Denial) => void;
};

/**
 * Claims are repeated so often though nothing has changed: the authority keeps no record for ever.
 */
const REPEAT_MS = 600_000;
/** Connections that are logging in cannot be ended yet. */
const SHRINK_AGAIN_MS = 1_000;

export class SharedConnectionGate implements ConnectionGate {
  readonly #parts: SharedGateParts;
  readonly #orgs = new Map<OrgId, OrgPlaces>();
  readonly #repeat: Timer;

  constructor(parts: SharedGateParts) {
    this.#parts = parts;
    this.#repeat = setInterval(() => {
      for (const places of this.#orgs.values()) places.claimAgain(false);
    }, REPEAT_MS);
  }

  held(orgId: OrgId): number {
    return this.#orgs.get(orgId)?.held ?? 0;
  }

  admit(tenant: Tenant): Promise<GateSlot | Denial> {
    const { orgId } = tenant;
    let places = this.#orgs.get(orgId);
    if (places === undefined) {
      places = new OrgPlaces(orgId, this.#parts, () => this.#orgs.delete(orgId));
      this.#orgs.set(orgId, places);
    }
    return places.admit(tenant);
  }

  limitChanged(tenant: Tenant): void {
    this.#orgs.get(tenant.orgId)?.setLimit(tenant.limits.connections);
  }

  /**
   * Others may have been given places that are held here: all are claimed anew, and what is refused
   * is ended.
   */
  reclaim(): void {
    for (const places of this.#orgs.values()) places.claimAgain(true);
  }

  close(): void {
    clearInterval(this.#repeat);
  }
}

/** The places of one org that are held here. */
class OrgPlaces {
  readonly #orgId: OrgId;
  readonly #parts: SharedGateParts;
  readonly #emptied: () => void;
  #limit = 0;
  #held = 0;
  /** Of these, connections that have been ended for want of a place and are not gone yet. */
  #leaving = 0;
  #applicants: Applicant[] = [];
  #claiming = false;
  /** What the authority knows is out of date. */
  #stale = false;
  #mayShrink = false;

  constructor(orgId: OrgId, parts: SharedGateParts, emptied: () => void) {
    this.#orgId = orgId;
    this.#parts = parts;
    this.#emptied = emptied;
  }

  get held(): number {
    return this.#held;
  }

  admit(tenant: Tenant): Promise<GateSlot | Denial> {
    this.#limit = tenant.limits.connections;
    return new Promise((answer) => {
      this.#applicants.push({ tenant, answer });
      this.#settle();
    });
  }

  setLimit(limit: number): void {
    if (limit === this.#limit) return;
    this.#limit = limit;
    this.claimAgain(true);
  }

  claimAgain(mayShrink: boolean): void {
    this.#stale = true;
    this.#mayShrink ||= mayShrink;
    this.#settle();
  }

  #settle(): void {
    if (this.#claiming) return;
    this.#claiming = true;
    void this.#claim();
  }

  async #claim(): Promise<void> {
    while (this.#stale || this.#applicants.length > 0) {
      const applicants = this.#applicants;
      const mayShrink = this.#mayShrink;
      this.#applicants = [];
      this.#stale = false;
      this.#mayShrink = false;
      const granted = await this.#parts.authority.places(this.#orgId, {
        held: this.#held - this.#leaving,
        wanted: applicants.length,
        limit: this.#limit,
        mayShrink,
      });
      applicants.forEach(({ tenant, answer }, index) => {
        answer(index < granted ? this.#take() : connectionLimit(tenant));
      });
      if (granted < 0) this.#giveUp(-granted);
    }
    // In one step with having found nothing left to claim, or somebody who comes in between would
    // not be seen.
    this.#claiming = false;
    if (this.#held === 0) this.#emptied();
  }

  #take(): GateSlot {
    this.#held += 1;
    let released = false;
    return {
      release: () => {
        if (released) return;
        released = true;
        this.#held -= 1;
        if (this.#leaving > 0) this.#leaving -= 1;
        this.claimAgain(false);
      },
    };
  }

  #giveUp(count: number): void {
    // Noted first: a session may be gone before this call returns.
    this.#leaving += count;
    const ended = this.#parts.endYoungest(this.#orgId, count);
    this.#leaving -= count - ended;
    if (ended === count) return;
    setTimeout(() => {
      if (this.#held > 0) this.claimAgain(true);
    }, SHRINK_AGAIN_MS);
  }
}
