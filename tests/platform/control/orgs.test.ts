/** Orgs, tokens and databases in the control plane: rules, limits, and the audit log. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { enterDatabase, listDatabases } from "../../../platform/control/databases.ts";
import {
  createOrg,
  getOrg,
  listOrgs,
  setLimits,
  setOrgStatus,
  setTier,
} from "../../../platform/control/orgs.ts";
import { createTenantDirectory } from "../../../platform/control/tenant-directory.ts";
import { createToken, listTokens, revokeToken } from "../../../platform/control/tokens.ts";
import type { OrgId } from "../../../platform/ids.ts";
import { deriveKeys } from "../../../platform/scram.ts";
import {
  createControlPlane,
  failureCode,
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

const entry = (orgId: OrgId, name: string) =>
  enterDatabase(plane.sql, { orgId, name, kind: "postgres" }, TEST_ACTOR);

describe("an org", () => {
  test("is created with a token that logs in, of which only verifiers are kept", async () => {
    const { org, token } = await createOrg(plane.sql, { name: "Acme", tier: "FREE" }, TEST_ACTOR);
    const tenant = await createTenantDirectory(plane.sql).load(org.orgId);
    if (tenant === null) throw new Error("The org is not there.");
    const keys = deriveKeys(token.secret, tenant.scram);
    expect(Buffer.from(tenant.tokens[0]?.storedKey ?? [])).toEqual(Buffer.from(keys.storedKey));
    expect(Buffer.from(tenant.tokens[0]?.serverKey ?? [])).toEqual(Buffer.from(keys.serverKey));
    const dump = JSON.stringify([
      await plane.sql`SELECT * FROM token`,
      await plane.sql`SELECT * FROM audit_log`,
    ]);
    expect(dump).not.toContain(token.secret);
  });

  test.each(["", " padded", "tab\there", "x".repeat(81)])("may not be called %j", async (name) => {
    const created = createOrg(plane.sql, { name, tier: "FREE" }, TEST_ACTOR);
    expect(await failureCode(created)).toBe("invalid");
  });

  test("takes limits from its tier, and from its contract where that says so", async () => {
    const orgId = await newOrg(plane.sql, "FREE");
    const directory = createTenantDirectory(plane.sql);
    const limits = async () => (await directory.load(orgId))?.limits;
    expect(await limits()).toMatchObject({ connections: 5, limitQps: 10 });
    await setLimits(plane.sql, orgId, { limitQps: 25 }, TEST_ACTOR);
    await setTier(plane.sql, orgId, "STARTER", TEST_ACTOR);
    expect(await limits()).toMatchObject({ connections: 10, limitQps: 25 });
    await setLimits(plane.sql, orgId, { limitQps: null }, TEST_ACTOR);
    expect(await limits()).toMatchObject({ connections: 10, limitQps: 50 });
  });

  test.each([0, -1, 1.5, 10_001])("may not be given %d connections", async (connections) => {
    const orgId = await newOrg(plane.sql);
    const set = setLimits(plane.sql, orgId, { connections }, TEST_ACTOR);
    expect(await failureCode(set)).toBe("invalid");
  });

  test("is listed on exactly one page", async () => {
    await Promise.all(Array.from({ length: 7 }, () => newOrg(plane.sql)));
    const seen: OrgId[] = [];
    for (let after: OrgId | null = null; ; ) {
      const page = await listOrgs(plane.sql, { after, limit: 3 });
      seen.push(...page.map((org) => org.orgId));
      after = page.at(-1)?.orgId ?? null;
      if (after === null) break;
    }
    const [row] = await plane.sql`SELECT count(*)::int AS count FROM org`;
    expect(new Set(seen).size).toBe(seen.length);
    expect(seen.length).toBe(row?.["count"]);
  });

  test("that does not exist is said not to", async () => {
    const nobody = "org_aaaaaaaaaaaaaaaa" as OrgId;
    expect(await failureCode(getOrg(plane.sql, nobody))).toBe("org_not_found");
    expect(await failureCode(setTier(plane.sql, nobody, "PRO", TEST_ACTOR))).toBe("org_not_found");
    expect(await failureCode(listTokens(plane.sql, nobody))).toBe("org_not_found");
    expect(await failureCode(createToken(plane.sql, nobody, TEST_ACTOR))).toBe("org_not_found");
    expect(await failureCode(listDatabases(plane.sql, nobody))).toBe("org_not_found");
    expect(await failureCode(entry(nobody, "app"))).toBe("org_not_found");
  });
});

describe("tokens", () => {
  test("are valid side by side until one is revoked", async () => {
    const orgId = await newOrg(plane.sql);
    const second = await createToken(plane.sql, orgId, TEST_ACTOR);
    const directory = createTenantDirectory(plane.sql);
    expect((await directory.load(orgId))?.tokens).toHaveLength(2);
    await revokeToken(plane.sql, orgId, second.tokenId, TEST_ACTOR);
    await revokeToken(plane.sql, orgId, second.tokenId, TEST_ACTOR);
    expect((await directory.load(orgId))?.tokens).toHaveLength(1);
    const listed = await listTokens(plane.sql, orgId);
    expect(listed.map((token) => token.revokedAt === null)).toEqual([true, false]);
  });

  test("of another org cannot be revoked", async () => {
    const [mine, theirs] = [await newOrg(plane.sql), await newOrg(plane.sql)];
    const { tokenId } = await createToken(plane.sql, theirs, TEST_ACTOR);
    const revoked = revokeToken(plane.sql, mine, tokenId, TEST_ACTOR);
    expect(await failureCode(revoked)).toBe("token_not_found");
  });

  test("are twenty at most, also when many are made at once", async () => {
    const orgId = await newOrg(plane.sql);
    const codes = await Promise.all(
      Array.from({ length: 25 }, () => failureCode(createToken(plane.sql, orgId, TEST_ACTOR))),
    );
    expect(codes.filter((code) => code === "no error")).toHaveLength(19);
    expect(codes.filter((code) => code === "token_limit")).toHaveLength(6);
  });
});

describe("databases", () => {
  test("never exceed the tier's number, however many are asked for at once", async () => {
    const orgId = await newOrg(plane.sql, "FREE");
    const codes = await Promise.all(
      Array.from({ length: 12 }, (_, i) => failureCode(entry(orgId, `app${i}`))),
    );
    expect(codes.filter((code) => code === "no error")).toHaveLength(3);
    expect(codes.filter((code) => code === "database_limit")).toHaveLength(9);
  });

  test("asked for several times at once are one", async () => {
    const orgId = await newOrg(plane.sql);
    const ids = await Promise.all(
      Array.from({ length: 6 }, async () => (await entry(orgId, "app")).databaseId),
    );
    expect(new Set(ids).size).toBe(1);
  });

  test.each(["", "App", "1app", "a".repeat(41), "a b", "a@b", 'a"b', "ä"])(
    "may not be called %j",
    async (name) => {
      const orgId = await newOrg(plane.sql);
      expect(await failureCode(entry(orgId, name))).toBe("invalid");
    },
  );

  test("are not made for a suspended org", async () => {
    const orgId = await newOrg(plane.sql);
    await setOrgStatus(plane.sql, orgId, "suspended", TEST_ACTOR);
    expect(await failureCode(entry(orgId, "app"))).toBe("org_suspended");
  });

  test("of other kinds do not take each other's names", async () => {
    const orgId = await newOrg(plane.sql);
    await entry(orgId, "app");
    const request = { orgId, name: "app", kind: "neon" } as const;
    const other = enterDatabase(plane.sql, request, TEST_ACTOR);
    expect(await failureCode(other)).toBe("database_exists");
  });
});

describe("the audit log", () => {
  test("says who did what, and cannot be rewritten", async () => {
    const actor = { name: "operator", requestId: "req_1" };
    const { org } = await createOrg(plane.sql, { name: "Audited", tier: "FREE" }, actor);
    await setTier(plane.sql, org.orgId, "PRO", actor);
    await setOrgStatus(plane.sql, org.orgId, "suspended", actor);
    await setOrgStatus(plane.sql, org.orgId, "active", actor);
    const rows = await plane.sql`
      SELECT action, actor, request_id FROM audit_log WHERE org_id = ${org.orgId}
      ORDER BY audit_id`;
    const actions = ["org.create", "token.create", "org.set_tier", "org.suspend", "org.resume"];
    expect([...rows]).toEqual(
      actions.map((action) => ({ action, actor: "operator", request_id: "req_1" })),
    );
    expect(await failureCode(plane.sql`DELETE FROM audit_log`)).toBe("P0001");
    expect(await failureCode(plane.sql`UPDATE audit_log SET actor = 'x'`)).toBe("P0001");
  });
});
