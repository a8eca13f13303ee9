/**
 * A session's memory and time by tier, on a real server: what is in force, what is refused, and
 * that it follows the tier.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { setTier } from "../../platform/control/orgs.ts";
import type { Tier } from "../../platform/tiers.ts";
import { message } from "../../proxy/protocols/postgres/messages.ts";
import { refusalOf } from "../support/outcome.ts";
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

const ACTOR = { name: "tests", requestId: null };
const SETTINGS = ["work_mem", "statement_timeout", "idle_in_transaction_session_timeout"] as const;
const SHOW = `SELECT ${SETTINGS.map((name) => `current_setting('${name}')`).join(", ")}`;

let platform: TestPlatform;

beforeAll(async () => {
  platform = await startPlatform();
}, 60_000);

afterAll(async () => {
  await platform[Symbol.asyncDispose]();
}, 60_000);

async function orgWith(tier: Tier): Promise<TestOrg> {
  const org = await platform.createOrg(tier, { limitQps: 10_000 });
  await platform.createDatabase(org, "app");
  return org;
}

async function open(
  org: TestOrg,
  parameters: Readonly<Record<string, string>> = {},
): Promise<WireClient> {
  return await WireClient.login(
    { port: platform.postgresPort },
    { user: org.orgId, password: org.token, database: "app", parameters },
  );
}

async function show(client: WireClient): Promise<readonly (string | null)[] | undefined> {
  return rowsOf(await client.query(SHOW))[0];
}

function errorsOf(replies: readonly WireMessage[]): readonly string[] {
  return replies.filter(({ type }) => type === "E").map(errorText);
}

describe("a session's settings", () => {
  test.each([
    ["FREE", ["4MB", "15s", "2min"]],
    ["STARTER", ["16MB", "1min", "5min"]],
    ["PRO", ["64MB", "5min", "15min"]],
    ["ENTERPRISE", ["256MB", "1h", "1h"]],
  ] as const)(
    "of %s are in force from its login on, and after every reset",
    async (tier, settings) => {
      const org = await orgWith(tier);
      await using client = await open(org);
      expect(await show(client)).toEqual([...settings]);
      await client.query("SET work_mem = '64kB'; SET statement_timeout = 5");
      await client.query("RESET ALL");
      expect(await show(client)).toEqual([...settings]);
      await client.query("DISCARD ALL");
      expect(await show(client)).toEqual([...settings]);
    },
  );

  test("are the tier's whatever the tenant has set for its role and database", async () => {
    const org = await orgWith("FREE");
    await using client = await open(org);
    await client.query("ALTER ROLE CURRENT_USER SET work_mem = '2GB'");
    await client.query(
      "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET statement_timeout = 0', current_database()); END $$",
    );
    await using later = await open(org, { application_name: "later" });
    expect(await show(later)).toEqual(["4MB", "15s", "2min"]);
  });

  test("may be smaller than the tier's, asked for in any way", async () => {
    const org = await orgWith("FREE");
    await using client = await open(org, {
      options: "-c work_mem=1MB --statement-timeout=2000",
      IDLE_IN_TRANSACTION_SESSION_TIMEOUT: "10s",
    });
    expect(await show(client)).toEqual(["1MB", "2s", "10s"]);
    expect(errorsOf(await client.query("SET work_mem = '1MB'"))).toEqual([]);
    expect(errorsOf(await client.query("BEGIN; SET LOCAL work_mem TO 4096; COMMIT"))).toEqual([]);
    expect(errorsOf(await client.query("SELECT set_config('work_mem', '2MB', false)"))).toEqual([]);
    expect((await show(client))?.[0]).toBe("2MB");
  });

  test("follow a change of tier, for sessions that are open too", async () => {
    const org = await orgWith("FREE");
    await using client = await open(org, { work_mem: "4MB" });
    await using other = await open(org);
    expect(await show(other)).toEqual(["4MB", "15s", "2min"]);
    await setTier(platform.sql, org.orgId, "PRO", ACTOR);
    await until("the new tier's settings", async () => (await show(other))?.[0] === "64MB");
    expect(await show(other)).toEqual(["64MB", "5min", "15min"]);
    // What the client has asked for itself stays.
    expect((await show(client))?.[0]).toBe("4MB");
    await setTier(platform.sql, org.orgId, "FREE", ACTOR);
    await until("the old tier's settings", async () => (await show(other))?.[0] === "4MB");
  });
});

describe("a setting above the tier's", () => {
  const refusal = {
    code: "22023",
    message: 'work_mem cannot be set to "1GB": the FREE tier allows at most 4MB',
    hint: "Set work_mem to 4MB or less, or upgrade the tier.",
  };

  test.each([
    "SET work_mem = '1GB'",
    "set session WORK_MEM to '1GB'",
    "SELECT 1; SET /* why */ LOCAL \"work_mem\" = '1GB'",
    "SELECT set_config('work_mem', '1GB', true)",
  ])("is refused with the cap named: %s", async (statement) => {
    const org = await orgWith("FREE");
    await using client = await open(org);
    const replies = await client.query(statement);
    expect(typesOf(replies)).toBe("EZ");
    const fields = fieldsOf(replies[0] as WireMessage);
    expect({ code: fields["C"], message: fields["M"], hint: fields["H"] }).toMatchObject(refusal);
    expect((await show(client))?.[0]).toBe("4MB");
  });

  test.each([
    ["SET statement_timeout = '16s'", "15s"],
    ["SET idle_in_transaction_session_timeout = 120001", "2min"],
  ])("is refused for timeouts: %s", async (statement, cap) => {
    const org = await orgWith("FREE");
    await using client = await open(org);
    const [error] = errorsOf(await client.query(statement));
    expect(error).toStartWith("22023 ");
    expect(error).toEndWith(`the FREE tier allows at most ${cap}`);
  });

  test("is refused when it is prepared, in its place in the pipeline, and costs nothing else", async () => {
    const org = await orgWith("FREE");
    await using client = await open(org);
    client.send(
      extended.parse("before", "SELECT 'before'"),
      extended.bind("", "before"),
      extended.execute(""),
      extended.parse("big", "SET work_mem = '1GB'"),
      extended.bind("", "big"),
      extended.execute(""),
      extended.sync,
      extended.bind("", "before"),
      extended.execute(""),
      extended.sync,
    );
    const replies = await client.untilReady(2);
    expect(typesOf(replies)).toBe("12DCEZ2DCZ");
    expect(errorsOf(replies)).toEqual([`22023 ${refusal.message}`]);
    client.send(extended.bind("", "big"), extended.sync);
    expect(errorsOf(await client.untilReady())).toEqual([
      '26000 prepared statement "big" does not exist',
    ]);
  });

  test("aborts the transaction that it stands in, as any error does", async () => {
    const org = await orgWith("FREE");
    await using client = await open(org);
    await client.query("BEGIN");
    const [error, ready] = await client.query("SET work_mem = '1GB'");
    expect(error?.type).toBe("E");
    expect(ready?.body.toString()).toBe("E");
    expect(typesOf(await client.query("COMMIT"))).toBe("CZ");
  });

  test("says what was asked for without letting anything of it out of the message", async () => {
    const org = await orgWith("FREE");
    await using client = await open(org);
    await client.query("SET standard_conforming_strings = off");
    const replies = await client.query("SET work_mem = E'9GB'' $o7s$ \\' ; é'");
    expect(errorsOf(replies).length).toBe(1);
    const hidden = await client.query("SET work_mem = $a$99GB$a$");
    expect(errorsOf(hidden)).toEqual([
      '22023 work_mem cannot be set to "99GB": the FREE tier allows at most 4MB',
    ]);
  });

  test("refuses the login that asks for it", async () => {
    const org = await orgWith("FREE");
    for (const parameters of [
      { work_mem: "1GB" },
      { Work_Mem: "1GB" },
      { options: "-c work_mem=1GB" },
      { options: "-cwork_mem=1GB" },
      { options: "--work-mem=1GB" },
    ]) {
      const { message: text } = await refusalOf(open(org, parameters));
      expect(text).toBe(`22023 ${refusal.message}`);
    }
  });

  test("is none where it only stands in a string, a comment or another name", async () => {
    const org = await orgWith("FREE");
    await using client = await open(org);
    for (const statement of [
      "SELECT '; SET work_mem = ''1GB'''",
      "SELECT 1 -- ; SET work_mem = '1GB'",
      "SELECT 1 /* ; SET work_mem = '1GB' /* */ */",
      "SELECT $$; SET work_mem = '1GB'$$",
      "CREATE TABLE t (work_mem int); UPDATE t SET work_mem = 99999999",
      "SHOW work_mem",
      "RESET work_mem",
      "SET work_mem TO DEFAULT",
    ]) {
      expect([statement, ...errorsOf(await client.query(statement))]).toEqual([statement]);
    }
  });
});

describe("time limits", () => {
  test("a server's own timeout that was smaller keeps the server's words", async () => {
    const org = await orgWith("FREE");
    await using client = await open(org);
    await client.query("SET statement_timeout = 50");
    expect(errorsOf(await client.query("SELECT pg_sleep(60)"))).toEqual([
      "57014 canceling statement due to statement timeout",
    ]);
  });

  test("a dump's or restore's first lines are let through", async () => {
    const org = await orgWith("FREE");
    await using client = await open(org);
    for (const name of ["statement_timeout", "idle_in_transaction_session_timeout"]) {
      expect(errorsOf(await client.query(`SET ${name} = 0`))).toEqual([]);
    }
    client.send(message("Q", "SELECT 'goes on'"));
    expect(rowsOf(await client.untilReady())).toEqual([["goes on"]]);
  });
});
