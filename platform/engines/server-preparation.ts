/**
 * Making a PostgreSQL server fit to be shared by orgs that do not trust each other. It is done at every start of Studio, and
 * doing it again changes nothing.
 *
 * What PostgreSQL denies to ordinary roles by itself, and tests hold: server files and programs (`COPY … PROGRAM`,
 * `pg_read_file`, `lo_import`, `pg_ls_dir`), untrusted extensions and languages (`dblink`, `postgres_fdw`, `plpython3u`),
 * other roles (`SET ROLE`, signals to their sessions, the text of their queries), replication. What is added here: nobody
 * enters a database that is not a tenant's, and tenants' databases are copies of a template that this file prepares.
 */
import type { Sql } from "postgres";
import { EngineError } from "./engine.ts";
import { type SharedServer, translated } from "./shared-server.ts";
import { identifier } from "./sql-text.ts";

/** What new databases are copied from. */
export const TEMPLATE_DATABASE = "template0";

/** From 15 on, new databases' `public` schema belongs to the database's owner and is closed to others. */
const SERVER_VERSION_MIN = 150_000;

/** Throws an `EngineError` when the server cannot be reached, is too old, or its login is no superuser. */
export async function prepareServer(shared: SharedServer): Promise<void> {
  await translated(shared, async () => {
    await checkServer(shared);
    await closeOtherDatabases(shared.admin);
  });
}

async function checkServer({ server, admin }: SharedServer): Promise<void> {
  const [row] = await admin<{ version: number; superuser: boolean }[]>`
    SELECT current_setting('server_version_num')::int AS version, rolsuper AS superuser
    FROM pg_roles WHERE rolname = current_user`;
  if ((row?.version ?? 0) < SERVER_VERSION_MIN) {
    throw new EngineError("refused", `Server ${server.name} is older than PostgreSQL 15.`);
  }
  if (row?.superuser !== true) {
    throw new EngineError(
      "refused",
      `The login for server ${server.name} in SHARED_POSTGRES_URLS is not a superuser.`,
    );
  }
}

/** PostgreSQL lets everybody into a new database and make temporary tables there, until told otherwise. */
async function closeOtherDatabases(admin: Sql): Promise<void> {
  const open = await admin<{ name: string }[]>`
    SELECT datname AS name FROM pg_database d JOIN pg_roles r ON r.oid = d.datdba
    WHERE r.rolsuper AND (datacl IS NULL OR EXISTS (
      SELECT 1 FROM aclexplode(datacl) WHERE grantee = 0))`;
  for (const { name } of open) {
    await admin.unsafe(`REVOKE ALL ON DATABASE ${identifier(name)} FROM PUBLIC`);
  }
}
