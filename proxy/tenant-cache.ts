/**
 * Tenants in process: loaded once from the directory, replaced when the control plane announces a
 * change. What is in here may be used while the control plane is away; what is not here cannot log
 * in then.
 */
import type { OrgId } from "../platform/ids.ts";
import type { Log } from "../platform/log.ts";
import type { Tenant, TenantDirectory } from "../platform/tenants.ts";
import { BoundedMap } from "./bounded-map.ts";

export type TenantCacheOptions = {
  readonly directory: TenantDirectory;
  readonly log: Log;
  /**
   * Called with the new state of a tenant that was cached and has changed; null when it is gone.
   */
  readonly changed: (orgId: OrgId, tenant: Tenant | null) => void;
  /**
   * Orgs with open sessions: their changes matter even when their entry has made room for others.
   */
  readonly liveOrgs: { has(orgId: OrgId): boolean; keys(): Iterable<OrgId> };
};

const TENANTS_MAX = 20_000;
/** "There is no such org" is remembered apart, so that guessing ids pushes no tenant out. */
const UNKNOWN_MAX = 10_000;
const RETRY_MS = 250;

export class TenantCache {
  readonly #directory: TenantDirectory;
  readonly #log: Log;
  readonly #changed: TenantCacheOptions["changed"];
  readonly #liveOrgs: TenantCacheOptions["liveOrgs"];
  readonly #tenants = new BoundedMap<OrgId, Tenant>(TENANTS_MAX);
  readonly #unknown = new BoundedMap<OrgId, true>(UNKNOWN_MAX);
  readonly #loading = new Map<OrgId, Promise<Tenant | null>>();
  /**
   * Raised by each announcement, so that a load that began before it is not taken for the present.
   */
  readonly #announced = new Map<OrgId, number>();
  #subscription: { close(): Promise<void> } | null = null;

  constructor(options: TenantCacheOptions) {
    this.#directory = options.directory;
    this.#log = options.log;
    this.#changed = options.changed;
    this.#liveOrgs = options.liveOrgs;
  }

  get size(): number {
    return this.#tenants.size;
  }

  known(): Iterable<Tenant> {
    return this.#tenants.values();
  }

  /** Listens for changes; call before the first `find`. */
  async start(): Promise<void> {
    this.#subscription = await this.#directory.subscribe(
      (orgId) => this.#refresh(orgId),
      () => {
        const known = [...this.#tenants.keys(), ...this.#unknown.keys(), ...this.#liveOrgs.keys()];
        for (const orgId of new Set(known)) this.#refresh(orgId);
      },
    );
  }

  async close(): Promise<void> {
    await this.#subscription?.close();
  }

  /**
   * The tenant, from here or from the directory; concurrent calls share one load. Rejects when that
   * fails.
   */
  find(orgId: OrgId): Promise<Tenant | null> {
    const tenant = this.#tenants.get(orgId);
    if (tenant !== undefined) return Promise.resolve(tenant);
    if (this.#unknown.get(orgId) === true) return Promise.resolve(null);
    return this.#load(orgId);
  }

  /** The newest state that is here, without asking. */
  peek(orgId: OrgId): Tenant | null {
    return this.#tenants.get(orgId) ?? null;
  }

  /**
   * The tenant as the directory has it from now on, whatever is here: for what may just have been
   * made, and whose announcement is still on its way. Rejects when the directory cannot be asked.
   */
  async reload(orgId: OrgId): Promise<Tenant | null> {
    // A load that is under way may have read its answer before.
    if (this.#loading.has(orgId)) this.#announce(orgId);
    return await this.#load(orgId);
  }

  #load(orgId: OrgId): Promise<Tenant | null> {
    const pending = this.#loading.get(orgId);
    if (pending !== undefined) return pending;
    const load = this.#loadUntilCurrent(orgId).finally(() => {
      this.#loading.delete(orgId);
      this.#announced.delete(orgId);
    });
    this.#loading.set(orgId, load);
    return load;
  }

  async #loadUntilCurrent(orgId: OrgId): Promise<Tenant | null> {
    for (;;) {
      const announced = this.#announced.get(orgId);
      const tenant = await this.#directory.load(orgId);
      if (announced !== this.#announced.get(orgId)) continue;
      this.#keep(orgId, tenant);
      return tenant;
    }
  }

  #keep(orgId: OrgId, tenant: Tenant | null): void {
    if (tenant === null) {
      this.#tenants.delete(orgId);
      this.#unknown.set(orgId, true);
    } else {
      this.#unknown.delete(orgId);
      this.#tenants.set(orgId, tenant);
    }
  }

  #announce(orgId: OrgId): void {
    this.#announced.set(orgId, (this.#announced.get(orgId) ?? 0) + 1);
  }

  #refresh(orgId: OrgId): void {
    const loading = this.#loading.has(orgId);
    if (loading) this.#announce(orgId);
    const cached = this.#tenants.get(orgId) !== undefined || this.#unknown.get(orgId) === true;
    if (!loading && !cached && !this.#liveOrgs.has(orgId)) return;
    this.#load(orgId).then(
      (tenant) => this.#changed(orgId, tenant),
      (error: unknown) => {
        // The old state stays in force and the load is tried until the control plane is back.
        this.#log.warn("tenant_refresh_failed", { orgId, reason: String(error) });
        setTimeout(() => this.#refresh(orgId), RETRY_MS);
      },
    );
  }
}
