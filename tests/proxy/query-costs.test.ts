/**
 * Statements that the planner expects to cost more than the tier allows are not run; all others go
 * on as ever.
 */
import {
  afterAll,
  beforeAll,
  beforeEach,
  describe,
  expect,
  setDefaultTimeout,
  test,
} from "bun:test";
import pg from "pg";
import type { Tier } from "../../platform/tiers.ts";
import { message } from "../../proxy/protocols/postgres/messages.ts";
import { startPlatform, type TestOrg, type TestPlatform } from "../support/platform.ts";
import { until } from "../support/until.ts";
import {
  errorText,
  extended,
  fieldsOf,
  rowsOf,
  typesOf,
  WireClient,
  type WireMessage,
} from "../support/wire.ts";

/** Servers are started here, on a machine that may be busy. */
setDefaultTimeout(30_000);

/** A hundred million pairs and more to sort, by estimate; the tables themselves are small. */
const EXPENSIVE = "SELECT count(*) FROM part a, part b, part c WHERE a.id + b.id > c.id";

let platform: TestPlatform;
let org: TestOrg;

beforeAll(async () => {
  platform = await startPlatform();
}, 60_000);

afterAll(async () => {
  await platform[Symbol.asyncDispose]();
}, 60_000);

beforeEach(async () => {
  org = await orgWith("FREE");
  await using client = await open();
  await client.query("CREATE TABLE part (id int PRIMARY KEY, name text)");
  await client.query("INSERT INTO part SELECT n, 'part ' || n FROM generate_series(1, 1000) n");
  await client.query("ANALYZE part");
});

async function orgWith(tier: Tier): Promise<TestOrg> {
  const created = await platform.createOrg(tier, { limitQps: 10_000, connections: 20 });
  await platform.createDatabase(created, "app");
  return created;
}

async function open(of = org): Promise<WireClient> {
  return await WireClient.login(
    { port: platform.postgresPort },
    { user: of.orgId, password: of.token, database: "app" },
  );
}

function errorsOf(replies: readonly WireMessage[]): readonly string[] {
  return replies.filter(({ type }) => type === "E").map(errorText);
}

const refused =
  /^54001 statement not run: the planner expects it to cost [\d,]{9,}, and the FREE tier allows 5,000,000$/;

describe("an expensive statement", () => {
  test("is refused with its cost, the bound, and what to do, and the session goes on", async () => {
    await using client = await open();
    const replies = await client.query(EXPENSIVE);
    expect(typesOf(replies)).toBe("EZ");
    expect(errorsOf(replies)[0]).toMatch(refused);
    expect(fieldsOf(replies[0] as WireMessage)["H"]).toStartWith("Narrow it by a condition");
    expect(rowsOf(await client.query("SELECT count(*) FROM part"))).toEqual([["1000"]]);
  });

  test("is refused when it is prepared, with parameters too", async () => {
    const client = new pg.Client({ connectionString: platform.url(org, "app") });
    client.on("error", () => {});
    await client.connect();
    const text = `${EXPENSIVE} AND a.name = $1`;
    for (let time = 0; time < 2; time++) {
      const failure = await client.query({ name: "pairs", text: EXPENSIVE }).catch((e: Error) => e);
      expect(failure).toMatchObject({ code: "54001" });
    }
    expect((await client.query(text, ["part 1"])).rows).toEqual([{ count: "500500" }]);
    const four = "SELECT count(*) FROM part a, part b, part c, part d WHERE a.id > $1";
    const all = await client.query(four, [0]).catch((e: Error) => e);
    expect(all).toMatchObject({ code: "54001" });
    expect((await client.query("SELECT $1::int AS a", [7])).rows).toEqual([{ a: 7 }]);
    await client.end();
  });

  test("aborts the transaction that it stands in, as any error does", async () => {
    await using client = await open();
    await client.query("BEGIN");
    await client.query("INSERT INTO part VALUES (5000, 'new')");
    const [error, ready] = await client.query(EXPENSIVE);
    expect(error && errorText(error)).toMatch(refused);
    expect(ready?.body.toString()).toBe("E");
    await client.query("COMMIT");
    expect(rowsOf(await client.query("SELECT count(*) FROM part"))).toEqual([["1000"]]);
  });

  test("leaves its neighbours in a pipeline alone", async () => {
    await using client = await open();
    const texts = ["SELECT 1", EXPENSIVE, "SELECT 2", `${EXPENSIVE} AND a.id < 3`, "SELECT 3"];
    client.send(...texts.map((text) => message("Q", text)));
    const replies = await client.untilReady(texts.length);
    expect(typesOf(replies)).toBe("TDCZEZTDCZTDCZTDCZ");
    client.send(
      extended.parse("", EXPENSIVE),
      extended.bind("", ""),
      extended.execute(""),
      extended.sync,
      extended.parse("", "SELECT 4"),
      extended.bind("", ""),
      extended.execute(""),
      extended.sync,
    );
    expect(typesOf(await client.untilReady(2))).toBe("EZ12DCZ");
  });

  test("is not one any more when an index, statistics or a smaller table have made it cheap", async () => {
    await using client = await open();
    expect(errorsOf(await client.query(EXPENSIVE))[0]).toMatch(refused);
    await using other = await open();
    await other.query("DELETE FROM part WHERE id > 10");
    await other.query("ANALYZE part");
    expect(rowsOf(await client.query(EXPENSIVE))).toHaveLength(1);
  });

  test("is told from a cheap one that differs only in its constants", async () => {
    await using client = await open();
    const series = (n: number) => `SELECT count(*) FROM generate_series(1, ${n}) a, part b, part c`;
    expect(errorsOf(await client.query(series(100_000)))[0]).toMatch(refused);
    expect(rowsOf(await client.query(series(1)))).toEqual([["1000000"]]);
    expect(errorsOf(await client.query(series(200_000)))[0]).toMatch(refused);
  });

  test("runs on the tier that has no bound", async () => {
    const large = await orgWith("ENTERPRISE");
    await using client = await open(large);
    await client.query("CREATE TABLE part AS SELECT n AS id FROM generate_series(1, 150) n");
    await client.query("SET cpu_tuple_cost = 1000");
    expect(errorsOf(await client.query(EXPENSIVE))).toEqual([]);
  });
});

