/** Reading usage: what an org has used in a period, by database. */
import type { Sql } from "postgres";
import type { DatabaseId, OrgId } from "../ids.ts";
import type { UsageFigures, UsageReport } from "./quantities.ts";

type UsageRow = {
  database_id: string;
  name: string | null;
  queries: string;
  rows: string;
  bytes_in: string;
  bytes_out: string;
  busy_micros: string;
  compute_millis: string;
};

/** Whether `text` is a period: a month, written `2026-11`. */
export function isPeriod(text: string): boolean {
  return /^(20\d\d)-(0[1-9]|1[0-2])$/.test(text);
}

/** The period in which a moment lies, in UTC. */
export function periodOf(epochMs: number): string {
  return new Date(epochMs).toISOString().slice(0, 7);
}

/** What has been applied so far; ask for a flush first to see what writers still hold. */
export async function readUsage(sql: Sql, orgId: OrgId, period: string): Promise<UsageReport> {
  const start = `${period}-01T00:00:00Z`;
  const rows = await sql<UsageRow[]>`
    SELECT u.database_id, max(d.name) AS name,
      sum(queries)::bigint AS queries, sum(rows)::bigint AS rows,
      sum(bytes_in)::bigint AS bytes_in, sum(bytes_out)::bigint AS bytes_out,
      sum(busy_micros)::bigint AS busy_micros, sum(compute_millis)::bigint AS compute_millis
    FROM usage_hourly u LEFT JOIN database d ON d.database_id = u.database_id
    WHERE u.org_id = ${orgId}
      AND u.hour >= ${start}::timestamptz
      AND u.hour < (${start}::timestamptz AT TIME ZONE 'UTC' + interval '1 month') AT TIME ZONE 'UTC'
    GROUP BY u.database_id ORDER BY u.database_id`;
  const byDatabase = rows.map((row) => ({
    databaseId: row.database_id as DatabaseId,
    name: row.name,
    queries: Number(row.queries),
    rows: Number(row.rows),
    bytesIn: Number(row.bytes_in),
    bytesOut: Number(row.bytes_out),
    busyMs: Number(row.busy_micros) / 1_000,
    computeSeconds: Number(row.compute_millis) / 1_000,
  }));
  const sum = (figure: keyof UsageFigures): number =>
    byDatabase.reduce((total, database) => total + database[figure], 0);
  return {
    orgId,
    period,
    quantities: {
      queries: sum("queries"),
      rows: sum("rows"),
      bytesIn: sum("bytesIn"),
      bytesOut: sum("bytesOut"),
      busyMs: sum("busyMs"),
      computeSeconds: sum("computeSeconds"),
    },
    byDatabase,
  };
}
