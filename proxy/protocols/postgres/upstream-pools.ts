/** All pools of this worker, by org: what an org's pools share, and how they come and go. */
import type { DatabaseId, OrgId } from "../../../platform/ids.ts";
import type { TierLimits } from "../../../platform/tiers.ts";
import type { Session } from "../../session.ts";
import { settingsKey } from "./capped-settings.ts";
import type { SchemaChanges } from "./query-costs.ts";
import { type OrgShare, UpstreamPool, type UpstreamPoolOptions } from "./upstream-pool.ts";

/** The pools of one org: together they have no more connections than the org may have sessions. */
class OrgPools implements OrgShare {
  readonly pools = new Map<string, UpstreamPool>();
  readonly #schemas = new Map<DatabaseId, SchemaChanges>();
  /** What connections of the org are started with, by its tier. */
  settings: string;

  constructor(limits: TierLimits) {
    this.settings = settingsKey(limits);
  }

  schemaOf(databaseId: DatabaseId): SchemaChanges {
    const schema = this.#schemas.get(databaseId) ?? { count: 0 };
    this.#schemas.set(databaseId, schema);
    return schema;
  }

  /** Whether one more connection may be opened; an idle one of another pool makes room for it. */
  makeRoom(connectionsMax: number): boolean {
    let open = 0;
    for (const pool of this.pools.values()) open += pool.connections;
    if (open < connectionsMax) return true;
    for (const pool of this.pools.values()) if (pool.closeOldestIdle()) return true;
    return false;
  }
}

export class UpstreamPools {
  readonly #options: UpstreamPoolOptions;
  readonly #orgs = new Map<OrgId, OrgPools>();

  constructor(options: UpstreamPoolOptions) {
    this.#options = options;
  }

  /**
   * The pool for a session's database, role and startup parameters; `leave` it when the session
   * ends.
   */
  join(session: Session, parameters: ReadonlyMap<string, string>): UpstreamPool {
    let org = this.#orgs.get(session.orgId);
    if (org === undefined) {
      org = new OrgPools(session.tenant.limits);
      this.#orgs.set(session.orgId, org);
    }
    const key = JSON.stringify([
      session.route.database.databaseId,
      session.tenant.credentialGeneration,
      [...parameters].sort(),
    ]);
    let pool = org.pools.get(key);
    if (pool === undefined) {
      pool = new UpstreamPool(session.route.database, parameters, org, this.#options);
      org.pools.set(key, pool);
    }
    pool.members += 1;
    return pool;
  }

  leave(pool: UpstreamPool): void {
    pool.members -= 1;
  }

  /** The org has other limits now: connections lent from here on are started with them. */
  applyLimits(orgId: OrgId, limits: TierLimits): void {
    const org = this.#orgs.get(orgId);
    const settings = settingsKey(limits);
    if (org === undefined || org.settings === settings) return;
    org.settings = settings;
    for (const pool of org.pools.values()) pool.renewSettings();
  }

  /** Called several times a second. A pool that has nobody and nothing any more is forgotten. */
  sweep(nowMs: number): void {
    for (const [orgId, org] of this.#orgs) {
      for (const [key, pool] of org.pools) {
        pool.sweep(nowMs);
        if (pool.members > 0 || pool.connections > 0) continue;
        pool.retire();
        org.pools.delete(key);
      }
      if (org.pools.size === 0) this.#orgs.delete(orgId);
    }
  }

  *all(): Iterable<UpstreamPool> {
    for (const org of this.#orgs.values()) yield* org.pools.values();
  }

  count(what: "idle" | "lent" | "pinned" | "waiting"): number {
    let count = 0;
    for (const org of this.#orgs.values()) {
      for (const pool of org.pools.values()) count += pool[what];
    }
    return count;
  }

  close(): void {
    for (const org of this.#orgs.values()) {
      for (const pool of org.pools.values()) pool.closeIdle();
    }
  }
}
