/** Making, repairing and removing databases on a shared server, cut off at every step. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { Sql } from "postgres";
import type { Engine, PlacedDatabase } from "../../../platform/engines/engine.ts";
import { createPostgresEngine } from "../../../platform/engines/postgres.ts";
import { openSharedServer, type SharedServer } from "../../../platform/engines/shared-server.ts";
import { newDatabaseId, newOrgId } from "../../../platform/ids.ts";
import {
  adminServer,
  connectAsTenant,
  failureCode,
  TEST_MASTER_KEY,
} from "../../support/control-plane.ts";
import { startPostgres, type TestPostgres } from "../../support/postgres-server.ts";

/** Servers are started here, on a machine that may be busy. */
setDefaultTimeout(60_000);

let server: TestPostgres;
let shared: SharedServer;
let engine: Engine;

beforeAll(async () => {
  server = await startPostgres();
  shared = openSharedServer(adminServer(server.adminUrl));
  engine = createPostgresEngine({ masterKey: TEST_MASTER_KEY, sharedServers: [shared] });
});

afterAll(async () => {
  await shared.close();
  await server.stop();
});

async function newDatabase(orgId = newOrgId(), through = engine): Promise<PlacedDatabase> {
  const database = { databaseId: newDatabaseId(), orgId, name: "app" };
  const endpoint = await through.place(database);
  return { ...database, endpoint, credentialGeneration: 1, tempFileLimitBytes: 1_048_576 };
}

async function loginCode(database: PlacedDatabase, generation = 1): Promise<string> {
  const { orgId, databaseId } = database;
  const sql = connectAsTenant(server.adminUrl, orgId, databaseId, generation);
  const code = await failureCode(sql`SELECT 1`);
  await sql.end({ timeout: 1 });
  return code;
}

/** What of a tenant is on the server: its databases and its role. */
async function remains(database: PlacedDatabase): Promise<readonly string[]> {
  const rows = await shared.admin<{ name: string }[]>`
    SELECT datname AS name FROM pg_database WHERE datname = ${database.databaseId}
    UNION ALL SELECT rolname FROM pg_roles WHERE rolname = ${database.orgId} ORDER BY name`;
  return rows.map((row) => row.name);
}

/**
 * The same server, on which the statement after the first `allowed` ones fails as if it had been
 * cut off.
 */
function cutOffAfter(allowed: number): { shared: SharedServer; wasCut: () => boolean } {
  let statements = 0;
  let cut = false;
  const count = <T>(run: () => T): T => {
    statements += 1;
    if (statements <= allowed) return run();
    cut = true;
    throw new Error("cut off");
  };
  const admin = new Proxy(shared.admin, {
    apply: (target, self, args) => count(() => Reflect.apply(target, self, args)),
    get: (target, name) =>
      name === "unsafe"
        ? (text: string) => count(() => target.unsafe(text))
        : Reflect.get(target, name),
  }) as Sql;
  return { shared: { ...shared, admin }, wasCut: () => cut };
}

