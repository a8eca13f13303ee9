/** Layer 2, tier verification: may this tenant use the platform at all right now? */
import type { TokenId } from "../../platform/ids.ts";
import type { Tenant } from "../../platform/tenants.ts";
import { type Denial, orgSuspended, tokenRevoked, usageExhausted } from "../denial.ts";

/**
 * Null when the tenant may connect and go on. Asked at login, and again whenever the tenant has
 * changed.
 */
export function verifyTier(tenant: Tenant): Denial | null {
  if (tenant.status === "suspended") return orgSuspended();
  if (tenant.overUsage !== null) return usageExhausted(tenant.overUsage);
  return null;
}

/** What a live session is told when its tenant has changed under it, or null when it may stay. */
export function verifySession(tenant: Tenant, tokenId: TokenId): Denial | null {
  if (!tenant.tokens.some((token) => token.tokenId === tokenId)) return tokenRevoked();
  return verifyTier(tenant);
}
