/**
 * Control plane and engines, exercised the same way on every runtime they must run on. Prints
 * what came out as JSON. Arguments: the control plane's URL (an empty database), the shared
 * server's URL.
 */
import process from "node:process";
import { migrate } from "../../platform/control/migrate.ts";
import { createOrg, setLimits, setTier } from "../../platform/control/orgs.ts";
import { createTenantDirectory } from "../../platform/control/tenant-directory.ts";
import { createToken, revokeToken } from "../../platform/control/tokens.ts";
import { parseAdminServer } from "../../platform/endpoints.ts";
import { createEngines } from "../../platform/engines/registry.ts";
import { openSharedServer } from "../../platform/engines/shared-server.ts";
import { silentLog } from "../../platform/log.ts";
import { openControlPlane, openPostgres } from "../../platform/postgres-client.ts";
import { createDatabase, dropDatabase, sweepDatabases } from "../../platform/provisioning.ts";
import { parseMasterKey, upstreamPassword } from "../../platform/upstream-credentials.ts";

const [url = "", adminUrl = ""] = process.argv.slice(2);
const actor = { name: "test", requestId: null };
const server = parseAdminServer(`main=${adminUrl}`);
const masterKey = parseMasterKey("5a".repeat(32));
if (server === null || masterKey === null) throw new Error("The arguments are malformed.");

const sql = openControlPlane(url, { applicationName: "test" });
const locks = openControlPlane(url, { applicationName: "test" });
const shared = openSharedServer(server);
const engines = createEngines({ masterKey, sharedServers: [shared], computeHosts: new Map() });
const parts = { sql, locks, engines, log: silentLog };

const migrations = await migrate(sql);
const { org, token } = await createOrg(sql, { name: "Acme", tier: "FREE" }, actor);
const { orgId } = org;
const directory = createTenantDirectory(sql);
const announced = Promise.withResolvers<string>();
const subscription = await directory.subscribe(announced.resolve, () => {});
await setTier(sql, orgId, "STARTER", actor);
await setLimits(sql, orgId, { limitQps: 7 }, actor);
const second = await createToken(sql, orgId, actor);
await revokeToken(sql, orgId, second.tokenId, actor);
const database = await createDatabase(parts, { orgId, name: "app", kind: "postgres" }, actor);
const tenant = await directory.load(orgId);
const engine = engines.postgres;
const placed = {
  ...database,
  endpoint: database.endpoint,
  credentialGeneration: 1,
  tempFileLimitBytes: 1_048_576,
};
if (typeof engine === "string" || placed.endpoint === null) throw new Error("No engine.");
const bytes = await engine.sizeBytes({ ...placed, endpoint: placed.endpoint });
await engine.repairLogin({ ...placed, endpoint: placed.endpoint });
const login = openPostgres(
  { ...server, user: orgId, password: upstreamPassword(masterKey, orgId, 1) },
  { applicationName: "test", connectionsMax: 1, database: database.databaseId },
);
const [row] = await login<{ own: boolean }[]>`SELECT current_user = ${orgId} AS own`;
await login.end();
await dropDatabase(parts, { orgId, address: "app" }, actor);
const unfinished = await sweepDatabases(parts);
const [left] = await shared.admin<{ count: number }[]>`
  SELECT count(*)::int AS count FROM pg_roles WHERE rolname = ${orgId}`;

const results = {
  migrated: migrations.length > 1,
  announcedItself: (await announced.promise) === orgId,
  secretChars: token.secret.length,
  limits: [tenant?.limits.connections, tenant?.limits.limitQps],
  tokens: tenant?.tokens.length,
  databases: [...(tenant?.databases.keys() ?? [])],
  sized: bytes > 1_000_000,
  loggedInAsItself: row?.own,
  unfinished,
  rolesLeft: left?.count,
};
await subscription.close();
await Promise.all([sql.end({ timeout: 1 }), locks.end({ timeout: 1 }), shared.close()]);
process.stdout.write(`${JSON.stringify(results)}\n`);
process.exit(0);
