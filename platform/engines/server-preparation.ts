/**
 * Making a PostgreSQL server fit to be shared by orgs that do not trust each other. It is done before the
 * first database is made there and at every start of Studio; doing it again changes nothing.
 *
 * What PostgreSQL denies to ordinary roles by itself, and tests hold: the server's files and programs
 * (`COPY … PROGRAM`, `pg_read_file`, `lo_import`, `pg_ls_dir`), untrusted extensions and languages
 * (`dblink`, `postgres_fdw`, `plpython3u`), other roles (`SET ROLE`, signals to their sessions, the text
 * of their queries), replication. What is added here:
 *
 * - Nobody enters a database that is not a tenant's.
 * - Tenants' databases are copies of a template in which the settings of other roles and databases cannot
 *   be read: PostgreSQL shows them to everybody, and people keep secrets in them. The price is that
 *   `\drds` and `pg_dump --create` are refused to tenants.
 *
 * What stays visible to all tenants of a server is that others exist, under ids that say nothing, how busy
 * their databases are, the `application_name` of their sessions, and a COMMENT ON DATABASE.
 */
import type { Sql } from "postgres";
import { openPostgres } from "../postgres-client.ts";
import { EngineError } from "./engine.ts";
import { ADMIN_SETTINGS, type SharedServer, translated, withServerLock } from "./shared-server.ts";
import { identifier, literal } from "./sql-text.ts";

/** What new databases are copied from. */
export const TEMPLATE_DATABASE = "ogel_template";

/** Kept as the template's comment. A new version replaces the template when servers are next prepared. */
const TEMPLATE_VERSION = "ogel template 1";

/** From 15 on, a new database's `public` schema belongs to its owner and is closed to others. */
const SERVER_VERSION_MIN = 150_000;

const prepared = new WeakMap<SharedServer, Promise<void>>();

/**
 * Throws an `EngineError` when the server cannot be reached, is too old, or its login is no superuser.
 * Once it has succeeded for `shared` it is not done again.
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
  await withServerLock(shared, "preparation", async (admin) => {
    await closeOtherDatabases(admin);
    await makeTemplate(shared, admin);
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

async function makeTemplate(shared: SharedServer, admin: Sql): Promise<void> {
  const [found] = await admin<{ version: string | null }[]>`
    SELECT shobj_description(oid, 'pg_database') AS version
    FROM pg_database WHERE datname = ${TEMPLATE_DATABASE}`;
  if (found?.version === TEMPLATE_VERSION) return;
  const template = identifier(TEMPLATE_DATABASE);
  if (found !== undefined) {
    await admin.unsafe(`ALTER DATABASE ${template} WITH IS_TEMPLATE false`);
    await admin.unsafe(`DROP DATABASE ${template} WITH (FORCE)`);
  }
  // The limit keeps everybody out but superusers, whom it does not concern.
  await admin.unsafe(
    `CREATE DATABASE ${template} TEMPLATE template0 ENCODING 'UTF8' CONNECTION LIMIT 0`,
  );
  await admin.unsafe(`REVOKE ALL ON DATABASE ${template} FROM PUBLIC`);
  const inside = openPostgres(shared.server, {
    applicationName: "ogel-engine",
    connectionsMax: 1,
    database: TEMPLATE_DATABASE,
    settings: { ...ADMIN_SETTINGS, allow_system_table_mods: "on" },
  });
  try {
    await hideSettings(inside);
  } finally {
    await inside.end({ timeout: 5 });
  }
  await admin.unsafe(`ALTER DATABASE ${template} WITH ALLOW_CONNECTIONS false IS_TEMPLATE true`);
  await admin.unsafe(`COMMENT ON DATABASE ${template} IS ${literal(TEMPLATE_VERSION)}`);
}

/** Leaves a role its own settings in the views, and the table behind them to superusers. */
async function hideSettings(inside: Sql): Promise<void> {
  await inside`REVOKE SELECT ON pg_catalog.pg_db_role_setting FROM PUBLIC`;
  // Or every dump of a tenant's database would carry this REVOKE along.
  await inside`
    UPDATE pg_catalog.pg_init_privs
    SET initprivs = (SELECT relacl FROM pg_class WHERE oid = 'pg_db_role_setting'::regclass)
    WHERE objoid = 'pg_db_role_setting'::regclass AND classoid = 'pg_class'::regclass`;
  await maskColumn(inside, { view: "pg_roles", column: "rolconfig", role: "rolname" });
  await maskColumn(inside, { view: "pg_user", column: "useconfig", role: "usename" });
}

/** Rebuilds a view over its own definition, so that it keeps the columns of this server's version. */
async function maskColumn(
  inside: Sql,
  mask: { readonly view: string; readonly column: string; readonly role: string },
): Promise<void> {
  const [row] = await inside<{ definition: string; columns: string[] }[]>`
    SELECT pg_get_viewdef(c.oid) AS definition,
      ARRAY(SELECT attname::text FROM pg_attribute
        WHERE attrelid = c.oid AND attnum > 0 ORDER BY attnum) AS columns
    FROM pg_class c WHERE c.oid = ${`pg_catalog.${mask.view}`}::regclass`;
  const { definition = "", columns = [] } = row ?? {};
  const shown = columns.map((column) =>
    column === mask.column
      ? `CASE WHEN ${mask.role} = current_user THEN ${column} END AS ${column}`
      : identifier(column),
  );
  await inside.unsafe(
    `CREATE OR REPLACE VIEW pg_catalog.${mask.view} AS
      SELECT ${shown.join(", ")} FROM (${definition.replace(/;\s*$/, "")}) AS everybody`,
  );
}
