/**
 * Databases on PostgreSQL servers that orgs share. An org is a role of its own id there, which
 * owns its databases and nothing else; a database is called by its id, so that what other tenants
 * can list says nothing.
 *
 * Nothing here runs inside a tenant's database unless it must: an administrator's session in
 * there would meet what its owner left for it.
 */
import type { Sql } from "postgres";
import type { Endpoint } from "../endpoints.ts";
import { type MasterKey, upstreamVerifier } from "../upstream-credentials.ts";
import { type Engine, EngineError, type PlacedDatabase } from "./engine.ts";
import { dropRoleIfUnused } from "./role-removal.ts";
import { prepareServer } from "./server-preparation.ts";
import { errorCode, type SharedServer, translated, withServerLock } from "./shared-server.ts";
import { identifier, literal } from "./sql-text.ts";

export type PostgresEngineParts = {
  readonly masterKey: MasterKey;
  readonly sharedServers: readonly SharedServer[];
};

type Place = {
  readonly shared: SharedServer;
  readonly databaseName: string;
  readonly roleName: string;
  readonly verifier: string;
  readonly tempFileLimitBytes: number;
};

const ROLE_ATTRIBUTES =
  "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS INHERIT " +
  "CONNECTION LIMIT -1 VALID UNTIL 'infinity'";

/**
 * Settings with which an org, which may configure its role and its databases, can keep itself
 * from logging in: a library that does not exist ends every session at its start. Other wrong
 * values only warn.
 */
const LOGIN_BREAKING_SETTINGS = ["local_preload_libraries"] as const;

export function createPostgresEngine(parts: PostgresEngineParts): Engine {
  const placeOf = (database: PlacedDatabase): Place => {
    const { endpoint, credentialGeneration, tempFileLimitBytes } = database;
    const shared =
      endpoint.via === "shared"
        ? parts.sharedServers.find(({ server }) => server.name === endpoint.server)
        : undefined;
    if (endpoint.via !== "shared" || shared === undefined) {
      throw new EngineError(
        "refused",
        `The server of database ${database.name} is not in SHARED_POSTGRES_URLS.`,
      );
    }
    const { databaseName, roleName } = endpoint;
    const verifier = upstreamVerifier(parts.masterKey, roleName, credentialGeneration);
    return { shared, databaseName, roleName, verifier, tempFileLimitBytes };
  };
  const under = async <T>(
    database: PlacedDatabase,
    act: (admin: Sql, place: Place) => Promise<T>,
  ): Promise<T> => {
    const place = placeOf(database);
    return await withServerLock(place.shared, `role ${place.roleName}`, (admin) =>
      pastOwnLocks(admin, place.roleName, () => act(admin, place)),
    );
  };

  return {
    kind: "postgres",
    async place({ databaseId, orgId }): Promise<Endpoint> {
      const server = await roomiestServer(parts.sharedServers);
      return { via: "shared", server, databaseName: databaseId, roleName: orgId };
    },
    async provision(database) {
      await prepareServer(placeOf(database).shared);
      await under(database, provision);
    },
    drop: (database) =>
      under(database, async (admin, place) => {
        await dropDatabase(admin, place.databaseName);
        await dropRoleIfUnused(place.shared, place.roleName);
      }),
    repairLogin: (database) => under(database, repairLogin),
    rotateCredentials: (database) => under(database, setRole),
    applyLimits: (database) => under(database, setLimits),
    async sizeBytes(database) {
      const { shared, databaseName } = placeOf(database);
      return await translated(shared, async () => {
        const [row] = await shared.admin<{ bytes: string }[]>`
          SELECT pg_database_size(oid) AS bytes FROM pg_database WHERE datname = ${databaseName}`;
        return Number(row?.bytes ?? 0);
      });
    },
  };
}

/**
 * Runs `act`, which may be repeated. Where it meets a lock, that can only be the org's own: an open
 * transaction that changes its role or a database of its. The org's sessions are ended then.
 */
async function pastOwnLocks<T>(admin: Sql, roleName: string, act: () => Promise<T>): Promise<T> {
  try {
    return await act();
  } catch (error) {
    if (errorCode(error) !== "55P03") throw error;
    await admin`
      SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = ${roleName}`;
    return await act();
  }
}

/**
 * Until the last step nobody but an administrator can enter the database, so that a kill anywhere
 * leaves nothing open.
 */
async function provision(admin: Sql, place: Place): Promise<void> {
  await setRole(admin, place);
  await createDatabase(admin, place.databaseName);
  const database = identifier(place.databaseName);
  await admin.unsafe(`REVOKE ALL ON DATABASE ${database} FROM PUBLIC`);
  await admin.unsafe(`ALTER DATABASE ${database} OWNER TO ${identifier(place.roleName)}`);
  await admin.unsafe(`ALTER DATABASE ${database} WITH ALLOW_CONNECTIONS true`);
}

