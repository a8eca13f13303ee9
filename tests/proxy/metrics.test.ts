/** What /metrics tells of real traffic. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { message } from "../../proxy/protocols/postgres/messages.ts";
import { startPlatform, type TestOrg, type TestPlatform } from "../support/platform.ts";
import { until } from "../support/until.ts";
import { extended, WireClient } from "../support/wire.ts";

let platform: TestPlatform;
let org: TestOrg;

beforeAll(async () => {
  platform = await startPlatform({ computes: true });
  org = await platform.createOrg("FREE");
  await platform.createDatabase(org, "app");
}, 60_000);

afterAll(async () => {
  await platform[Symbol.asyncDispose]();
}, 60_000);

const open = (): Promise<WireClient> =>
  WireClient.login(
    { port: platform.postgresPort },
    { user: org.orgId, password: org.token, database: "app" },
  );

/** Samples by name and labels. */
async function samples(): Promise<ReadonlyMap<string, number>> {
  const text = await (await fetch(`http://127.0.0.1:${platform.httpPort}/metrics`)).text();
  const lines = text.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  return new Map(
    lines.map((line) => {
      const at = line.lastIndexOf(" ");
      return [line.slice(0, at), Number(line.slice(at + 1))];
    }),
  );
}

const COUNT = 'o7s_statement_duration_seconds_count{protocol="postgres",tier="FREE"}';
const SUM = 'o7s_statement_duration_seconds_sum{protocol="postgres",tier="FREE"}';

describe("statements", () => {
  test("are timed by tier, each one of a message or a pipeline", async () => {
    await using client = await open();
    const before = await samples();
    await client.query("SELECT 1; SELECT 2");
    client.send(
      extended.parse("", "SELECT pg_sleep(0.2)"),
      extended.bind("", ""),
      extended.execute(""),
      extended.sync,
    );
    await client.untilReady();
    const after = await samples();
    expect((after.get(COUNT) ?? 0) - (before.get(COUNT) ?? 0)).toBe(3);
    expect((after.get(SUM) ?? 0) - (before.get(SUM) ?? 0)).toBeGreaterThanOrEqual(0.2);
  });

  test("that fail are counted by class of SQLSTATE, a tenant's own codes together", async () => {
    await using client = await open();
    await client.query("SELECT 1/0");
    await client.query("DO $$BEGIN RAISE EXCEPTION 'mine' USING ERRCODE = 'ZQ001'; END$$");
    await client.query("DO $$BEGIN RAISE EXCEPTION 'mine' USING ERRCODE = 'ZZ999'; END$$");
    const failed = 'o7s_statements_failed_total{protocol="postgres",class=';
    const seen = await samples();
    expect(seen.get(`${failed}"22"}`)).toBe(1);
    expect(seen.get(`${failed}"other"}`)).toBe(2);
    expect([...seen.keys()].join("\n")).not.toContain("ZZ");
  });

  test("that waited for their turn are timed apart", async () => {
    await using client = await open();
    await until("a burst used up", async () => {
      client.send(...Array.from({ length: 11 }, () => message("Q", "SELECT 1")));
      await client.untilReady(11);
      return ((await samples()).get("o7s_throttle_wait_seconds_count") ?? 0) > 0;
    });
    expect((await samples()).get("o7s_throttle_wait_seconds_sum")).toBeGreaterThan(0);
  });
});

test("pinned sessions are counted by what binds them", async () => {
  await using client = await open();
  await client.query("LISTEN something");
  await using other = await open();
  await other.query("CREATE TEMP TABLE mine (a int)");
  const seen = await samples();
  expect(seen.get('o7s_sessions_pinned{reason="LISTEN"}')).toBe(1);
  expect(seen.get('o7s_sessions_pinned{reason="temporary tables"}')).toBe(1);
});

test("connecting to databases, reports of usage and late timers are told", async () => {
  await using client = await open();
  await client.query("SELECT 1");
  const seen = await samples();
  expect(seen.get("o7s_upstream_connect_seconds_count")).toBeGreaterThanOrEqual(1);
  expect(seen.get("o7s_usage_report_age_seconds")).toBeLessThan(10);
  expect(seen.get("o7s_usage_reports_failed_total")).toBe(0);
  expect(seen.get("o7s_client_backlog_bytes")).toBe(0);
  expect(seen.get("o7s_draining")).toBe(0);
  await until("a look at the timers", async () => {
    return ((await samples()).get("o7s_event_loop_lag_seconds_count") ?? 0) > 0;
  });
});

test("a compute that is woken is counted and timed", async () => {
  await platform.createDatabase(org, "sleeper", "neon");
  const before = await samples();
  await using client = await WireClient.login(
    { port: platform.postgresPort },
    { user: org.orgId, password: org.token, database: "sleeper" },
  );
  await client.query("SELECT 1");
  const after = await samples();
  const grown = (name: string): number => (after.get(name) ?? 0) - (before.get(name) ?? 0);
  expect(grown("o7s_compute_wakes_total")).toBe(1);
  expect(grown("o7s_compute_wake_seconds_count")).toBe(1);
  expect(grown("o7s_compute_wake_seconds_sum")).toBeGreaterThan(0);
});

test("reports of usage that fail are counted, and no session is lost by them", async () => {
  await platform.control.kill();
  await until(
    "a failed report",
    async () => {
      await using client = await open();
      await client.query("SELECT 1");
      return ((await samples()).get("o7s_usage_reports_failed_total") ?? 0) > 0;
    },
    15_000,
  );
  await platform.control.restart();
}, 30_000);
