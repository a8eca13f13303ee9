/**
 * Layer 3, connection gate: at most so many connections per org at one time, over all its databases
 * and protocols. Exactly: a slot is taken before anything is done for the session and given back
 * once, when its socket is gone.
 */
import type { OrgId } from "../../platform/ids.ts";
import type { Tenant } from "../../platform/tenants.ts";
import { connectionLimit, type Denial } from "../denial.ts";

/** One connection's place; `release` may be called more than once and counts once. */
export type GateSlot = { release(): void };

export type ConnectionGate = {
  /** Takes a slot for the tenant, or says why there is none. */
  admit(tenant: Tenant): Promise<GateSlot | Denial> | GateSlot | Denial;
  /** Connections that are held now, by org. */
  held(orgId: OrgId): number;
  /**
   * A tenant has changed: where its limit has, connections beyond the new one are ended, wherever
   * they are.
   */
  limitChanged(tenant: Tenant): void;
};

/** Counts in this process: exact for one worker. */
export function createLocalConnectionGate(): ConnectionGate {
  const heldByOrg = new Map<OrgId, number>();
  return {
    held: (orgId) => heldByOrg.get(orgId) ?? 0,
    // All sessions are here: whoever tells them of the change sees which are too many.
    limitChanged() {},
    admit(tenant) {
      const { orgId } = tenant;
      const held = heldByOrg.get(orgId) ?? 0;
      if (held >= tenant.limits.connections) return connectionLimit(tenant);
      heldByOrg.set(orgId, held + 1);
      let released = false;
      return {
        release() {
          if (released) return;
          released = true;
          const left = (heldByOrg.get(orgId) ?? 1) - 1;
          if (left === 0) heldByOrg.delete(orgId);
          else heldByOrg.set(orgId, left);
        },
      };
    },
  };
}
