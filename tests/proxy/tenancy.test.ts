/** Who gets in, what a refusal gives away, and what a tenant can do to its own login. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import pg from "pg";
import postgres from "postgres";
import { createToken } from "../../platform/control/tokens.ts";
import { newOrgId } from "../../platform/ids.ts";
import { message } from "../../proxy/protocols/postgres/messages.ts";
import { type Refusal, refusalOf } from "../support/outcome.ts";
import { startPlatform, type TestOrg, type TestPlatform } from "../support/platform.ts";
import { startupOf, WireClient } from "../support/wire.ts";

const ACTOR = { name: "tests", requestId: null };

let platform: TestPlatform;

beforeAll(async () => {
  platform = await startPlatform();
}, 60_000);

afterAll(async () => {
  await platform[Symbol.asyncDispose]();
}, 60_000);

async function newOrg(): Promise<TestOrg> {
  const org = await platform.createOrg("PRO");
  await platform.createDatabase(org, "app");
  return org;
}

async function refused(user: string, password: string, database: string): Promise<Refusal> {
  const { postgresPort: port } = platform;
  const client = new pg.Client({ host: "127.0.0.1", port, user, password, database });
  client.on("error", () => {});
  return await refusalOf(client.connect());
}

/** The server's first SCRAM message to a user: nonce, salt, iterations. */
async function challenge(user: string): Promise<string> {
  await using client = await WireClient.connect({ port: platform.postgresPort });
  client.send(startupOf({ user, database: "app" }));
  await client.message();
  const first = Buffer.from("n,,n=,r=0123456789abcdef");
  client.send(message("p", "SCRAM-SHA-256", first.length, first));
  return (await client.message()).body.subarray(4).toString();
}

describe("a refusal gives nothing away", () => {
  test("a wrong token and an unknown org are refused in the same words", async () => {
    const org = await newOrg();
    const unknown = newOrgId();
    const wrong = await refused(org.orgId, "ogel_wrong", "app");
    const nobody = await refused(unknown, "ogel_wrong", "app");
    const malformed = await refused("postgres", "ogel_wrong", "app");
    expect(wrong.code).toBe("28P01");
    expect(wrong.message).toBe(`password authentication failed for user "${org.orgId}"`);
    const without = (refusal: Refusal, user: string): Refusal => ({
      ...refusal,
      message: refusal.message.replace(user, "…"),
    });
    expect(without(nobody, unknown)).toEqual(without(wrong, org.orgId));
    expect(without(malformed, "postgres")).toEqual(without(wrong, org.orgId));
  });

  test("their challenges look alike, and an unknown org's is the same each time", async () => {
    const org = await newOrg();
    const unknown = newOrgId();
    const form = /^r=0123456789abcdef[!-+\--~]{24},s=([A-Za-z0-9+/]{22}==),i=4096$/;
    const saltOf = async (user: string): Promise<string> =>
      form.exec(await challenge(user))?.[1] ?? "no match";
    const [real, first, second] = [
      await saltOf(org.orgId),
      await saltOf(unknown),
      await saltOf(unknown),
    ];
    expect(real).not.toBe("no match");
    expect(first).not.toBe("no match");
    expect(second).toBe(first);
    expect(await saltOf(newOrgId())).not.toBe(first);
  });

  test("another org's database and one that never was are refused in the same words", async () => {
    const [org, other] = [await newOrg(), await newOrg()];
    await platform.createDatabase(other, "theirs");
    const theirs = await refused(org.orgId, org.token, "theirs");
    const missing = await refused(org.orgId, org.token, "never-was");
    expect(theirs.code).toBe("3D000");
    expect(theirs.message).toBe('database "theirs" does not exist');
    expect(missing).toEqual({
      ...theirs,
      message: 'database "never-was" does not exist',
    });
  });

  test("the servers' own databases and roles cannot be asked for", async () => {
    const [org, other] = [await newOrg(), await newOrg()];
    const physical = await platform.createDatabase(other, "hidden");
    for (const name of ["postgres", "template1", physical]) {
      expect((await refused(org.orgId, org.token, name)).code).toBe("3D000");
    }
    for (const user of ["postgres", "ogel_admin", physical]) {
      expect((await refused(user, org.token, "postgres")).code).toBe("28P01");
    }
  });

  test("another org's token does not open this org", async () => {
    const [org, other] = [await newOrg(), await newOrg()];
    expect((await refused(org.orgId, other.token, "app")).code).toBe("28P01");
  });
});

