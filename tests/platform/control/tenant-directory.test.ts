/**
 * What the proxy hears of tenants: everything that changes, also across a restart of the control
 * plane.
 */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { setLimits, setOrgStatus, setTier } from "../../../platform/control/orgs.ts";
import { createTenantDirectory } from "../../../platform/control/tenant-directory.ts";
import { createToken, revokeToken } from "../../../platform/control/tokens.ts";
import type { OrgId } from "../../../platform/ids.ts";
import { openControlPlane } from "../../../platform/postgres-client.ts";
import { createDatabase, dropDatabase } from "../../../platform/provisioning.ts";
import type { TenantDirectory } from "../../../platform/tenants.ts";
import {
  createControlPlane,
  createProvisioning,
  newOrg,
  TEST_ACTOR,
  type TestControlPlane,
} from "../../support/control-plane.ts";
import { startPostgres, type TestPostgres } from "../../support/postgres-server.ts";

/** Servers are started here, on a machine that may be busy. */
setDefaultTimeout(60_000);

let server: TestPostgres;
let plane: TestControlPlane;

beforeAll(async () => {
  server = await startPostgres();
  plane = await createControlPlane(server.adminUrl);
});

afterAll(async () => {
  await plane[Symbol.asyncDispose]();
  await server.stop();
});

/** Hears, and lets a test wait for what is heard next. */
async function hear(directory: TenantDirectory) {
  const heard: OrgId[] = [];
  let resets = 0;
  let wake = (): void => {};
  const notice = (): void => wake();
  const subscription = await directory.subscribe(
    (orgId) => {
      heard.push(orgId);
      notice();
    },
    () => {
      resets += 1;
      notice();
    },
  );
  const until = async (condition: () => boolean): Promise<void> => {
    while (!condition()) {
      const { promise, resolve } = Promise.withResolvers<void>();
      wake = resolve;
      await promise;
    }
  };
  return {
    heard,
    resets: () => resets,
    until,
    [Symbol.asyncDispose]: () => subscription.close(),
  };
}

test("every act that changes what the proxy caches is announced", async () => {
  const orgId = await newOrg(plane.sql);
  await using provisioning = createProvisioning(plane, server.adminUrl);
  await using ear = await hear(createTenantDirectory(plane.sql));
  let tokenId = (await createToken(plane.sql, orgId, TEST_ACTOR)).tokenId;
  await ear.until(() => ear.heard.length > 0);
  const request = { orgId, name: "app", kind: "postgres" } as const;
  const acts: readonly (() => Promise<unknown>)[] = [
    () => setTier(plane.sql, orgId, "STARTER", TEST_ACTOR),
    () => setLimits(plane.sql, orgId, { limitQps: 9 }, TEST_ACTOR),
    () => setOrgStatus(plane.sql, orgId, "suspended", TEST_ACTOR),
    () => setOrgStatus(plane.sql, orgId, "active", TEST_ACTOR),
    async () => {
      tokenId = (await createToken(plane.sql, orgId, TEST_ACTOR)).tokenId;
    },
    () => revokeToken(plane.sql, orgId, tokenId, TEST_ACTOR),
    () => createDatabase(provisioning, request, TEST_ACTOR),
    () => dropDatabase(provisioning, { orgId, address: "app" }, TEST_ACTOR),
    () => plane.sql`UPDATE org SET over_usage = 'Used up.' WHERE org_id = ${orgId}`,
  ];
  for (const act of acts) {
    const before = ear.heard.length;
    await act();
    await ear.until(() => ear.heard.length > before);
    expect(new Set(ear.heard)).toEqual(new Set([orgId]));
  }
});

test("a change that is rolled back is not announced", async () => {
  const [quiet, loud] = [await newOrg(plane.sql), await newOrg(plane.sql)];
  await using ear = await hear(createTenantDirectory(plane.sql));
  const rolledBack = plane.sql.begin(async (tx) => {
    await tx`UPDATE org SET tier = 'PRO' WHERE org_id = ${quiet}`;
    throw new Error("no");
  });
  expect(rolledBack).rejects.toThrow("no");
  await setTier(plane.sql, loud, "PRO", TEST_ACTOR);
  await ear.until(() => ear.heard.length > 0);
  expect(ear.heard).toEqual([loud]);
});

test("a database that cannot be connected to is not shown, one that is being made is", async () => {
  const orgId = await newOrg(plane.sql);
  const states = ["provisioning", "ready", "failed", "dropping"];
  for (const [index, status] of states.entries()) {
    await plane.sql`
      INSERT INTO database (database_id, org_id, name, kind, status, endpoint)
      VALUES (${`db_aaaaaaaaaaaaaaa${"abcd"[index]}`}, ${orgId}, ${status}, 'postgres', ${status},
        '{"via": "shared"}')`;
  }
  const tenant = await createTenantDirectory(plane.sql).load(orgId);
  expect([...(tenant?.databases.keys() ?? [])].sort()).toEqual(["provisioning", "ready"]);
});

test("an org that does not exist is null", async () => {
  const nobody = "org_aaaaaaaaaaaaaaaa" as OrgId;
  expect(await createTenantDirectory(plane.sql).load(nobody)).toBeNull();
});

test("after the control plane crashed and came back, what was missed is made known", async () => {
  await using own = await startPostgres();
  const sql = openControlPlane(own.adminUrl, { applicationName: "test", connectionsMax: 2 });
  await using ear = await hear(createTenantDirectory(sql));
  await own.kill();
  await own.restart();
  await ear.until(() => ear.resets() > 0);
  await sql`SELECT pg_notify('ogel_tenant', 'org_aaaaaaaaaaaaaaaa')`;
  await ear.until(() => ear.heard.length > 0);
  expect(ear.resets()).toBe(1);
  await sql.end({ timeout: 1 });
});

test("a connection that only looks alive is found out", async () => {
  await using own = await startPostgres();
  const sql = openControlPlane(own.adminUrl, { applicationName: "test", connectionsMax: 2 });
  await using ear = await hear(createTenantDirectory(sql, { heartbeatMs: 20 }));
  const [listening] = await sql<{ pid: number }[]>`
    SELECT pid FROM pg_stat_activity WHERE query LIKE 'LISTEN%' OR query = 'SELECT 1'`;
  const pid = listening?.pid ?? 0;
  process.kill(pid, "SIGSTOP");
  await ear.until(() => ear.resets() > 0);
  process.kill(pid, "SIGCONT");
  await sql.end({ timeout: 1 });
});

test("closing ends it, while the control plane is away too", async () => {
  await using own = await startPostgres();
  const sql = openControlPlane(own.adminUrl, { applicationName: "test", connectionsMax: 2 });
  const ear = await hear(createTenantDirectory(sql));
  await own.kill();
  await ear[Symbol.asyncDispose]();
  await sql.end({ timeout: 1 });
});
