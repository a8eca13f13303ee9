/**
 * What comes through O7s is byte for byte what PostgreSQL says, however the client's bytes are cut.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { NetConnectOpts } from "node:net";
import fc from "fast-check";
import type { DatabaseId } from "../../../../platform/ids.ts";
import { parseMasterKey, upstreamPassword } from "../../../../platform/upstream-credentials.ts";
import { message } from "../../../../proxy/protocols/postgres/messages.ts";
import { startPlatform, type TestOrg, type TestPlatform } from "../../../support/platform.ts";
import { seed } from "../../../support/seed.ts";
import { bytewise, cutPlaces, splitAt } from "../../../support/splits.ts";
import {
  errorText,
  extended,
  rowsOf,
  typesOf,
  WireClient,
  type WireLogin,
  type WireMessage,
} from "../../../support/wire.ts";

const { parse, bind, describeStatement, describePortal, execute, sync, flush } = extended;
const { closeStatement, closePortal } = extended;

let platform: TestPlatform;
let org: TestOrg;
let throughProxy: { where: NetConnectOpts; login: WireLogin };
let direct: { where: NetConnectOpts; login: WireLogin };

beforeAll(async () => {
  platform = await startPlatform();
  org = await platform.createOrg("ENTERPRISE", { limitQps: 1_000_000 });
  const databaseId = await platform.createDatabase(org, "app");
  throughProxy = {
    where: { port: platform.postgresPort },
    login: { user: org.orgId, password: org.token, database: "app" },
  };
  direct = await directLogin(databaseId);
  await using client = await WireClient.login(direct.where, direct.login);
  await client.query("CREATE TABLE fixture (id int PRIMARY KEY, name text)");
  await client.query("INSERT INTO fixture SELECT n, 'row ' || n FROM generate_series(1, 10) n");
  await client.query("CREATE TABLE sink (id int, name text)");
}, 60_000);

afterAll(async () => {
  await platform[Symbol.asyncDispose]();
}, 60_000);

async function directLogin(
  databaseId: DatabaseId,
): Promise<{ where: NetConnectOpts; login: WireLogin }> {
  const masterKey = parseMasterKey(platform.environment["OGEL_MASTER_KEY"] ?? "");
  const [row] = await platform.sql<{ generation: number }[]>`
    SELECT credential_generation AS generation FROM org WHERE org_id = ${org.orgId}`;
  if (masterKey === null || row === undefined) throw new Error("no credentials");
  const { socketDirectory, port } = platform.shared;
  return {
    where: { path: `${socketDirectory}/.s.PGSQL.${port}` },
    login: {
      user: org.orgId,
      password: upstreamPassword(masterKey, org.orgId, row.generation),
      database: databaseId,
    },
  };
}

const query = (text: string): Uint8Array => message("Q", text);
const copyData = (text: string): Uint8Array => message("d", Buffer.from(text));
const int4 = (value: number): Uint8Array => Uint8Array.of(0, 0, 0, 1, 48 + value);

/** pg_proc's int4pl, by its number, with text arguments and result. */
const functionCall = message(
  "F",
  177,
  Uint8Array.of(0, 0, 0, 2),
  int4(3),
  int4(4),
  Uint8Array.of(0, 0),
);

type Script = { readonly messages: readonly Uint8Array[]; readonly readies: number };

