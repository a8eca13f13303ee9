/** From a request to a database that can be connected to, whoever is killed on the way. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import path from "node:path";
import {
  enterDatabase,
  findDatabase,
  getDatabase,
  listDatabases,
} from "../../platform/control/databases.ts";
import { setTier } from "../../platform/control/orgs.ts";
import { EngineError } from "../../platform/engines/engine.ts";
import type { OrgId } from "../../platform/ids.ts";
import {
  applyOrgLimits,
  createDatabase,
  dropDatabase,
  sweepDatabases,
} from "../../platform/provisioning.ts";
import {
  connectAsTenant,
  createControlPlane,
  createProvisioning,
  failureCode,
  newOrg,
  TEST_ACTOR,
  type TestControlPlane,
  type TestProvisioning,
} from "../support/control-plane.ts";
import { startPostgres, type TestPostgres } from "../support/postgres-server.ts";

/** Servers are started here, on a machine that may be busy. */
setDefaultTimeout(60_000);

let server: TestPostgres;
let plane: TestControlPlane;
let parts: TestProvisioning;

beforeAll(async () => {
  server = await startPostgres();
  plane = await createControlPlane(server.adminUrl);
  parts = createProvisioning(plane, server.adminUrl);
});

afterAll(async () => {
  await parts[Symbol.asyncDispose]();
  await plane[Symbol.asyncDispose]();
  await server.stop();
});

const request = (orgId: OrgId, name = "app") => ({ orgId, name, kind: "postgres" }) as const;

async function loginCode(orgId: OrgId, name = "app"): Promise<string> {
  const { databaseId } = await getDatabase(plane.sql, orgId, name);
  const sql = connectAsTenant(server.adminUrl, orgId, databaseId);
  const code = await failureCode(sql`SELECT 1`);
  await sql.end({ timeout: 1 });
  return code;
}

/** Runs the act in a process that is killed `delayMs` after it began. */
async function killedChild(act: "create" | "drop", orgId: OrgId, delayMs: number): Promise<void> {
  const script = path.join(import.meta.dirname, "../support/provisioning-child.ts");
  const command = [process.execPath, script, plane.url, server.adminUrl, act, orgId, "app"];
  const child = Bun.spawn(command, { stdout: "pipe", stderr: "inherit" });
  const reader = child.stdout.getReader();
  await reader.read();
  const timer = setTimeout(() => child.kill("SIGKILL"), delayMs);
  await child.exited;
  clearTimeout(timer);
  reader.releaseLock();
}

/** As Studio does from time to time, until nothing is left to do. */
async function sweepUntilDone(): Promise<void> {
  while ((await sweepDatabases(parts)) > 0);
}

describe("creating a database", () => {
  test("answers when it can be connected to, and again with the same one", async () => {
    const orgId = await newOrg(plane.sql);
    const database = await createDatabase(parts, request(orgId), TEST_ACTOR);
    expect(database.status).toBe("ready");
    expect(await loginCode(orgId)).toBe("no error");
    const again = await createDatabase(parts, request(orgId), TEST_ACTOR);
    expect(again.databaseId).toBe(database.databaseId);
  });

  test("by several callers at once makes one, for which all wait", async () => {
    const orgId = await newOrg(plane.sql);
    const all = await Promise.all(
      [1, 2, 3, 4].map(() => createDatabase(parts, request(orgId), TEST_ACTOR)),
    );
    expect(new Set(all.map((database) => database.databaseId)).size).toBe(1);
    expect(new Set(all.map((database) => database.status))).toEqual(new Set(["ready"]));
  });

  test("in a process that is killed, wherever, is finished by the sweep", async () => {
    for (const delayMs of [0, 10, 25, 50, 90, 140]) {
      const orgId = await newOrg(plane.sql);
      await killedChild("create", orgId, delayMs);
      await sweepUntilDone();
      for (const database of await listDatabases(plane.sql, orgId)) {
        expect(database.status).toBe("ready");
        expect(await loginCode(orgId)).toBe("no error");
      }
    }
  });

  test("in a process that is killed, wherever, is finished by the same request", async () => {
    for (const delayMs of [15, 70]) {
      const orgId = await newOrg(plane.sql);
      await killedChild("create", orgId, delayMs);
      await createDatabase(parts, request(orgId), TEST_ACTOR);
      expect(await loginCode(orgId)).toBe("no error");
    }
  });

  test("that an engine refuses is failed with the reason, to be tried again or dropped", async () => {
    const orgId = await newOrg(plane.sql);
    const refuse = (): Promise<never> =>
      Promise.reject(new EngineError("refused", "The disk is full."));
    const { postgres } = parts.engines;
    if (typeof postgres === "string") throw new Error(postgres);
    const refusing = { ...postgres, provision: refuse };
    const broken = { ...parts, engines: { ...parts.engines, postgres: refusing } };
    const attempt = createDatabase(broken, request(orgId), TEST_ACTOR);
    expect(await failureCode(attempt)).toBe("provisioning_failed");
    const failed = await getDatabase(plane.sql, orgId, "app");
    expect(failed).toMatchObject({ status: "failed", failureReason: "The disk is full." });
    expect(await sweepDatabases(parts)).toBe(0);
    const retried = await createDatabase(parts, request(orgId), TEST_ACTOR);
    expect(retried).toMatchObject({ status: "ready", failureReason: null });

    await failureCode(createDatabase(broken, request(orgId, "second"), TEST_ACTOR));
    await dropDatabase(parts, { orgId, address: "second" }, TEST_ACTOR);
    expect(await listDatabases(plane.sql, orgId)).toHaveLength(1);
  });

  test("of a kind that is not there is refused with the reason, and leaves no trace", async () => {
    const orgId = await newOrg(plane.sql);
    for (const kind of ["redis", "mongodb", "convex", "neon"] as const) {
      const attempt = createDatabase(parts, { orgId, name: "app", kind }, TEST_ACTOR);
      expect(await failureCode(attempt)).toBe("kind_unavailable");
    }
    expect(await listDatabases(plane.sql, orgId)).toHaveLength(0);
  });
});