/** The role with exactly these attributes, limits and this verifier, made where it is missing. */
async function setRole(admin: Sql, place: Place): Promise<void> {
  const { roleName, verifier } = place;
  const [role] = await admin`SELECT 1 FROM pg_roles WHERE rolname = ${roleName}`;
  const verb = role === undefined ? "CREATE" : "ALTER";
  await admin.unsafe(
    `${verb} ROLE ${identifier(roleName)} WITH ${ROLE_ATTRIBUTES} PASSWORD ${literal(verifier)}`,
  );
  await setLimits(admin, place);
}

/**
 * What only a superuser may set, and so the role can neither raise nor reset: it is in force from a
 * session's next login on. The settings that a role may change are O7s's to hold it to.
 */
async function setLimits(admin: Sql, place: Place): Promise<void> {
  const kilobytes = Math.floor(place.tempFileLimitBytes / 1_024);
  await admin.unsafe(`ALTER ROLE ${identifier(place.roleName)} SET temp_file_limit = ${kilobytes}`);
}

async function createDatabase(admin: Sql, databaseName: string): Promise<void> {
  const [found] = await admin<{ invalid: boolean }[]>`
    SELECT datconnlimit = -2 AS invalid FROM pg_database WHERE datname = ${databaseName}`;
  if (found?.invalid === false) return;
  // What an interrupted DROP DATABASE left behind can only be dropped.
  if (found?.invalid === true) await dropDatabase(admin, databaseName);
  try {
    await admin.unsafe(
      // Not template1, where anybody's administrator may have left something.
      `CREATE DATABASE ${identifier(databaseName)} TEMPLATE template0 ENCODING 'UTF8' ` +
        "ALLOW_CONNECTIONS false",
    );
  } catch (error) {
    // A server goes on with a CREATE DATABASE whose client was killed, and may finish it after we
    // looked.
    const code = errorCode(error);
    if (code !== "42P04" && code !== "23505") throw error;
  }
}

async function dropDatabase(admin: Sql, databaseName: string): Promise<void> {
  const [found] = await admin<{ invalid: boolean }[]>`
    SELECT datconnlimit = -2 AS invalid FROM pg_database WHERE datname = ${databaseName}`;
  if (found === undefined) return;
  const database = identifier(databaseName);
  if (!found.invalid) {
    // Its owner may have made it a template, which cannot be dropped.
    await admin.unsafe(`ALTER DATABASE ${database} WITH ALLOW_CONNECTIONS false IS_TEMPLATE false`);
  }
  await admin.unsafe(`DROP DATABASE IF EXISTS ${database} WITH (FORCE)`);
}

async function repairLogin(admin: Sql, place: Place): Promise<void> {
  await setRole(admin, place);
  const database = identifier(place.databaseName);
  const role = identifier(place.roleName);
  const [found] = await admin`SELECT 1 FROM pg_database WHERE datname = ${place.databaseName}`;
  if (found === undefined) {
    throw new EngineError("refused", "The database was dropped by its owner from within.");
  }
  await admin.unsafe(`ALTER DATABASE ${database} WITH ALLOW_CONNECTIONS true CONNECTION LIMIT -1`);
  await admin.unsafe(`GRANT ALL ON DATABASE ${database} TO ${role}`);
  for (const setting of LOGIN_BREAKING_SETTINGS) {
    await admin.unsafe(`ALTER ROLE ${role} RESET ${setting}`);
    await admin.unsafe(`ALTER DATABASE ${database} RESET ${setting}`);
    await admin.unsafe(`ALTER ROLE ${role} IN DATABASE ${database} RESET ${setting}`);
  }
}

/** The server with the least data, of those that answer. */
async function roomiestServer(servers: readonly SharedServer[]): Promise<string> {
  const [only] = servers;
  if (servers.length === 1 && only !== undefined) return only.server.name;
  const sizes = await Promise.all(
    servers.map(async ({ server, admin }) => {
      try {
        const [row] = await admin<{ bytes: string }[]>`
          SELECT coalesce(sum(pg_database_size(oid)), 0) AS bytes FROM pg_database`;
        return { name: server.name, bytes: Number(row?.bytes ?? 0) };
      } catch {
        return null; // It may come back; new databases go elsewhere until then.
      }
    }),
  );
  const [roomiest] = sizes
    .filter((size) => size !== null)
    .sort((a, b) => a.bytes - b.bytes || a.name.localeCompare(b.name));
  if (roomiest === undefined) {
    throw new EngineError("unreachable", "No shared PostgreSQL server answers.");
  }
  return roomiest.name;
}
