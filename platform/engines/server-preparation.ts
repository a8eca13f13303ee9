/**
 * Making a PostgreSQL server fit to be shared by orgs that do not trust each other. It is done
 * before the first database is made there and at every start of Studio; doing it again changes
 * nothing.
 *
 * What PostgreSQL denies to ordinary roles by itself, and tests hold: the server's files and
 * programs (`COPY … PROGRAM`, `pg_read_file`, `lo_import`, `pg_ls_dir`), untrusted extensions and
 * languages (`dblink`, `postgres_fdw`, `plpython3u`), other roles (`SET ROLE`, signals to their
 * sessions, the text of their queries), replication, and settings of their own making (`ALTER
 * ROLE … SET app.key`), which everybody on a server could read. What is added here: nobody enters
 * a database that is not a tenant's.
 *
 * What stays visible to all tenants of a server is that others exist, under ids that say nothing,
 * how busy their databases are, the `application_name` of their sessions, the plain settings of
 * their roles and databases (a time zone, a search path), and a COMMENT ON DATABASE.
 */
import type { Sql } from "postgres";
import { EngineError } from "./engine.ts";
import { type SharedServer, translated, withServerLock } from "./shared-server.ts";
import { identifier } from "./sql-text.ts";

/** From 15 on, a new database's `public` schema belongs to its owner and is closed to others. */
const SERVER_VERSION_MIN = 150_000;

const prepared = new WeakMap<SharedServer, Promise<void>>();

/**
 * Throws an `EngineError` when the server cannot be reached, is too old, or its login is no
 * superuser. Once it has succeeded for `shared` it is not done again.
 */
export function prepareServer(shared: SharedServer): Promise<void> {
  const earlier = prepared.get(shared);
  if (earlier !== undefined) return earlier;
  const preparation = prepare(shared);
  prepared.set(shared, preparation);
  preparation.catch(() => prepared.delete(shared));
  return preparation;
}

async function prepare(shared: SharedServer): Promise<void> {
  await translated(shared, () => checkServer(shared));
  await withServerLock(shared, "preparation", closeOtherDatabases);
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

/** PostgreSQL lets everybody into a new database to make temporary tables, until told otherwise. */
async function closeOtherDatabases(admin: Sql): Promise<void> {
  const open = await admin<{ name: string }[]>`
    SELECT datname AS name FROM pg_database d JOIN pg_roles r ON r.oid = d.datdba
    WHERE r.rolsuper AND (datacl IS NULL OR EXISTS (
      SELECT 1 FROM aclexplode(datacl) WHERE grantee = 0))`;
  for (const { name } of open) {
    await admin.unsafe(`REVOKE ALL ON DATABASE ${identifier(name)} FROM PUBLIC`);
  }
}