describe("provisioning", () => {
  test("gives a database that its role owns and can log in to, and may be repeated", async () => {
    const database = await newDatabase();
    await engine.provision(database);
    await engine.provision(database);
    expect(await loginCode(database)).toBe("no error");
    expect(await engine.sizeBytes(database)).toBeGreaterThan(1_000_000);
    const [row] = await shared.admin`
      SELECT rolname, datacl::text FROM pg_database d JOIN pg_roles r ON r.oid = datdba
      WHERE datname = ${database.databaseId}`;
    const role = database.orgId;
    expect(row).toEqual({ rolname: role, datacl: `{${role}=CTc/${role}}` });
  });

  test("holds a role to its tier's temporary files, and follows the tier", async () => {
    const database = await newDatabase();
    await engine.provision(database);
    const { orgId, databaseId } = database;
    const limitNow = async (): Promise<string> => {
      const sql = connectAsTenant(server.adminUrl, orgId, databaseId);
      const [row] = await sql<{ limit: string }[]>`
        SELECT current_setting('temp_file_limit') AS limit`;
      await sql.end();
      return row?.limit ?? "";
    };
    expect(await limitNow()).toBe("1MB");
    const sql = connectAsTenant(server.adminUrl, orgId, databaseId);
    for (const attempt of [
      "SET temp_file_limit = -1",
      "ALTER ROLE CURRENT_USER SET temp_file_limit = -1",
      "ALTER ROLE CURRENT_USER RESET temp_file_limit",
      `ALTER DATABASE ${databaseId} SET temp_file_limit = -1`,
    ]) {
      expect([attempt, await failureCode(sql.unsafe(attempt))]).toEqual([attempt, "42501"]);
    }
    await sql.unsafe("ALTER ROLE CURRENT_USER RESET ALL");
    await sql.end();
    expect(await limitNow()).toBe("1MB");
    await engine.applyLimits({ ...database, tempFileLimitBytes: 64 * 1_048_576 });
    expect(await limitNow()).toBe("64MB");
  });

  test("cut off after any of its statements is finished by the next attempt", async () => {
    for (let allowed = 0; ; allowed++) {
      const cut = cutOffAfter(allowed);
      const parts = { masterKey: TEST_MASTER_KEY, sharedServers: [cut.shared] };
      const database = await newDatabase();
      const attempt = createPostgresEngine(parts).provision(database);
      const failed = (await failureCode(attempt)) !== "no error";
      expect(failed).toBe(cut.wasCut());
      if (failed) {
        // Half made, it lets nobody in: neither its own role nor anybody else's.
        const stranger = await newDatabase();
        await engine.provision(stranger);
        const sql = connectAsTenant(server.adminUrl, stranger.orgId, database.databaseId);
        expect(["3D000", "42501", "55000"]).toContain(await failureCode(sql`SELECT 1`));
        await sql.end();
        await engine.drop(stranger);
      }
      await engine.provision(database);
      expect(await loginCode(database)).toBe("no error");
      await engine.drop(database);
      if (!failed) {
        expect(allowed).toBeGreaterThan(5);
        return;
      }
    }
  });

  test("goes on from what an interrupted DROP DATABASE left", async () => {
    const database = await newDatabase();
    await engine.provision(database);
    // The mark that PostgreSQL itself leaves when a drop is interrupted.
    await shared.admin`
      UPDATE pg_database SET datconnlimit = -2 WHERE datname = ${database.databaseId}`;
    await engine.provision(database);
    expect(await loginCode(database)).toBe("no error");
  });

  test("of many databases of one org at once makes them all", async () => {
    const first = await newDatabase();
    const others = await Promise.all([1, 2, 3, 4].map(() => newDatabase(first.orgId)));
    const all = [first, ...others];
    await Promise.all(all.map((database) => engine.provision(database)));
    for (const database of all) expect(await loginCode(database)).toBe("no error");
  });

  test("never puts a password or its clear text into a statement", () => {
    expect(server.log()).not.toMatch(/PASSWORD '(?!SCRAM-SHA-256\$)/);
  });
});

describe("dropping", () => {
  test("leaves nothing, and may be repeated", async () => {
    const database = await newDatabase();
    await engine.provision(database);
    const sql = connectAsTenant(server.adminUrl, database.orgId, database.databaseId);
    await sql`CREATE TABLE t AS SELECT 1`;
    await engine.drop(database);
    await engine.drop(database);
    expect(await remains(database)).toEqual([]);
    expect(await failureCode(sql`SELECT 1`)).not.toBe("no error");
    await sql.end({ timeout: 1 });
  });

  test("keeps the role while it owns another database here", async () => {
    const first = await newDatabase();
    const second = await newDatabase(first.orgId);
    await Promise.all([engine.provision(first), engine.provision(second)]);
    await engine.drop(first);
    expect(await loginCode(second)).toBe("no error");
    await engine.drop(second);
    expect(await remains(second)).toEqual([]);
  });

  test("cut off after any of its statements is finished by the next attempt", async () => {
    for (let allowed = 0; ; allowed++) {
      const database = await newDatabase();
      await engine.provision(database);
      const cut = cutOffAfter(allowed);
      const parts = { masterKey: TEST_MASTER_KEY, sharedServers: [cut.shared] };
      await failureCode(createPostgresEngine(parts).drop(database));
      await engine.drop(database);
      expect(await remains(database)).toEqual([]);
      if (!cut.wasCut()) return;
    }
  });
});

describe("a login that its tenant broke", () => {
  const breakages: readonly [string, string, string][] = [
    ["by changing its password", "ALTER ROLE {role} PASSWORD 'mine'", "28P01"],
    ["by dropping its password", "ALTER ROLE {role} PASSWORD NULL", "28P01"],
    ["by closing its database", "ALTER DATABASE {database} CONNECTION LIMIT 0", "53300"],
    ["by revoking its own right", "REVOKE CONNECT ON DATABASE {database} FROM {role}", "42501"],
    [
      "by a library that is not there",
      "ALTER ROLE {role} SET local_preload_libraries = x",
      "58P01",
    ],
    [
      "by a library in its database",
      "ALTER DATABASE {database} SET local_preload_libraries = x",
      "58P01",
    ],
    [
      "by a library in both together",
      "ALTER ROLE {role} IN DATABASE {database} SET local_preload_libraries = x",
      "58P01",
    ],
  ];

  test.each(breakages)("%s is repaired", async (_, statement, code) => {
    const database = await newDatabase();
    await engine.provision(database);
    const sql = connectAsTenant(server.adminUrl, database.orgId, database.databaseId);
    await sql.unsafe(`ALTER ROLE ${database.orgId} SET work_mem = '1MB'`);
    const text = statement
      .replace("{role}", database.orgId)
      .replace("{database}", database.databaseId);
    await sql.unsafe(text);
    await sql.end();
    expect(await loginCode(database)).toBe(code);
    await engine.repairLogin(database);
    expect(await loginCode(database)).toBe("no error");
    const [role] = await shared.admin`
      SELECT rolconfig FROM pg_roles WHERE rolname = ${database.orgId}`;
    expect(role?.["rolconfig"]).toEqual(["temp_file_limit=1024", "work_mem=1MB"]);
  });

  test("from another database of its own is repaired", async () => {
    const database = await newDatabase();
    const second = await newDatabase(database.orgId);
    await Promise.all([engine.provision(database), engine.provision(second)]);
    const sql = connectAsTenant(server.adminUrl, database.orgId, second.databaseId);
    await sql.unsafe(`ALTER DATABASE ${database.databaseId} ALLOW_CONNECTIONS false`);
    await sql.end();
    expect(await loginCode(database)).toBe("55000");
    await engine.repairLogin(database);
    expect(await loginCode(database)).toBe("no error");
  });
});

describe("credentials", () => {
  test("of a new generation replace those before", async () => {
    const database = await newDatabase();
    await engine.provision(database);
    await engine.rotateCredentials({ ...database, credentialGeneration: 2 });
    expect(await loginCode(database, 1)).toBe("28P01");
    expect(await loginCode(database, 2)).toBe("no error");
  });
});

describe("placement", () => {
  test("goes to the server with the least data, and around one that does not answer", async () => {
    await using other = await startPostgres();
    const second = openSharedServer(adminServer(other.adminUrl, "second"));
    const parts = { masterKey: TEST_MASTER_KEY, sharedServers: [shared, second] };
    const both = createPostgresEngine(parts);
    const first = await newDatabase(newOrgId(), both);
    expect(first.endpoint).toMatchObject({ via: "shared", server: "second" });
    await other.kill();
    const next = await newDatabase(newOrgId(), both);
    expect(next.endpoint).toMatchObject({ via: "shared", server: "main" });
    await second.close();
  });

  test("on a server that is no longer configured is said to be so", async () => {
    const database = await newDatabase();
    const none = createPostgresEngine({ masterKey: TEST_MASTER_KEY, sharedServers: [] });
    expect(none.provision(database)).rejects.toThrow("not in SHARED_POSTGRES_URLS");
  });
});
