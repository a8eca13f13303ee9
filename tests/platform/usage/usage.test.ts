/** Usage is applied exactly once, and a reader can have all that writers hold. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { Sql } from "postgres";
import { migrate } from "../../../platform/control/migrate.ts";
import { parseAdminServer } from "../../../platform/endpoints.ts";
import { newDatabaseId, newOrgId } from "../../../platform/ids.ts";
import { silentLog } from "../../../platform/log.ts";
import { openPostgres } from "../../../platform/postgres-client.ts";
import { flushUsage } from "../../../platform/usage/flush.ts";
import { type UsageTotals, zeroQuantities } from "../../../platform/usage/quantities.ts";
import { isPeriod, periodOf, readUsage } from "../../../platform/usage/report.ts";
import { startUsageShipper } from "../../../platform/usage/shipper.ts";
import { applyUsage } from "../../../platform/usage/sink.ts";
import { startPostgres, type TestPostgres } from "../../support/postgres-server.ts";

const NOVEMBER_MS = Date.UTC(2026, 10, 22, 21, 0, 0);

let server: TestPostgres;
let sql: Sql;

beforeAll(async () => {
  server = await startPostgres();
  const admin = parseAdminServer(server.adminUrl);
  if (admin === null) throw new Error("malformed address");
  sql = openPostgres(admin, { applicationName: "tests", connectionsMax: 8 });
  await migrate(sql);
}, 60_000);

afterAll(async () => {
  await sql.end({ timeout: 1 });
  await server.stop();
});

function row(
  queries: number,
  ids = { orgId: newOrgId(), databaseId: newDatabaseId() },
): UsageTotals {
  return { ...ids, totals: { ...zeroQuantities(), queries, rows: queries * 2 } };
}

function batch(writerId: string, rows: readonly UsageTotals[], final = false) {
  return { writerId, service: "o7s", rows, countedAtMs: NOVEMBER_MS, final };
}

async function queriesOf(usage: UsageTotals, period = "2026-11"): Promise<number> {
  return (await readUsage(sql, usage.orgId, period)).quantities.queries;
}

describe("a report", () => {
  test("that arrives again adds nothing", async () => {
    const usage = row(5);
    await applyUsage(sql, batch("w-again", [usage]));
    await applyUsage(sql, batch("w-again", [usage]));
    expect(await queriesOf(usage)).toBe(5);
  });

  test("that arrives many times at once is applied once", async () => {
    const usage = row(7);
    await Promise.all(Array.from({ length: 8 }, () => applyUsage(sql, batch("w-race", [usage]))));
    expect(await queriesOf(usage)).toBe(7);
  });

  test("adds only what has come since the one before", async () => {
    const usage = row(5);
    await applyUsage(sql, batch("w-more", [usage]));
    await applyUsage(sql, batch("w-more", [row(9, usage)]));
    expect(await queriesOf(usage)).toBe(9);
  });

  test("that was overtaken by a newer one takes nothing away", async () => {
    const usage = row(9);
    await applyUsage(sql, batch("w-late", [usage]));
    await applyUsage(sql, batch("w-late", [row(5, usage)]));
    await applyUsage(sql, batch("w-late", [row(10, usage)]));
    expect(await queriesOf(usage)).toBe(10);
  });

  test("of a closed writer adds nothing, though its totals are no longer kept", async () => {
    const usage = row(5);
    await applyUsage(sql, batch("w-closed", [usage], true));
    await applyUsage(sql, batch("w-closed", [row(50, usage)], true));
    expect(await queriesOf(usage)).toBe(5);
  });

  test("counts for the month in which it was counted, to the millisecond", async () => {
    const usage = row(3);
    const december = Date.UTC(2026, 11, 1);
    await applyUsage(sql, { ...batch("w-nov", [usage]), countedAtMs: december - 1 });
    await applyUsage(sql, { ...batch("w-dec", [row(4, usage)]), countedAtMs: december });
    expect([await queriesOf(usage), await queriesOf(usage, "2026-12")]).toEqual([3, 4]);
  });

  test("of two writers for one database is a sum", async () => {
    const usage = row(3);
    await applyUsage(sql, batch("w-one", [usage]));
    await applyUsage(sql, batch("w-two", [row(4, usage)]));
    expect(await queriesOf(usage)).toBe(7);
  });
});

describe("a flush", () => {
  // The writers of the tests above are as good as dead: nobody answers for them.
  beforeAll(async () => {
    await sql`UPDATE usage_writer SET closed_at = now() WHERE closed_at IS NULL`;
  });

  test("brings in what was counted a moment before, also the very first one", async () => {
    const usage = row(0);
    let queries = 0;
    const snapshot = () => [row(queries, usage)];
    const shipper = await startUsageShipper({
      sql,
      log: silentLog,
      writerId: "w-flush",
      service: "o7s",
      snapshot,
      intervalMs: 3_600_000,
    });
    const period = periodOf(Date.now());
    for (const counted of [1, 2, 3]) {
      queries = counted;
      expect(await flushUsage(sql, 10_000)).toEqual({ complete: true });
      expect(await queriesOf(usage, period)).toBe(counted);
    }
    queries = 4;
    await shipper.close({ final: true });
    expect(await queriesOf(usage, period)).toBe(4);
  });

  test("says so when a writer that was there lately does not answer", async () => {
    await applyUsage(sql, batch("w-dead", []));
    expect(await flushUsage(sql, 50)).toEqual({ complete: false });
    await applyUsage(sql, batch("w-dead", [], true));
  });

  test("does not wait for a writer that has been gone for long", async () => {
    await applyUsage(sql, batch("w-gone", []));
    await sql`UPDATE usage_writer SET seen_at = now() - interval '1 hour'
              WHERE writer_id = 'w-gone'`;
    expect(await flushUsage(sql, 10_000)).toEqual({ complete: true });
  });
});

test("a period is a month in UTC", () => {
  expect(periodOf(Date.UTC(2026, 11, 1) - 1)).toBe("2026-11");
  expect(["2026-11", "2026-13", "2026-1", "26-11", "2026-11-01"].map(isPeriod)).toEqual([
    true,
    false,
    false,
    false,
    false,
  ]);
});