const SCRIPTS: Readonly<Record<string, Script>> = {
  "simple queries, empty ones and errors": {
    messages: [
      query("SELECT 1, 'zwei', NULL; SELECT 3 WHERE false; SELECT id FROM fixture WHERE id < 3"),
      query(""),
      query(" ; "),
      query("SELECT 1/0"),
      query("SELEC"),
      query("SELECT 1; SELECT missing FROM fixture; SELECT 3"),
    ],
    readies: 6,
  },
  "transactions, failed and whole": {
    messages: [
      query("BEGIN"),
      query("INSERT INTO sink VALUES (1, 'x') RETURNING *"),
      query("SAVEPOINT s"),
      query("INSERT INTO fixture VALUES (1, 'twice')"),
      query("SELECT 'ignored'"),
      query("ROLLBACK TO s"),
      query("SELECT count(*) FROM sink"),
      query("ROLLBACK"),
      query("COMMIT"),
    ],
    readies: 9,
  },
  "the extended protocol in all its steps": {
    messages: [
      parse("named", "SELECT id, name FROM fixture WHERE id <= $1::int ORDER BY id"),
      describeStatement("named"),
      bind("portal", "named", "5"),
      describePortal("portal"),
      execute("portal", 2),
      execute("portal", 2),
      execute("portal", 2),
      closePortal("portal"),
      sync,
      bind("", "named", "1"),
      execute(""),
      bind("", "named", "2"),
      execute(""),
      flush,
      sync,
      parse("", "SELECT $1::text"),
      bind("", "", "unnamed"),
      describePortal(""),
      execute(""),
      sync,
      closeStatement("named"),
      closeStatement("never was"),
      sync,
    ],
    readies: 4,
  },
  "errors in a batch, which is skipped to its Sync": {
    messages: [
      parse("", "SELECT 1/$1::int"),
      bind("", "", "0"),
      execute(""),
      parse("skipped", "SELECT 1"),
      execute("nonsense"),
      sync,
      parse("", "SELECT nonsense"),
      bind("", ""),
      sync,
      parse("", "SELECT $1::int"),
      bind("", "", "not a number"),
      execute(""),
      sync,
      execute("no such portal"),
      sync,
      query("SELECT 'in step'"),
    ],
    readies: 5,
  },
  "an implicit transaction over a batch": {
    messages: [
      parse("", "INSERT INTO sink VALUES (7, 'gone')"),
      bind("", ""),
      execute(""),
      parse("", "SELECT 1/0"),
      bind("", ""),
      execute(""),
      sync,
      query("SELECT count(*) FROM sink"),
    ],
    readies: 2,
  },
  "COPY, in and out, well and badly": {
    messages: [
      query("BEGIN"),
      query("COPY sink FROM STDIN"),
      copyData("1\tone\n2\tt"),
      copyData("wo\n"),
      message("c"),
      query("COPY sink TO STDOUT"),
      query("SAVEPOINT s"),
      query("COPY sink FROM STDIN"),
      message("f", "changed my mind"),
      query("ROLLBACK TO s"),
      query("COPY sink FROM STDIN"),
      copyData("not a number\tx\n"),
      copyData("3\tthree\n"),
      message("c"),
      query("ROLLBACK"),
      query("COPY (SELECT 1) TO STDOUT; SELECT 2"),
    ],
    readies: 9,
  },
  "notices and reported settings": {
    messages: [
      query("DO $$ BEGIN RAISE NOTICE 'noted'; RAISE WARNING 'warned'; END $$"),
      query(
        "SET application_name = 'renamed'; SET DateStyle = 'German, DMY'; SET TimeZone = 'UTC'",
      ),
      query("SELECT date '2026-11-22'"),
      query("RESET ALL"),
    ],
    readies: 4,
  },
  "results larger than any buffer": {
    messages: [
      query("SELECT n, repeat(chr(65 + n % 26), 300) FROM generate_series(1, 2000) n"),
      query("SELECT repeat('x', 1000000)"),
      query("SELECT 'after'"),
    ],
    readies: 3,
  },
  "statements longer than what is looked into": {
    messages: [
      query(`SELECT length('${"x".repeat(70_000)}')`),
      parse("long", `SELECT length('${"y".repeat(70_000)}'), $1::int`),
      bind("", "long", "1"),
      execute(""),
      sync,
      closeStatement("long"),
      sync,
    ],
    readies: 3,
  },
  "function calls": { messages: [functionCall, query("SELECT 1")], readies: 2 },
};

/** Everything that the server answers to a script, sent in these pieces. */
async function replies(
  party: { where: NetConnectOpts; login: WireLogin },
  pieces: readonly Uint8Array[],
  readies: number,
): Promise<Buffer> {
  await using client = await WireClient.login(party.where, party.login);
  const sending = client.sendPieces(pieces);
  const seen = await client.untilReady(readies);
  await sending;
  expect(client.pendingBytes).toBe(0);
  return wholeOf(seen);
}

function wholeOf(messages: readonly WireMessage[]): Buffer {
  return Buffer.concat(
    messages.map(({ type, body }) => {
      const header = Buffer.alloc(5);
      header.write(type);
      header.writeUInt32BE(body.length + 4, 1);
      return Buffer.concat([header, body]);
    }),
  );
}

describe.each(Object.entries(SCRIPTS))("%s", (_, { messages, readies }) => {
  const bytes = Buffer.concat([...messages]);
  const short = bytes.length < 5_000;
  let expected: Buffer;

  test("come through the same when sent whole", async () => {
    expected = await replies(direct, [bytes], readies);
    expect((await replies(throughProxy, [bytes], readies)).equals(expected)).toBe(true);
  });

  test("come through the same when sent message by message", async () => {
    expect((await replies(throughProxy, messages, readies)).equals(expected)).toBe(true);
  });

  test.skipIf(!short)("come through the same when sent byte by byte", async () => {
    expect((await replies(throughProxy, bytewise(bytes), readies)).equals(expected)).toBe(true);
  });

  test("come through the same however they are cut", async () => {
    await fc.assert(
      fc.asyncProperty(cutPlaces(30), async (cuts) => {
        const seen = await replies(throughProxy, splitAt(bytes, cuts), readies);
        expect(seen.equals(expected)).toBe(true);
      }),
      { seed, numRuns: 5 },
    );
  });
});

