/**
 * What a tenant can reach on a shared server, tried by its own role connecting straight to the
 * server.
 */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { Sql } from "postgres";
import type { OrgId } from "../../../platform/ids.ts";
import { createDatabase, dropDatabase } from "../../../platform/provisioning.ts";
import {
  connectAsTenant,
  createControlPlane,
  createProvisioning,
  failureCode,
  newOrg,
  TEST_ACTOR,
  type TestControlPlane,
  type TestProvisioning,
} from "../../support/control-plane.ts";
import { startPostgres, type TestPostgres } from "../../support/postgres-server.ts";

/** Servers are started here, on a machine that may be busy. */
setDefaultTimeout(60_000);

let server: TestPostgres;
let controlPlane: TestControlPlane;
let provisioning: TestProvisioning;
let alice: { orgId: OrgId; database: string; sql: Sql };
let mallory: { orgId: OrgId; database: string; sql: Sql };

async function tenant() {
  const orgId = await newOrg(controlPlane.sql);
  const request = { orgId, name: "app", kind: "postgres" } as const;
  const { databaseId } = await createDatabase(provisioning, request, TEST_ACTOR);
  return { orgId, database: databaseId, sql: connectAsTenant(server.adminUrl, orgId, databaseId) };
}

beforeAll(async () => {
  server = await startPostgres();
  controlPlane = await createControlPlane(server.adminUrl);
  provisioning = createProvisioning(controlPlane, server.adminUrl);
  alice = await tenant();
  mallory = await tenant();
  await alice.sql`CREATE TABLE secret AS SELECT 'treasure' AS text`;
});

afterAll(async () => {
  await alice.sql.end();
  await mallory.sql.end();
  await provisioning[Symbol.asyncDispose]();
  await controlPlane[Symbol.asyncDispose]();
  await server.stop();
});

describe("a tenant's own role", () => {
  test("may do in its database what an owner does", async () => {
    await mallory.sql.unsafe(`
      CREATE SCHEMA shop; CREATE TABLE shop.item (id int PRIMARY KEY); CREATE TEMP TABLE t (a int);
      CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE EXTENSION pgcrypto;
      CREATE TYPE mood AS ENUM ('ok'); DROP SCHEMA shop CASCADE;
      GRANT USAGE ON SCHEMA public TO PUBLIC`);
    const [row] = await mallory.sql`SELECT current_user AS name, f() AS one`;
    expect(row).toEqual({ name: mallory.orgId, one: 1 });
  });

  test("has no attribute beyond logging in, and is a member of nothing", async () => {
    const [role] = await mallory.sql`
      SELECT rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls, rolcanlogin
      FROM pg_roles WHERE rolname = current_user`;
    expect(role).toEqual({
      rolsuper: false,
      rolcreatedb: false,
      rolcreaterole: false,
      rolreplication: false,
      rolbypassrls: false,
      rolcanlogin: true,
    });
    expect(
      await mallory.sql`SELECT 1 FROM pg_auth_members WHERE member = current_user::regrole`,
    ).toHaveLength(0);
  });
});

describe("another org's database", () => {
  test("cannot be entered, nor any database of the platform", async () => {
    for (const database of [alice.database, "postgres", "template1"]) {
      const intruder = connectAsTenant(server.adminUrl, mallory.orgId, database);
      expect(await failureCode(intruder`SELECT 1`)).toBe("42501");
      await intruder.end();
    }
  });

  test.each([
    "SET ROLE {alice}",
    "SET SESSION AUTHORIZATION {alice}",
    "GRANT {alice} TO CURRENT_USER",
    "ALTER ROLE {alice} PASSWORD 'x'",
    "ALTER ROLE {alice} SET search_path = evil",
    "ALTER DATABASE {database} OWNER TO CURRENT_USER",
    "ALTER DATABASE {database} CONNECTION LIMIT 0",
    "ALTER DATABASE {database} SET search_path = evil",
    "GRANT CONNECT ON DATABASE {database} TO CURRENT_USER",
    "DROP DATABASE {database}",
    "CREATE DATABASE copy TEMPLATE {database}",
    "DROP ROLE {alice}",
    "SELECT pg_database_size('{database}')",
  ])("cannot be touched by %s", async (statement) => {
    const text = statement.replace("{alice}", alice.orgId).replace("{database}", alice.database);
    expect(await failureCode(mallory.sql.unsafe(text))).toBe("42501");
  });

  test("runs sessions that can be neither read nor signalled", async () => {
    await alice.sql`SELECT 'treasure of the moment'`;
    const sessions = await mallory.sql`
      SELECT pid, query, client_addr FROM pg_stat_activity WHERE usename = ${alice.orgId}`;
    expect(sessions).not.toHaveLength(0);
    for (const session of sessions) {
      expect(session["query"]).toBe("<insufficient privilege>");
      for (const signal of ["pg_cancel_backend", "pg_terminate_backend"]) {
        const sent = mallory.sql.unsafe(`SELECT ${signal}(${session["pid"]})`);
        expect(await failureCode(sent)).toBe("42501");
      }
    }
  });

  test("has no settings in which a secret could be kept for all to see", async () => {
    for (const owner of [`ROLE ${alice.orgId}`, `DATABASE ${alice.database}`]) {
      const kept = alice.sql.unsafe(`ALTER ${owner} SET app.key = 'treasure'`);
      expect(await failureCode(kept)).toBe("42501");
    }
  });

  test("and its org have names that say nothing", async () => {
    const names = await mallory.sql`
      SELECT datname AS name FROM pg_database UNION SELECT rolname FROM pg_roles`;
    for (const { name } of names)
      expect(name).toMatch(/^(db_|org_|pg_|ogel_|control_|template|postgres)/);
  });
});