describe("tokens", () => {
  test("are valid side by side", async () => {
    const org = await newOrg();
    const { secret } = await createToken(platform.sql, org.orgId, ACTOR);
    for (const token of [org.token, secret]) {
      const sql = postgres(platform.url({ ...org, token }, "app"), { max: 1 });
      expect([...(await sql`SELECT 1 AS a`)]).toEqual([{ a: 1 }]);
      await sql.end();
    }
  });

  test("that fail too often block their org from that address, and no other org", async () => {
    const [org, other] = [await newOrg(), await newOrg()];
    let last: Refusal = { code: "", message: "", hint: "" };
    for (let time = 0; time < 11; time++) last = await refused(org.orgId, "ogel_wrong", "app");
    expect(last.code).toBe("28000");
    expect(last.message).toMatch(/^too many failed logins; the next is looked at in \d+ seconds$/);
    expect((await refused(org.orgId, org.token, "app")).code).toBe("28000");
    const sql = postgres(platform.url(other, "app"), { max: 1 });
    expect([...(await sql`SELECT 1 AS a`)]).toEqual([{ a: 1 }]);
    await sql.end();
  });
});

describe("a tenant that locks itself out is let in again", () => {
  const cases: readonly (readonly [string, string])[] = [
    ["a changed password", "ALTER ROLE CURRENT_USER PASSWORD 'forgotten'"],
    ["a removed password", "ALTER ROLE CURRENT_USER PASSWORD NULL"],
    [
      "a connection limit",
      "EXECUTE format('ALTER DATABASE %I CONNECTION LIMIT 0', current_database())",
    ],
    [
      "a revoked CONNECT",
      "EXECUTE format('REVOKE CONNECT ON DATABASE %I FROM CURRENT_USER', current_database())",
    ],
    [
      "a library of its role that is not there",
      "EXECUTE format('ALTER ROLE %I SET local_preload_libraries = ''missing''', current_user)",
    ],
    [
      "a library of its database that is not there",
      "EXECUTE format('ALTER DATABASE %I SET local_preload_libraries = ''missing''', current_database())",
    ],
  ];
  test.each(cases)("%s", async (_, statement) => {
    const org = await newOrg();
    const sql = postgres(platform.url(org, "app"), { max: 1 });
    await sql.unsafe(`DO $$ BEGIN ${statement}; END $$`);
    await sql.end();
    // Startup parameters of its own make sure of a new login behind O7s.
    const after = postgres(platform.url(org, "app"), {
      max: 1,
      connection: { application_name: "afterwards" },
    });
    expect([...(await after`SELECT 1 AS a`)]).toEqual([{ a: 1 }]);
    await after.end();
  });

  test("a database closed to connections from another one", async () => {
    const org = await newOrg();
    const physical = await platform.createDatabase(org, "closed");
    const sql = postgres(platform.url(org, "app"), { max: 1 });
    await sql.unsafe(`ALTER DATABASE ${physical} ALLOW_CONNECTIONS false`);
    await sql.end();
    const after = postgres(platform.url(org, "closed"), { max: 1 });
    expect([...(await after`SELECT 1 AS a`)]).toEqual([{ a: 1 }]);
    await after.end();
  });
});

test("a database can be connected to as soon as it is made, by an org that O7s knows already", async () => {
  const org = await newOrg();
  for (let n = 0; n < 5; n++) {
    const name = `made-${n}`;
    // Asked for too early, so that O7s knows that it is not there.
    expect((await refused(org.orgId, org.token, name)).code).toBe("3D000");
    await platform.createDatabase(org, name);
    const sql = postgres(platform.url(org, name), { max: 1 });
    expect([...(await sql`SELECT 1 AS a`)]).toEqual([{ a: 1 }]);
    await sql.end();
  }
});

test("a session can neither become another role nor see another org's data", async () => {
  const [org, other] = [await newOrg(), await newOrg()];
  const sql = postgres(platform.url(org, "app"), { max: 1 });
  const attempt = async (text: string): Promise<string> => (await refusalOf(sql.unsafe(text))).code;
  expect(await attempt(`SET ROLE ${other.orgId}`)).toBe("42501");
  expect(await attempt(`SET SESSION AUTHORIZATION ${other.orgId}`)).toBe("42501");
  expect(await attempt("COPY (SELECT 1) TO PROGRAM 'cat'")).toBe("42501");
  expect(await attempt("SELECT pg_read_file('postgresql.conf')")).toBe("42501");
  await sql.end();
});
