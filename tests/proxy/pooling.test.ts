/** Sessions share connections, and must not notice. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { message } from "../../proxy/protocols/postgres/messages.ts";
import { watchActivity } from "../support/activity.ts";
import { startPlatform, type TestOrg, type TestPlatform } from "../support/platform.ts";
import { until } from "../support/until.ts";
import { errorText, extended, rowsOf, typesOf, WireClient } from "../support/wire.ts";

let platform: TestPlatform;
let org: TestOrg;

beforeAll(async () => {
  platform = await startPlatform();
  org = await platform.createOrg("ENTERPRISE", { limitQps: 1_000_000 });
  await platform.createDatabase(org, "app");
}, 60_000);

afterAll(async () => {
  await platform[Symbol.asyncDispose]();
}, 60_000);

const open = (database = "app", owner = org, application = "tests"): Promise<WireClient> =>
  WireClient.login(
    { port: platform.postgresPort },
    {
      user: owner.orgId,
      password: owner.token,
      database,
      parameters: { application_name: application },
    },
  );

test("many idle sessions need few connections, and each query finds one", async () => {
  const clients = await Promise.all(Array.from({ length: 50 }, () => open()));
  for (const [n, client] of clients.entries()) {
    expect(rowsOf(await client.query(`SELECT ${n}`))).toEqual([[String(n)]]);
  }
  await using activity = watchActivity(platform.shared);
  expect((await activity.backendsOf(org.orgId)).length).toBeLessThanOrEqual(20);
  const answers = await Promise.all(clients.map((client, n) => client.query(`SELECT ${n}`)));
  expect(answers.flatMap(rowsOf)).toEqual(clients.map((_, n) => [String(n)]));
  for (const client of clients) client.destroy();
});

test("transactions of different sessions never meet on a connection", async () => {
  const setup = await open();
  await setup.query("CREATE TABLE counters (name text PRIMARY KEY, n int)");
  await setup.query("INSERT INTO counters VALUES ('a', 0)");
  const clients = await Promise.all(Array.from({ length: 15 }, () => open()));
  await Promise.all(
    clients.map(async (client, number) => {
      for (let round = 0; round < 10; round++) {
        await client.query("BEGIN");
        const [pid] = rowsOf(await client.query("SELECT pg_backend_pid()"));
        await client.query("UPDATE counters SET n = n + 1");
        expect(rowsOf(await client.query("SELECT pg_backend_pid()"))).toEqual([pid ?? []]);
        await client.query(number % 3 === 0 ? "ROLLBACK" : "COMMIT");
      }
    }),
  );
  expect(rowsOf(await setup.query("SELECT n FROM counters"))).toEqual([["100"]]);
  for (const client of [setup, ...clients]) client.destroy();
});

describe("what one session makes is not another's", () => {
  const cases: readonly (readonly [string, string, string, string])[] = [
    ["a SET", "SET statement_timeout = '1min'", "SHOW statement_timeout", "1min"],
    [
      "a SET hidden behind a comment",
      "/* */ SET statement_timeout = '1min'",
      "SHOW statement_timeout",
      "1min",
    ],
    [
      "a SET inside DO",
      "DO $$ BEGIN SET statement_timeout = '1min'; END $$",
      "SHOW statement_timeout",
      "1min",
    ],
    [
      "set_config for the session",
      "SELECT set_config('app.user', 'one', false)",
      "SELECT current_setting('app.user', true)",
      "one",
    ],
    [
      "SET SESSION CHARACTERISTICS",
      "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
      "SHOW default_transaction_read_only",
      "on",
    ],
  ];
  /** Nothing that the client sends shows these but that it calls a function of its own. */
  const hidden: typeof cases = [
    ["a SET inside a function", "SELECT sets_a_setting()", "SHOW statement_timeout", "1min"],
    [
      "a temporary table made inside a function",
      "SELECT makes_a_table()",
      "SELECT count(*) FROM pg_class WHERE relname = 'made' AND relnamespace = pg_my_temp_schema()",
      "1",
    ],
    [
      "an advisory lock taken inside a function",
      "SELECT takes_a_lock()",
      "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
      "1",
    ],
  ];

  beforeAll(async () => {
    await using client = await open();
    for (const [name, body] of [
      ["sets_a_setting", "SET statement_timeout = '1min'"],
      ["makes_a_table", "CREATE TEMP TABLE made (a int)"],
      ["takes_a_lock", "PERFORM pg_advisory_lock(77)"],
    ]) {
      await client.query(
        `CREATE FUNCTION ${name}() RETURNS void LANGUAGE plpgsql AS $$ BEGIN ${body}; END $$`,
      );
    }
  });

  const stayApart = async (what: string, make: string, ask: string, made: string) => {
    // Connections of their own, which no other case has touched.
    await using one = await open("app", org, what);
    await using other = await open("app", org, what);
    const before = rowsOf(await other.query(ask));
    expect(rowsOf(await one.query(ask))).toEqual(before);
    expect(typesOf(await one.query(make))).not.toContain("E");
    for (let time = 0; time < 3; time++) {
      expect(rowsOf(await other.query(ask))).toEqual(before);
      expect(rowsOf(await one.query(ask))).toEqual([[made]]);
    }
  };
  test.each(cases)("%s", stayApart);
  test.each(hidden)("%s", stayApart);
});

