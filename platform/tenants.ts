/**
 * A tenant as the proxy sees it: everything that admitting and routing its connections needs, in
 * one snapshot that is loaded once, cached, and replaced when the control plane raises a
 * notification.
 */
import type { Database } from "./databases.ts";
import type { OrgId, TokenId } from "./ids.ts";
import type { ScramKeys, ScramParameters } from "./scram.ts";
import type { Tier, TierLimits } from "./tiers.ts";

export type TenantToken = ScramKeys & {
  readonly tokenId: TokenId;
  /** SHA-256 of the secret, for protocols that carry it in clear. */
  readonly sha256: Uint8Array;
};

export type Tenant = {
  readonly orgId: OrgId;
  readonly tier: Tier;
  readonly status: "active" | "suspended";
  readonly limits: TierLimits;
  /**
   * Why usage stops it (an allowance or a spend cap is used up), as a sentence for its people, or
   * null.
   */
  readonly overUsage: string | null;
  /**
   * One salt and iteration count for all tokens of the org, so that a proof can be checked against
   * each.
   */
  readonly scram: ScramParameters;
  readonly tokens: readonly TenantToken[];
  /**
   * By address (`name` or `name@branch`); only those that can be connected to or are about to be.
   */
  readonly databases: ReadonlyMap<string, Database>;
  /** Which derivation of the upstream password its roles have. */
  readonly credentialGeneration: number;
};

/**
 * The PostgreSQL channel on which the control plane announces the OrgId of a tenant that changed.
 */
export const TENANT_CHANNEL = "ogel_tenant";

/** Where the proxy gets tenants from; the control plane implements it. */
export type TenantDirectory = {
  /** The tenant, or null where there is none of that id. */
  load(orgId: OrgId): Promise<Tenant | null>;
  /**
   * Calls `changed` with each OrgId that changes from now on, and `reset` whenever notifications
   * may have been missed (after a reconnection), when all that is cached must be taken for stale.
   * Resolves once listening.
   */
  subscribe(
    changed: (orgId: OrgId) => void,
    reset: () => void,
  ): Promise<{ close(): Promise<void> }>;
};
