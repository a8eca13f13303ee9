/** Where usage is applied: the control plane, exactly once however often a report arrives. */
import type { Sql } from "postgres";
import { QUANTITIES, type UsageTotals } from "./quantities.ts";

export type UsageReportBatch = {
  /** Unique over all writers there ever were; at most 80 characters. */
  readonly writerId: string;
  /** Which kind of service writes: `o7s`, `computes`. */
  readonly service: string;
  /** Totals since the writer began, per database. Only those that changed need to be here. */
  readonly rows: readonly UsageTotals[];
  /** When this was counted, in milliseconds since the epoch; decides the hour and so the period. */
  readonly countedAtMs: number;
  /** True with the last report under this id. */
  readonly final: boolean;
};

/**
 * Applies a report. Sending it again, or one that an unseen answer left in doubt, adds nothing.
 * Reports of one writer are applied one after the other. Throws what the database throws; nothing
 * is applied then.
 */
export async function applyUsage(sql: Sql, batch: UsageReportBatch): Promise<void> {
  const columns = QUANTITIES.map((quantity) => batch.rows.map((row) => row.totals[quantity]));
  await sql.begin(async (tx) => {
    // The writer's row is the lock under which its totals are compared and replaced.
    const [writer] = await tx<{ closed: boolean }[]>`
      INSERT INTO usage_writer (writer_id, service) VALUES (${batch.writerId}, ${batch.service})
      ON CONFLICT (writer_id) DO UPDATE SET seen_at = now()
      RETURNING closed_at IS NOT NULL AS closed`;
    if (writer?.closed !== false) return;
    if (batch.rows.length > 0) {
      await tx`
        WITH incoming AS (
          SELECT * FROM unnest(
            ${batch.rows.map((row) => row.orgId)}::text[],
            ${batch.rows.map((row) => row.databaseId)}::text[],
            ${columns[0] ?? []}::bigint[], ${columns[1] ?? []}::bigint[], ${columns[2] ?? []}::bigint[],
            ${columns[3] ?? []}::bigint[], ${columns[4] ?? []}::bigint[], ${columns[5] ?? []}::bigint[]
          ) AS t (org_id, database_id, queries, rows, bytes_in, bytes_out, busy_micros, compute_millis)
        ), applied AS (
          SELECT * FROM usage_total WHERE writer_id = ${batch.writerId}
        ), hourly AS (
          INSERT INTO usage_hourly AS h (org_id, database_id, hour,
            queries, rows, bytes_in, bytes_out, busy_micros, compute_millis)
          SELECT i.org_id, i.database_id,
            date_trunc('hour', to_timestamp(${batch.countedAtMs}::float8 / 1000), 'UTC'),
            greatest(0, i.queries - coalesce(a.queries, 0)),
            greatest(0, i.rows - coalesce(a.rows, 0)),
            greatest(0, i.bytes_in - coalesce(a.bytes_in, 0)),
            greatest(0, i.bytes_out - coalesce(a.bytes_out, 0)),
            greatest(0, i.busy_micros - coalesce(a.busy_micros, 0)),
            greatest(0, i.compute_millis - coalesce(a.compute_millis, 0))
          FROM incoming i LEFT JOIN applied a USING (database_id)
          ON CONFLICT (org_id, hour, database_id) DO UPDATE SET
            queries = h.queries + excluded.queries,
            rows = h.rows + excluded.rows,
            bytes_in = h.bytes_in + excluded.bytes_in,
            bytes_out = h.bytes_out + excluded.bytes_out,
            busy_micros = h.busy_micros + excluded.busy_micros,
            compute_millis = h.compute_millis + excluded.compute_millis
        )
        INSERT INTO usage_total AS t (writer_id, database_id,
          queries, rows, bytes_in, bytes_out, busy_micros, compute_millis)
        SELECT ${batch.writerId}, database_id,
          queries, rows, bytes_in, bytes_out, busy_micros, compute_millis FROM incoming
        ON CONFLICT (writer_id, database_id) DO UPDATE SET
          queries = greatest(t.queries, excluded.queries),
          rows = greatest(t.rows, excluded.rows),
          bytes_in = greatest(t.bytes_in, excluded.bytes_in),
          bytes_out = greatest(t.bytes_out, excluded.bytes_out),
          busy_micros = greatest(t.busy_micros, excluded.busy_micros),
          compute_millis = greatest(t.compute_millis, excluded.compute_millis)`;
    }
    if (batch.final) {
      // A closed writer is never compared again: its totals have done their work.
      await tx`UPDATE usage_writer SET closed_at = now() WHERE writer_id = ${batch.writerId}`;
      await tx`DELETE FROM usage_total WHERE writer_id = ${batch.writerId}`;
    }
  });
}