test("errors about prepared statements name them as the client does", async () => {
  await using client = await open();
  client.send(extended.parse("mine", "SELECT $1::int, $2::int"), extended.sync);
  await client.untilReady();
  client.send(extended.bind("", "mine", "1"), extended.sync);
  const replies = await client.untilReady();
  expect(replies.filter(({ type }) => type === "E").map(errorText)).toEqual([
    '08P01 bind message supplies 1 parameters, but prepared statement "mine" requires 2',
  ]);
});

test("a prepared statement whose table has changed fails as it does on a server, and can be made anew", async () => {
  await using client = await open();
  await using other = await open();
  await client.query("CREATE TABLE changing (a int)");
  client.send(extended.parse("all", "SELECT * FROM changing"), extended.sync);
  await client.untilReady();
  await other.query("ALTER TABLE changing ADD COLUMN b text");
  client.send(extended.bind("", "all"), extended.execute(""), extended.sync);
  const [error] = (await client.untilReady()).filter(({ type }) => type === "E");
  expect(error && errorText(error)).toBe("0A000 cached plan must not change result type");
  client.send(
    extended.closeStatement("all"),
    extended.parse("all", "SELECT * FROM changing"),
    extended.bind("", "all"),
    extended.execute(""),
    extended.sync,
  );
  expect(typesOf(await client.untilReady())).toBe("312CZ");
});

test("an org's sessions on two databases, and two orgs, never share", async () => {
  const neighbour = await platform.createOrg("PRO");
  await platform.createDatabase(neighbour, "app");
  await platform.createDatabase(org, "second");
  const whoami = "SELECT current_user, current_database()";
  const parties = [open(), open("second"), open("app", neighbour)];
  const clients = await Promise.all(parties);
  const seen = new Set<string>();
  for (let round = 0; round < 3; round++) {
    for (const [n, client] of clients.entries()) {
      const [row] = rowsOf(await client.query(whoami));
      seen.add(`${n} ${row?.join(" ")}`);
    }
  }
  expect(seen.size).toBe(3);
  for (const client of clients) client.destroy();
});

test("a session does not wait for a connection that is being cleaned elsewhere longer than the cleaning", async () => {
  const tight = await platform.createOrg("ENTERPRISE", { connections: 2, limitQps: 1_000_000 });
  await platform.createDatabase(tight, "app");
  await using busy = await open("app", tight, "busy");
  await busy.query("BEGIN");
  const leaving = await open("app", tight, "leaving");
  await leaving.query(
    "DO $$ BEGIN FOR n IN 1..700 LOOP EXECUTE 'CREATE TEMP TABLE t' || n || ' (a text)'; END LOOP; END $$",
  );
  leaving.destroy();
  await using next = await until("a place", () =>
    open("app", tight, "next").catch((error: Error) => {
      expect(error.message).toStartWith("53300 too many connections");
      return null;
    }),
  );
  expect(rowsOf(await next.query("SELECT 1"))).toEqual([["1"]]);
}, 15_000);

test("what was pipelined behind a Terminate is not run", async () => {
  await using watcher = await open();
  await watcher.query("CREATE TABLE untouched (a int)");
  const client = await open();
  client.send(message("X"), message("Q", "INSERT INTO untouched VALUES (1)"));
  await client.ended();
  expect(rowsOf(await watcher.query("SELECT count(*) FROM untouched"))).toEqual([["0"]]);
});
