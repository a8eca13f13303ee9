/** Tenants made by hand, for parts that are given one. */
import { newOrgId, newTokenId, type OrgId, type TokenId } from "../../platform/ids.ts";
import { deriveKeys, SCRAM_ITERATIONS } from "../../platform/scram.ts";
import type { Tenant, TenantToken } from "../../platform/tenants.ts";
import { TIER_LIMITS } from "../../platform/tiers.ts";
import { tokenSha256 } from "../../platform/tokens.ts";

const scram = { salt: new Uint8Array(16).fill(9), iterations: SCRAM_ITERATIONS };

export function tokenOf(secret: string, tokenId: TokenId = newTokenId()): TenantToken {
  return { tokenId, sha256: tokenSha256(secret), ...deriveKeys(secret, scram) };
}

/** An active FREE org without databases, changed as told. */
export function tenantWith(changes: Partial<Tenant> = {}): Tenant {
  const orgId: OrgId = newOrgId();
  return {
    orgId,
    tier: "FREE",
    status: "active",
    limits: TIER_LIMITS.FREE,
    overUsage: null,
    scram,
    tokens: [],
    databases: new Map(),
    credentialGeneration: 1,
    ...changes,
  };
}