describe("what cannot be estimated runs", () => {
  test("without waiting for locks, the session's own included", async () => {
    await using client = await open();
    await client.query("BEGIN; LOCK TABLE part IN ACCESS EXCLUSIVE MODE");
    expect(rowsOf(await client.query("SELECT count(*) FROM part WHERE id < 9"))).toEqual([["8"]]);
    await client.query("COMMIT");
  });

  test("in a transaction that has made its tables, and on temporary ones", async () => {
    await using client = await open();
    await client.query("BEGIN; CREATE TABLE fresh (a int)");
    expect(typesOf(await client.query("INSERT INTO fresh VALUES (1)"))).toBe("CZ");
    expect(rowsOf(await client.query("SELECT a FROM fresh"))).toEqual([["1"]]);
    await client.query("ROLLBACK");
    await client.query("CREATE TEMP TABLE part AS SELECT 1 AS id");
    expect(rowsOf(await client.query(EXPENSIVE))).toEqual([["1"]]);
  });

  test("under a search path of the session's own", async () => {
    await using client = await open();
    await client.query("CREATE SCHEMA small; CREATE TABLE small.part AS SELECT 1 AS id");
    await client.query("SET search_path = small");
    expect(rowsOf(await client.query(EXPENSIVE))).toEqual([["1"]]);
    await client.query("DISCARD ALL");
    await until("the session's own path to be gone", async () =>
      refused.test(errorsOf(await client.query(EXPENSIVE))[0] ?? ""),
    );
  });

  test("with the server's own words where it is wrong", async () => {
    await using client = await open();
    const syntax = await client.query("SELECT FROM WHERE");
    expect(errorsOf(syntax)).toEqual(['42601 syntax error at or near "WHERE"']);
    expect(fieldsOf(syntax[0] as WireMessage)["P"]).toBe("13");
    expect(errorsOf(await client.query("SELECT * FROM nowhere"))).toEqual([
      '42P01 relation "nowhere" does not exist',
    ]);
  });
});

test("nothing of a statement happens by its being estimated", async () => {
  await using client = await open();
  await client.query("CREATE SEQUENCE counter");
  await client.query("SELECT nextval('counter')");
  await client.query(
    "WITH gone AS (DELETE FROM part WHERE id = 1 RETURNING id) SELECT * FROM gone",
  );
  await client.query("SELECT 1; DELETE FROM part WHERE id = 2");
  expect(rowsOf(await client.query("SELECT last_value FROM counter"))).toEqual([["1"]]);
  expect(rowsOf(await client.query("SELECT count(*) FROM part"))).toEqual([["998"]]);
});

test("many sessions that ask at once, all in transactions, do not wait for each other's connections", async () => {
  const sessions = await Promise.all(Array.from({ length: 20 }, () => open()));
  await Promise.all(sessions.map((session) => session.query("BEGIN")));
  const answers = await Promise.all(
    sessions.map((session, n) => session.query(`SELECT id AS x${n} FROM part WHERE id = ${n + 1}`)),
  );
  expect(answers.map((answer) => rowsOf(answer)[0]?.[0])).toEqual(
    Array.from({ length: 20 }, (_, n) => String(n + 1)),
  );
  for (const session of sessions) session.destroy();
});