describe("the server underneath", () => {
  test.each([
    ["runs no program", "COPY (SELECT 1) TO PROGRAM 'true'"],
    ["runs no program the other way", "COPY t FROM PROGRAM 'true'"],
    ["writes no file", "COPY (SELECT 1) TO '/tmp/x'"],
    ["reads no file", "SELECT pg_read_file('PG_VERSION')"],
    ["reads no file as bytes", "SELECT pg_read_binary_file('PG_VERSION')"],
    ["says nothing of a file", "SELECT pg_stat_file('PG_VERSION')"],
    ["lists no directory", "SELECT pg_ls_dir('.')"],
    ["lists no log", "SELECT pg_ls_logdir()"],
    ["imports no file", "SELECT lo_import('/etc/passwd')"],
    ["exports no file", "SELECT lo_export(1, '/tmp/x')"],
    ["shows no passwords", "SELECT rolpassword FROM pg_authid"],
    ["shows no passwords in its old view", "SELECT passwd FROM pg_shadow"],
    ["shows no rules of access", "SELECT * FROM pg_hba_file_rules"],
    ["gives no dblink", "CREATE EXTENSION dblink"],
    ["gives no postgres_fdw", "CREATE EXTENSION postgres_fdw"],
    ["gives no file_fdw", "CREATE EXTENSION file_fdw"],
    ["gives no untrusted language", "CREATE EXTENSION plpython3u"],
    ["gives no adminpack of pages", "CREATE EXTENSION pageinspect"],
    ["takes no C", "CREATE FUNCTION c() RETURNS int LANGUAGE c AS 'libc', 'system'"],
    ["takes no internals", "CREATE FUNCTION i() RETURNS int LANGUAGE internal AS 'int4in'"],
    ["takes no event trigger", "CREATE EVENT TRIGGER e ON login EXECUTE FUNCTION f()"],
    ["takes no settings", "ALTER SYSTEM SET work_mem = '1GB'"],
    ["reloads nothing", "SELECT pg_reload_conf()"],
    ["hides its places", "SHOW data_directory"],
    ["replicates nothing", "SELECT pg_create_physical_replication_slot('s')"],
    ["subscribes to nothing", "CREATE SUBSCRIPTION s CONNECTION '' PUBLICATION p"],
    ["makes no roles", "CREATE ROLE r"],
    ["makes no databases", "CREATE DATABASE d"],
    ["makes no tablespaces", "CREATE TABLESPACE s LOCATION '/tmp'"],
    ["gives no role of its own", "GRANT pg_read_all_data TO CURRENT_USER"],
  ])("%s", async (_, statement) => {
    await mallory.sql`CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'`;
    const code = await failureCode(mallory.sql.unsafe(statement));
    expect(["42501", "42P17"]).toContain(code);
  });

  test("takes no replication connection", async () => {
    const sql = connectAsTenant(server.adminUrl, mallory.orgId, mallory.database);
    sql.options.connection = { ...sql.options.connection, replication: "database" } as never;
    expect(await failureCode(sql.unsafe("IDENTIFY_SYSTEM").simple())).toBe("42501");
    await sql.end();
  });
});

describe("what a tenant leaves behind", () => {
  test("cannot hold another org's role here, nor its own database", async () => {
    const victim = await tenant();
    await victim.sql.end();
    await mallory.sql.unsafe(`
      CREATE TABLE bait (a int); GRANT SELECT ON bait TO ${victim.orgId};
      ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO ${victim.orgId};
      CREATE POLICY p ON bait TO ${victim.orgId};
      GRANT CONNECT ON DATABASE ${mallory.database} TO ${victim.orgId}`);
    await dropDatabase(provisioning, { orgId: victim.orgId, address: "app" }, TEST_ACTOR);
    const left = await provisioning.shared.admin`
      SELECT rolname FROM pg_roles WHERE rolname = ${victim.orgId}
      UNION ALL SELECT datname FROM pg_database WHERE datname = ${victim.database}`;
    expect(left).toHaveLength(0);
  });

  test("cannot keep its database from being dropped", async () => {
    const hostile = await tenant();
    const request = { orgId: hostile.orgId, name: "second", kind: "postgres" } as const;
    const second = await createDatabase(provisioning, request, TEST_ACTOR);
    const beside = connectAsTenant(server.adminUrl, hostile.orgId, second.databaseId);
    await hostile.sql.unsafe(`ALTER DATABASE ${hostile.database} IS_TEMPLATE true`);
    // An open transaction next door that holds the database's row.
    await beside.unsafe(`BEGIN; ALTER DATABASE ${hostile.database} CONNECTION LIMIT 3`);
    await dropDatabase(provisioning, { orgId: hostile.orgId, address: "app" }, TEST_ACTOR);
    const left = await provisioning.shared.admin`
      SELECT 1 FROM pg_database WHERE datname = ${hostile.database}`;
    expect(left).toHaveLength(0);
    await Promise.all([hostile.sql.end(), beside.end()]);
  });
});
