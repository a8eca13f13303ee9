/** Removing an org's role from a shared server when nothing there is its own any more. */
import { openPostgres } from "../postgres-client.ts";
import { ADMIN_SETTINGS, type SharedServer } from "./shared-server.ts";
import { identifier } from "./sql-text.ts";

/**
 * Drops the role unless it still owns a database. Other tenants may have granted it something in
 * databases of theirs, which would hold it here: those grants go first. To be called under the
 * role's lock.
 */
export async function dropRoleIfUnused(shared: SharedServer, roleName: string): Promise<void> {
  const { admin } = shared;
  const [role] = await admin<{ databases: number }[]>`
    SELECT (SELECT count(*)::int FROM pg_database WHERE datdba = r.oid) AS databases
    FROM pg_roles r WHERE rolname = ${roleName}`;
  if (role === undefined || role.databases > 0) return;
  // From here on nobody can log in as it, wherever this is cut off.
  await admin.unsafe(`ALTER ROLE ${identifier(roleName)} WITH NOLOGIN PASSWORD NULL`);
  await admin`
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = ${roleName}`;
  const grants = await admin<{ database: string }[]>`
    SELECT DISTINCT d.datname AS database
    FROM pg_shdepend s JOIN pg_roles r ON r.oid = s.refobjid JOIN pg_database d ON d.oid = s.dbid
    WHERE r.rolname = ${roleName} AND s.refclassid = 'pg_authid'::regclass AND d.datallowconn`;
  for (const { database } of grants) await dropOwned(shared, database, roleName);
  await admin.unsafe(`DROP OWNED BY ${identifier(roleName)}`);
  await admin.unsafe(`DROP ROLE IF EXISTS ${identifier(roleName)}`);
}

/**
 * DROP OWNED runs none of the code that the database's owner may have left for an administrator.
 */
async function dropOwned(shared: SharedServer, database: string, roleName: string): Promise<void> {
  const inside = openPostgres(shared.server, {
    applicationName: "ogel-engine",
    connectionsMax: 1,
    database,
    settings: ADMIN_SETTINGS,
  });
  try {
    await inside.unsafe(`DROP OWNED BY ${identifier(roleName)}`);
  } finally {
    await inside.end({ timeout: 1 });
  }
}
