/** What is logged of slow statements and of denials. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { refusalOf } from "../support/outcome.ts";
import { startPlatform, type TestOrg, type TestPlatform } from "../support/platform.ts";
import { extended, WireClient } from "../support/wire.ts";

let platform: TestPlatform;
let org: TestOrg;
let databaseId: string;

beforeAll(async () => {
  platform = await startPlatform({ environment: { O7S_SLOW_QUERY_MS: "100" } });
  org = await platform.createOrg("PRO");
  databaseId = await platform.createDatabase(org, "app");
}, 60_000);

afterAll(async () => {
  await platform[Symbol.asyncDispose]();
}, 60_000);

const open = (password = org.token): Promise<WireClient> =>
  WireClient.login({ port: platform.postgresPort }, { user: org.orgId, password, database: "app" });

async function slowQuery(part: string): Promise<Record<string, unknown>> {
  const line = await platform.proxy.logged(
    (logged) => logged.includes('"event":"slow_query"') && logged.includes(part),
  );
  return JSON.parse(line) as Record<string, unknown>;
}

describe("a slow statement is logged", () => {
  test("with its fingerprint, never with what its user put into it", async () => {
    await using client = await open();
    await client.query("SELECT pg_sleep(0.15), 'confidential' AS first FROM generate_series(1, 1)");
    const line = await slowQuery("first");
    expect(line).toMatchObject({
      orgId: org.orgId,
      database: "app",
      databaseId,
      protocol: "postgres",
      rows: 1,
      succeeded: true,
      fingerprint: "select pg_sleep(?), ? as first from generate_series(?, ...)",
    });
    expect(line["durationMs"]).toBeGreaterThanOrEqual(100);
    expect(platform.proxy.lines().join("\n")).not.toContain("confidential");
  });

  test("in the extended protocol too, prepared under a name or not", async () => {
    await using client = await open();
    client.send(extended.parse("", "SELECT pg_sleep(0.15) AS unnamed"));
    client.send(extended.bind("", ""), extended.execute(""), extended.sync);
    await client.untilReady();
    expect((await slowQuery("unnamed"))["fingerprint"]).toBe("select pg_sleep(?) as unnamed");
    client.send(extended.parse("mine", "SELECT pg_sleep(0.15) AS prepared"), extended.sync);
    await client.untilReady();
    client.send(extended.bind("", "mine"), extended.execute(""), extended.sync);
    await client.untilReady();
    expect((await slowQuery("prepared"))["fingerprint"]).toBe("select pg_sleep(?) as prepared");
  });

  test("under the name of its portal, not of what was bound last", async () => {
    await using client = await open();
    client.send(
      extended.parse("slow", "SELECT pg_sleep(0.15) AS of_a_portal"),
      extended.parse("fast", "SELECT 1 AS bound_last"),
      extended.bind("first", "slow"),
      extended.bind("second", "fast"),
      extended.execute("first"),
      extended.sync,
    );
    await client.untilReady();
    client.send(extended.bind("mine", "slow"), extended.execute("mine"), extended.sync);
    await client.untilReady();
    await slowQuery("of_a_portal");
    expect(platform.proxy.lines().join("\n")).not.toContain("bound_last");
  });

  test("when it fails, as failed", async () => {
    await using client = await open();
    await client.query("SELECT pg_sleep(0.15), 1/(random() * 0)::int AS failing");
    expect(await slowQuery("failing")).toMatchObject({ succeeded: false, rows: 0 });
  });

  test("without a fingerprint where several were on their way at once", async () => {
    await using client = await open();
    client.send(
      extended.parse("a", "SELECT pg_sleep(0.15)"),
      extended.parse("b", "SELECT 'other'"),
      extended.bind("", "a"),
      extended.execute(""),
      extended.bind("", "b"),
      extended.execute(""),
      extended.sync,
    );
    await client.untilReady();
    expect((await slowQuery('"fingerprint":null'))["orgId"]).toBe(org.orgId);
  });
});

test("a fast statement is not logged", async () => {
  await using client = await open();
  await client.query("SELECT 1 AS fast");
  await client.query("SELECT pg_sleep(0.15) AS after_fast");
  await slowQuery("after_fast");
  expect(platform.proxy.lines().join("\n")).not.toContain("as fast");
});

test("a flood of denials does not flood the log, and is counted whole", async () => {
  for (let tried = 0; tried < 40; tried++) await refusalOf(open("wrong"));
  const denials = platform.proxy.lines().filter((line) => line.includes('"event":"denial"'));
  expect(denials.length).toBeGreaterThanOrEqual(20);
  expect(denials.length).toBeLessThan(35);
  const text = await (await fetch(`http://127.0.0.1:${platform.httpPort}/metrics`)).text();
  const counted = [...text.matchAll(/^o7s_denials_total\{.*\} (\d+)$/gm)];
  expect(counted.reduce((sum, [, count]) => sum + Number(count), 0)).toBe(40);
});
