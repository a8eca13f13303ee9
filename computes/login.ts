/** What a compute's tenant is inside it: one role that owns one database, and can log in. */
import { ComputeHostError, type NewCompute } from "../platform/compute-host.ts";
import { parseDatabaseId, parseOrgId } from "../platform/ids.ts";
import { parseVerifier } from "../platform/scram.ts";
import { ADMIN_DATABASE, UNNAMED_DATABASE, UNNAMED_ROLE, withAdmin } from "./template.ts";

/** Names that PostgreSQL needs for itself in every compute. */
const RESERVED_DATABASES: readonly string[] = ["template0", "template1"];

/**
 * A description that may be put into SQL: every name keeps a rule that leaves nothing to quote.
 * @throws ComputeHostError `invalid`, naming the field.
 */
export function checkNewCompute(compute: NewCompute): NewCompute {
  const fault =
    parseDatabaseId(compute.computeId) === null
      ? "computeId must be a database id."
      : !/^[a-z][a-z0-9_-]{0,62}$/.test(compute.databaseName) ||
          RESERVED_DATABASES.includes(compute.databaseName)
        ? "databaseName must be a database name, and neither template0 nor template1."
        : parseOrgId(compute.roleName) === null
          ? "roleName must be an org id."
          : parseVerifier(compute.passwordVerifier) === null ||
              compute.passwordVerifier.length > 300
            ? "passwordVerifier must be a SCRAM-SHA-256 verifier."
            : null;
  if (fault !== null) throw new ComputeHostError("invalid", fault);
  return compute;
}

export type LoginTarget = { readonly socketDirectory: string; readonly password: string };

/**
 * Gives the copied role and database their names and owner, and the role its verifier. One
 * transaction, and nothing but names is presumed of the state it finds, so it can be repeated at
 * any time.
 */
export async function nameOwner(target: LoginTarget, compute: NewCompute): Promise<void> {
  const { databaseName: database, roleName: role } = compute;
  await withAdmin({ ...target, database: ADMIN_DATABASE }, async (sql) => {
    await sql.begin(async (tx) => {
      const [found] = await tx<{ role: boolean; database: boolean }[]>`
        SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = ${role}) AS role,
               EXISTS (SELECT FROM pg_database WHERE datname = ${database}) AS database`;
      if (found?.role !== true) {
        await tx.unsafe(`ALTER ROLE "${UNNAMED_ROLE}" RENAME TO "${role}"`);
      }
      if (found?.database !== true) {
        await tx.unsafe(`ALTER DATABASE "${UNNAMED_DATABASE}" RENAME TO "${database}"`);
      }
      await tx.unsafe(openLogin(compute));
    });
  });
}

/**
 * Lifts whatever the tenant did to its own role and database that keeps it from logging in: its
 * password, limits, revoked rights, and settings that make a session fail before it begins.
 */
export async function restoreLogin(target: LoginTarget, compute: NewCompute): Promise<void> {
  const { databaseName: database, roleName: role } = compute;
  const scopes = [
    `ROLE "${role}"`,
    `DATABASE "${database}"`,
    `ROLE "${role}" IN DATABASE "${database}"`,
  ];
  const resets = scopes.flatMap((scope) =>
    LOGIN_SETTINGS.map((setting) => `ALTER ${scope} RESET ${setting}`),
  );
  await withAdmin({ ...target, database: ADMIN_DATABASE }, (sql) =>
    sql.unsafe([openLogin(compute), ...resets].join(";\n")),
  );
}

/** A value of these that no longer works, or never did, ends a session as it starts. */
const LOGIN_SETTINGS = ["local_preload_libraries", "role", "session_authorization"] as const;

function openLogin(compute: NewCompute): string {
  const { databaseName: database, roleName: role, passwordVerifier } = compute;
  return [
    `ALTER ROLE "${role}" LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS ` +
      `CONNECTION LIMIT -1 VALID UNTIL 'infinity' PASSWORD '${passwordVerifier}'`,
    `ALTER DATABASE "${database}" OWNER TO "${role}"`,
    `ALTER DATABASE "${database}" ALLOW_CONNECTIONS true`,
    `ALTER DATABASE "${database}" CONNECTION LIMIT -1`,
    `GRANT ALL ON DATABASE "${database}" TO "${role}"`,
  ].join(";\n");
}
