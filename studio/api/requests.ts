/**
 * Turning what a request says into the domain's words. All of these throw an `ApiError` that
 * states the rule.
 */
import { DATABASE_KINDS, type DatabaseKind, parseDatabaseKind } from "../../platform/databases.ts";
import { type OrgId, parseOrgId, parseTokenId, type TokenId } from "../../platform/ids.ts";
import { parseTier, TIERS, type Tier } from "../../platform/tiers.ts";
import { isPeriod } from "../../platform/usage/report.ts";
import { ApiError } from "./problems.ts";

/** An id that no org can have is one that no org has. */
export function orgIdOf(text: string): OrgId {
  const orgId = parseOrgId(text);
  if (orgId === null) {
    throw new ApiError("org_not_found", "There is no such org. An org's id looks like org_….");
  }
  return orgId;
}

export function tokenIdOf(text: string): TokenId {
  const tokenId = parseTokenId(text);
  if (tokenId === null) {
    throw new ApiError("token_not_found", "There is no such token. Its id looks like tok_….");
  }
  return tokenId;
}

export function tierOf(text: string): Tier {
  const tier = parseTier(text);
  if (tier === null) throw new ApiError("invalid", `A tier is one of ${TIERS.join(", ")}.`);
  return tier;
}

export function kindOf(text: string): DatabaseKind {
  const kind = parseDatabaseKind(text);
  if (kind === null) {
    throw new ApiError("invalid", `A kind of database is one of ${DATABASE_KINDS.join(", ")}.`);
  }
  return kind;
}

export function periodOfRequest(text: string): string {
  if (isPeriod(text)) return text;
  throw new ApiError("invalid", "A period is a month, written like 2026-11.");
}

export function pageLimitOf(text: string, max: number): number {
  const limit = /^\d{1,9}$/.test(text) ? Number(text) : 0;
  if (limit >= 1 && limit <= max) return limit;
  throw new ApiError("invalid", `limit is a whole number from 1 to ${max}.`);
}