describe("a session", () => {
  test("starts with the settings that the server reports, a key of its own, and idle", async () => {
    const reported = async (party: typeof direct): Promise<readonly WireMessage[]> => {
      await using client = await WireClient.connect(party.where);
      return await client.logIn(party.login);
    };
    const [there, here] = [await reported(direct), await reported(throughProxy)];
    const settings = (seen: readonly WireMessage[]): string[] =>
      seen.flatMap(({ type, body }) => (type === "S" ? [body.toString()] : [])).sort();
    expect(settings(here)).toEqual(settings(there));
    expect(typesOf(here.slice(-2))).toBe("KZ");
    expect(here.at(-1)?.body.toString()).toBe("I");
  });

  test("keeps its prepared statements to itself, under the names it gave them", async () => {
    await using one = await WireClient.login(throughProxy.where, throughProxy.login);
    await using two = await WireClient.login(throughProxy.where, throughProxy.login);
    one.send(parse("mine", "SELECT 'one'"), sync);
    two.send(parse("mine", "SELECT 'two'"), sync);
    await one.untilReady();
    await two.untilReady();
    for (let time = 0; time < 3; time++) {
      for (const [client, answer] of [
        [one, "one"],
        [two, "two"],
      ] as const) {
        client.send(bind("", "mine"), execute(""), sync);
        expect(rowsOf(await client.untilReady())).toEqual([[answer]]);
      }
    }
    one.send(parse("mine", "SELECT 3"), sync);
    expect((await one.untilReady()).slice(0, 1).map(errorText)).toEqual([
      '42P05 prepared statement "mine" already exists',
    ]);
    two.send(closeStatement("mine"), bind("", "mine"), sync);
    expect((await two.untilReady()).filter(({ type }) => type === "E").map(errorText)).toEqual([
      '26000 prepared statement "mine" does not exist',
    ]);
    one.send(bind("", "mine"), execute(""), sync);
    expect(rowsOf(await one.untilReady())).toEqual([["one"]]);
  });

  test("may prepare a name again once its Parse has failed", async () => {
    await using client = await WireClient.login(throughProxy.where, throughProxy.login);
    client.send(parse("again", "SELECT nonsense"), sync);
    expect(typesOf(await client.untilReady())).toBe("EZ");
    client.send(parse("again", "SELECT 'well'"), bind("", "again"), execute(""), sync);
    expect(rowsOf(await client.untilReady())).toEqual([["well"]]);
  });

  test("goes on with its prepared statements after DEALLOCATE ALL and DISCARD ALL, as a server does", async () => {
    for (const clearing of ["DEALLOCATE ALL", "DISCARD ALL"]) {
      await using client = await WireClient.login(throughProxy.where, throughProxy.login);
      client.send(parse("gone", "SELECT 1"), sync);
      await client.untilReady();
      await client.query(clearing);
      client.send(bind("", "gone"), sync);
      expect((await client.untilReady()).slice(0, 1).map(errorText)).toEqual([
        '26000 prepared statement "gone" does not exist',
      ]);
      client.send(parse("gone", "SELECT 2"), bind("", "gone"), execute(""), sync);
      expect(rowsOf(await client.untilReady())).toEqual([["2"]]);
    }
  });

  test("keeps settings, temporary tables, locks and channels from one query to the next", async () => {
    await using client = await WireClient.login(throughProxy.where, throughProxy.login);
    await using other = await WireClient.login(throughProxy.where, throughProxy.login);
    await client.query("SET search_path = elsewhere");
    await client.query("CREATE TEMP TABLE kept AS SELECT 'kept' AS a");
    await client.query("SELECT pg_advisory_lock(7)");
    await client.query("PREPARE by_sql AS SELECT 'prepared'");
    for (let time = 0; time < 3; time++) {
      expect(rowsOf(await other.query("SHOW search_path"))).toEqual([['"$user", public']]);
      expect(rowsOf(await other.query("SELECT pg_try_advisory_lock(7)"))).toEqual([["f"]]);
      expect(rowsOf(await client.query("SHOW search_path"))).toEqual([["elsewhere"]]);
      expect(rowsOf(await client.query("SELECT a FROM kept"))).toEqual([["kept"]]);
      expect(rowsOf(await client.query("EXECUTE by_sql"))).toEqual([["prepared"]]);
    }
  });

  test("gets the notifications that it listens for while it is idle", async () => {
    await using client = await WireClient.login(throughProxy.where, throughProxy.login);
    await using other = await WireClient.login(throughProxy.where, throughProxy.login);
    await client.query("LISTEN news");
    await other.query("NOTIFY news, 'extra'");
    const { type, body } = await client.message();
    expect(type).toBe("A");
    expect(body.subarray(4).toString()).toBe("news\0extra\0");
  });
});
