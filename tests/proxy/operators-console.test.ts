/** What operators see of a running proxy, with psql and on the wire. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { message } from "../../proxy/protocols/postgres/messages.ts";
import { refusalOf } from "../support/outcome.ts";
import { startPlatform, type TestOrg, type TestPlatform } from "../support/platform.ts";
import { errorText, extended, fieldsOf, rowsOf, typesOf, WireClient } from "../support/wire.ts";

const OPERATOR_KEY = "ogelop_for_the_tests_of_the_console";
const OPERATOR = { user: "o7s_operator", password: OPERATOR_KEY, database: "o7s" };

let platform: TestPlatform;
let org: TestOrg;
let databaseId: string;

beforeAll(async () => {
  platform = await startPlatform({ environment: { OGEL_OPERATOR_KEY: OPERATOR_KEY } });
  org = await platform.createOrg("STARTER");
  databaseId = await platform.createDatabase(org, "app");
}, 60_000);

afterAll(async () => {
  await platform[Symbol.asyncDispose]();
}, 60_000);

const openConsole = (login: Partial<typeof OPERATOR> = {}): Promise<WireClient> =>
  WireClient.login({ port: platform.postgresPort }, { ...OPERATOR, ...login });

const openSession = (): Promise<WireClient> =>
  WireClient.login(
    { port: platform.postgresPort },
    { user: org.orgId, password: org.token, database: "app" },
  );

/** The rows of a table by the names of their columns. */
async function show(
  console: WireClient,
  command: string,
): Promise<Record<string, string | null>[]> {
  const replies = await console.query(command);
  const description = replies.find(({ type }) => type === "T")?.body ?? Buffer.alloc(2);
  const names: string[] = [];
  for (let at = 2; at < description.length; ) {
    const end = description.indexOf(0, at);
    names.push(description.subarray(at, end).toString());
    at = end + 1 + 18;
  }
  return rowsOf(replies).map((row) =>
    Object.fromEntries(names.map((name, index) => [name, row[index] ?? null])),
  );
}

describe("the operators' console", () => {
  test("lists its commands", async () => {
    await using console = await openConsole();
    const commands = (await show(console, "SHOW HELP")).map(({ command }) => command);
    expect(commands).toEqual([
      "SHOW POOLS [org]",
      "SHOW CLIENTS [org]",
      "SHOW TENANTS [org]",
      "SHOW STATS [org]",
      "SHOW HELP",
    ]);
  });

  test("shows sessions with what they do and what binds them", async () => {
    await using console = await openConsole();
    await using idle = await openSession();
    await idle.query("SELECT 1");
    await using working = await openSession();
    await working.query("BEGIN");
    await using bound = await openSession();
    await bound.query("CREATE TEMP TABLE mine (a int)");
    const clients = await show(console, `show clients ${org.orgId};`);
    const seen = clients.map(({ org, tier, database, protocol, address, state, pinned_by }) => {
      return [org, tier, database, protocol, address, state, pinned_by];
    });
    const common = [org.orgId, "STARTER", "app", "postgres", "127.0.0.1"];
    expect(seen).toEqual([
      [...common, "idle", null],
      [...common, "idle in transaction", null],
      [...common, "idle", "temporary tables"],
    ]);
  });

  test("shows pools, orgs with their limits, and what has been counted", async () => {
    await using console = await openConsole();
    await using client = await openSession();
    await client.query("SELECT generate_series(1, 5)");
    const [pool] = await show(console, `SHOW POOLS ${org.orgId}`);
    expect(pool).toMatchObject({ org: org.orgId, database: "app", database_id: databaseId });
    expect(pool).toMatchObject({ kind: "postgres", waiting: "0", lent: "0" });
    expect(Number(pool?.["clients"])).toBeGreaterThanOrEqual(1);
    expect(Number(pool?.["idle"])).toBeGreaterThanOrEqual(1);
    const [tenant] = await show(console, "SHOW TENANTS");
    expect(tenant).toMatchObject({
      org: org.orgId,
      tier: "STARTER",
      status: "active",
      connections_max: "10",
      queries_per_second_max: "50",
      databases: "1",
    });
    const [stats] = await show(console, "SHOW STATS");
    expect(stats).toMatchObject({ org: org.orgId, database_id: databaseId });
    expect(Number(stats?.["rows"])).toBeGreaterThanOrEqual(5);
  });

  test("runs SHOW and nothing else, and goes on after an error", async () => {
    await using console = await openConsole();
    for (const command of ["SELECT 1", "SHOW POOLS now please", "DROP TABLE a", "SHOW ALL"]) {
      const replies = await console.query(command);
      expect(typesOf(replies)).toBe("EZ");
      expect(fieldsOf(replies[0] ?? { type: "E", body: Buffer.alloc(0) })["H"]).toBe(
        "SHOW HELP lists the commands.",
      );
    }
    expect(typesOf(await console.query("SHOW POOLS not_an_org"))).toBe("EZ");
    expect(typesOf(await console.query(`SHOW ${"x".repeat(100_000)}`))).toBe("EZ");
    expect(typesOf(await console.query(";"))).toBe("IZ");
    console.send(extended.parse("", "SHOW HELP"), extended.bind("", ""), extended.sync);
    expect((await console.untilReady()).map((reply) => reply.type).join("")).toBe("EZ");
    const several = await console.query("SHOW HELP; nonsense; SHOW HELP");
    expect(typesOf(several)).toBe("TDDDDDCEZ");
  });

  test("is held back, not buffered for, while its client does not read", async () => {
    await using console = await openConsole();
    console.pause();
    const asked = 2_000;
    console.send(...Array.from({ length: asked }, () => message("Q", "SHOW HELP;SHOW HELP")));
    console.resume();
    expect(typesOf(await console.untilReady(asked)).length).toBe(asked * 15);
  });

  test("is closed to whoever has not the operator key, in the words of any failed login", async () => {
    const wrong = await refusalOf(openConsole({ password: org.token }));
    expect(wrong.message).toBe('28P01 password authentication failed for user "o7s_operator"');
    const asOrg = await refusalOf(openConsole({ user: org.orgId, password: org.token }));
    expect(asOrg.message).toBe('3D000 database "o7s" does not exist');
    const elsewhere = await refusalOf(openConsole({ database: "app" }));
    expect(elsewhere.message).toBe('3D000 database "app" does not exist');
  });

  test("is told of the end of the proxy", async () => {
    await using console = await openConsole();
    await console.query("SHOW HELP");
    await platform.proxy.stop();
    expect((await console.untilClosed()).map(errorText)).toEqual([
      "57P01 terminating connection: this proxy is being restarted",
    ]);
    await platform.restartProxy();
  });

  test("blocks an address after repeated failures, as layer 1 does", async () => {
    const refusals: string[] = [];
    for (let tried = 0; tried < 11; tried++) {
      refusals.push((await refusalOf(openConsole({ password: "wrong" }))).message);
    }
    expect(refusals[9]).toStartWith("28P01 ");
    expect(refusals[10]).toStartWith("28000 too many failed logins");
  });
});

test("without an operator key there is no console", async () => {
  await platform.proxy.stop();
  await platform.restartProxy({ OGEL_OPERATOR_KEY: "" });
  const refused = await refusalOf(openConsole());
  expect(refused.message).toBe('28P01 password authentication failed for user "o7s_operator"');
});