describe("dropping a database", () => {
  test("frees its name and its place under the limit, and keeps its row for usage", async () => {
    const orgId = await newOrg(plane.sql, "FREE");
    for (const name of ["a", "b", "c"]) {
      await createDatabase(parts, request(orgId, name), TEST_ACTOR);
    }
    const dropped = await getDatabase(plane.sql, orgId, "a");
    await dropDatabase(parts, { orgId, address: "a" }, TEST_ACTOR);
    const next = await createDatabase(parts, request(orgId, "a"), TEST_ACTOR);
    expect(next.databaseId).not.toBe(dropped.databaseId);
    expect(await findDatabase(plane.sql, dropped.databaseId)).toBeNull();
    const kept = await plane.sql`
      SELECT name FROM database
      WHERE database_id = ${dropped.databaseId} AND dropped_at IS NOT NULL`;
    expect([...kept]).toEqual([{ name: "a" }]);
    const missing = dropDatabase(parts, { orgId, address: "gone" }, TEST_ACTOR);
    expect(await failureCode(missing)).toBe("database_not_found");
  });

  test("in a process that is killed, wherever, is finished by the sweep", async () => {
    for (const delayMs of [0, 10, 25, 50]) {
      const orgId = await newOrg(plane.sql);
      await createDatabase(parts, request(orgId), TEST_ACTOR);
      await killedChild("drop", orgId, delayMs);
      await sweepUntilDone();
      const left = await listDatabases(plane.sql, orgId);
      // Killed before it had begun, it changed nothing; otherwise nothing is left.
      for (const database of left) expect(database.status).toBe("ready");
      const [role] = await parts.shared.admin`
        SELECT count(*)::int AS count FROM pg_roles WHERE rolname = ${orgId}`;
      expect(role?.["count"]).toBe(left.length);
    }
  });

  test("before it was placed needs no server", async () => {
    const orgId = await newOrg(plane.sql);
    await enterDatabase(plane.sql, request(orgId), TEST_ACTOR);
    const nowhere = { ...parts, engines: { ...parts.engines, postgres: "Gone." } };
    await dropDatabase(nowhere, { orgId, address: "app" }, TEST_ACTOR);
    expect(await listDatabases(plane.sql, orgId)).toHaveLength(0);
  });

  test("whose server is away goes on by itself when it is back", async () => {
    await using away = await startPostgres({ settings: { synchronous_commit: "on" } });
    await using far = createProvisioning(plane, away.adminUrl);
    const orgId = await newOrg(plane.sql);
    await createDatabase(far, request(orgId), TEST_ACTOR);
    await away.kill();
    const attempt = dropDatabase(far, { orgId, address: "app" }, TEST_ACTOR);
    expect(await failureCode(attempt)).toBe("unavailable");
    expect(await getDatabase(plane.sql, orgId, "app")).toMatchObject({ status: "dropping" });
    await away.restart();
    while ((await sweepDatabases(far)) > 0);
    expect(await listDatabases(plane.sql, orgId)).toHaveLength(0);
  });
});

test("an org's role has its tier's limits from the first, and the new ones after a change", async () => {
  const orgId = await newOrg(plane.sql, "FREE");
  await createDatabase(parts, request(orgId), TEST_ACTOR);
  const settings = async (): Promise<unknown> => {
    const [role] = await parts.shared.admin`
      SELECT rolconfig FROM pg_roles WHERE rolname = ${orgId}`;
    return role?.["rolconfig"];
  };
  expect(await settings()).toEqual(["temp_file_limit=262144"]);
  await setTier(plane.sql, orgId, "PRO", TEST_ACTOR);
  await applyOrgLimits(parts, orgId);
  expect(await settings()).toEqual(["temp_file_limit=8388608"]);
});
