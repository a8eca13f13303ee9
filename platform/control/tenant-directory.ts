/** The control plane as the proxy's source of tenants. */
import type { Sql } from "postgres";
import { type Database, databaseAddress } from "../databases.ts";
import { type OrgId, parseOrgId, type TokenId } from "../ids.ts";
import { type Log, silentLog } from "../log.ts";
import { TENANT_CHANNEL, type Tenant, type TenantDirectory, type TenantToken } from "../tenants.ts";
import { limitsOf, type Tier } from "../tiers.ts";
import { startListener } from "./listener.ts";
import { toOverrides } from "./org-record.ts";

type TenantRow = {
  tier: string;
  status: string;
  over_usage: string | null;
  scram_salt: Uint8Array;
  scram_iterations: number;
  connections_override: number | null;
  limit_qps_override: number | null;
  credential_generation: number;
  tokens: readonly { tokenId: string; sha256: string; storedKey: string; serverKey: string }[];
  databases: readonly Database[];
};

/**
 * `sql` is what tenants are loaded through; listening has a connection of its own to the same
 * server.
 */
export function createTenantDirectory(
  sql: Sql,
  options: { readonly log?: Log; readonly heartbeatMs?: number } = {},
): TenantDirectory {
  const log = options.log ?? silentLog;
  return {
    load: (orgId) => loadTenant(sql, orgId),
    subscribe: (changed, reset) =>
      startListener({
        sql,
        log,
        ...(options.heartbeatMs !== undefined && { heartbeatMs: options.heartbeatMs }),
        channel: TENANT_CHANNEL,
        reset,
        notified(payload) {
          const orgId = parseOrgId(payload);
          if (orgId !== null) changed(orgId);
        },
      }),
  };
}

/** Everything in one statement, so that it is of one moment and costs one round trip. */
async function loadTenant(sql: Sql, orgId: OrgId): Promise<Tenant | null> {
  const [row] = await sql<TenantRow[]>`
    SELECT tier, status, over_usage, scram_salt, scram_iterations, connections_override,
      limit_qps_override, credential_generation,
      (SELECT coalesce(json_agg(json_build_object(
          'tokenId', token_id,
          'sha256', encode(sha256, 'hex'),
          'storedKey', encode(stored_key, 'hex'),
          'serverKey', encode(server_key, 'hex')) ORDER BY created_at, token_id), '[]')
        FROM token t WHERE t.org_id = o.org_id AND revoked_at IS NULL) AS tokens,
      (SELECT coalesce(json_agg(json_build_object(
          'databaseId', database_id,
          'orgId', org_id,
          'name', name,
          'branch', branch,
          'kind', kind,
          'status', status,
          'endpoint', endpoint,
          'allowedNetworks', allowed_networks::text[])), '[]')
        FROM database d WHERE d.org_id = o.org_id AND dropped_at IS NULL
          AND status IN ('provisioning', 'ready')) AS databases
    FROM org o WHERE org_id = ${orgId}`;
  return row === undefined ? null : toTenant(orgId, row);
}

function toTenant(orgId: OrgId, row: TenantRow): Tenant {
  const tier = row.tier as Tier;
  return {
    orgId,
    tier,
    status: row.status === "active" ? "active" : "suspended",
    limits: limitsOf(tier, toOverrides(row)),
    overUsage: row.over_usage,
    scram: { salt: row.scram_salt, iterations: row.scram_iterations },
    tokens: row.tokens.map(
      (token): TenantToken => ({
        tokenId: token.tokenId as TokenId,
        sha256: Buffer.from(token.sha256, "hex"),
        storedKey: Buffer.from(token.storedKey, "hex"),
        serverKey: Buffer.from(token.serverKey, "hex"),
      }),
    ),
    databases: new Map(row.databases.map((database) => [databaseAddress(database), database])),
    credentialGeneration: row.credential_generation,
  };
}
