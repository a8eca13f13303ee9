/** An org as the control plane keeps it: its row, read and locked. */
import type { TransactionSql } from "postgres";
import type { OrgId } from "../ids.ts";
import type { ScramParameters } from "../scram.ts";
import { type LimitOverrides, limitsOf, type Tier, type TierLimits } from "../tiers.ts";
import { PlatformError } from "./errors.ts";

export type OrgStatus = "active" | "suspended";

export type Org = {
  readonly orgId: OrgId;
  readonly name: string;
  readonly tier: Tier;
  readonly status: OrgStatus;
  readonly overrides: LimitOverrides;
  readonly credentialGeneration: number;
  readonly createdAt: Date;
};

export type OrgRow = {
  org_id: string;
  name: string;
  tier: string;
  status: string;
  connections_override: number | null;
  limit_qps_override: number | null;
  credential_generation: number;
  created_at: Date;
};

/**
 * The org under a row lock that lasts as long as the transaction: whoever counts what an org has,
 * and adds to it, holds it. Throws `org_not_found`.
 */
export async function lockOrg(
  tx: TransactionSql,
  orgId: OrgId,
): Promise<Org & { readonly scram: ScramParameters }> {
  const [row] = await tx<(OrgRow & { scram_salt: Uint8Array; scram_iterations: number })[]>`
    SELECT * FROM org WHERE org_id = ${orgId} FOR NO KEY UPDATE`;
  if (row === undefined) throw orgNotFound(orgId);
  return { ...toOrg(row), scram: { salt: row.scram_salt, iterations: row.scram_iterations } };
}

/** What the org may have and do: its tier's limits, as its contract changed them. */
export function orgLimits(org: Org): TierLimits {
  return limitsOf(org.tier, org.overrides);
}

/** From the columns in which overrides are kept. */
export function toOverrides(columns: {
  connections_override: number | null;
  limit_qps_override: number | null;
}): LimitOverrides {
  return {
    ...(columns.connections_override !== null && { connections: columns.connections_override }),
    ...(columns.limit_qps_override !== null && { limitQps: columns.limit_qps_override }),
  };
}

export function orgNotFound(orgId: OrgId): PlatformError {
  return new PlatformError("org_not_found", `There is no org ${orgId}.`);
}

export function toOrg(row: OrgRow): Org {
  return {
    orgId: row.org_id as OrgId,
    name: row.name,
    tier: row.tier as Tier,
    status: row.status as OrgStatus,
    overrides: toOverrides(row),
    credentialGeneration: row.credential_generation,
    createdAt: row.created_at,
  };
}
