/** Orgs in the control plane. */
import type { Sql, TransactionSql } from "postgres";
import { cryptoRandomBytes, isOrgName, newOrgId, ORG_NAME_RULE, type OrgId } from "../ids.ts";
import { SCRAM_ITERATIONS } from "../scram.ts";
import { OVERRIDE_MAX, type Tier } from "../tiers.ts";
import { type Actor, writeAudit } from "./audit.ts";
import { PlatformError } from "./errors.ts";
import {
  lockOrg,
  type Org,
  type OrgRow,
  type OrgStatus,
  orgNotFound,
  toOrg,
} from "./org-record.ts";
import { insertToken, type NewToken } from "./tokens.ts";

/** Changes to an org's limits: a number overrides its tier's, null gives the tier's back. */
export type LimitChanges = {
  readonly connections?: number | null;
  readonly limitQps?: number | null;
};

const SALT_BYTES = 16;

/** Creates an org with a first token, whose secret is in the answer and nowhere else. */
export async function createOrg(
  sql: Sql,
  request: { readonly name: string; readonly tier: Tier },
  actor: Actor,
): Promise<{ readonly org: Org; readonly token: NewToken }> {
  if (!isOrgName(request.name)) throw new PlatformError("invalid", ORG_NAME_RULE);
  const orgId = newOrgId();
  const scram = { salt: cryptoRandomBytes(SALT_BYTES), iterations: SCRAM_ITERATIONS };
  return await sql.begin(async (tx) => {
    const [row] = await tx<OrgRow[]>`
      INSERT INTO org (org_id, name, tier, scram_salt, scram_iterations)
      VALUES (${orgId}, ${request.name}, ${request.tier}, ${scram.salt}, ${scram.iterations})
      RETURNING *`;
    await writeAudit(tx, actor, {
      action: "org.create",
      orgId,
      subject: orgId,
      details: { tier: request.tier },
    });
    const token = await insertToken(tx, { orgId, scram }, actor);
    return { org: toOrg(row as OrgRow), token };
  });
}

/** One page of orgs, oldest first, after the org `after` where one is given. */
export async function listOrgs(
  sql: Sql,
  page: { readonly after: OrgId | null; readonly limit: number },
): Promise<readonly Org[]> {
  const rows = await sql<OrgRow[]>`
    SELECT * FROM org
    WHERE ${page.after}::text IS NULL
      OR (created_at, org_id) > (SELECT created_at, org_id FROM org WHERE org_id = ${page.after})
    ORDER BY created_at, org_id
    LIMIT ${page.limit}`;
  return rows.map(toOrg);
}

/** Throws `org_not_found`. */
export async function getOrg(sql: Sql, orgId: OrgId): Promise<Org> {
  const [row] = await sql<OrgRow[]>`SELECT * FROM org WHERE org_id = ${orgId}`;
  if (row === undefined) throw orgNotFound(orgId);
  return toOrg(row);
}

/**
 * Nothing is taken away from an org whose new tier allows less than it has: it only cannot add to
 * it.
 */
export async function setTier(sql: Sql, orgId: OrgId, tier: Tier, actor: Actor): Promise<Org> {
  return await changeOrg(sql, orgId, actor, "org.set_tier", { tier }, async (tx) => {
    await tx`UPDATE org SET tier = ${tier} WHERE org_id = ${orgId}`;
  });
}

/** Throws `invalid` for a limit that is out of bounds. */
export async function setLimits(
  sql: Sql,
  orgId: OrgId,
  changes: LimitChanges,
  actor: Actor,
): Promise<Org> {
  checkOverride("connections", changes.connections);
  checkOverride("limitQps", changes.limitQps);
  return await changeOrg(sql, orgId, actor, "org.set_limits", { ...changes }, async (tx) => {
    if (changes.connections !== undefined) {
      await tx`
        UPDATE org SET connections_override = ${changes.connections} WHERE org_id = ${orgId}`;
    }
    if (changes.limitQps !== undefined) {
      await tx`UPDATE org SET limit_qps_override = ${changes.limitQps} WHERE org_id = ${orgId}`;
    }
  });
}

/** A suspended org can connect to nothing and keeps everything. Repeating it changes nothing. */
export async function setOrgStatus(
  sql: Sql,
  orgId: OrgId,
  status: OrgStatus,
  actor: Actor,
): Promise<Org> {
  const action = status === "suspended" ? "org.suspend" : "org.resume";
  return await changeOrg(sql, orgId, actor, action, {}, async (tx) => {
    await tx`UPDATE org SET status = ${status} WHERE org_id = ${orgId}`;
  });
}

async function changeOrg(
  sql: Sql,
  orgId: OrgId,
  actor: Actor,
  action: string,
  details: Readonly<Record<string, string | number | null>>,
  change: (tx: TransactionSql) => Promise<void>,
): Promise<Org> {
  return await sql.begin(async (tx) => {
    await lockOrg(tx, orgId);
    await change(tx);
    await writeAudit(tx, actor, { action, orgId, subject: orgId, details });
    return await lockOrg(tx, orgId);
  });
}

function checkOverride(name: keyof typeof OVERRIDE_MAX, value: number | null | undefined): void {
  if (value === null || value === undefined) return;
  const max = OVERRIDE_MAX[name];
  if (Number.isInteger(value) && value >= 1 && value <= max) return;
  throw new PlatformError("invalid", `${name} is a whole number from 1 to ${max}.`);
}
