/**
 * The shipper: reports a writer's totals to the control plane every second, on a flush request at
 * once, and a last time when it closes. It keeps what has been acknowledged, so that only what
 * changed travels.
 */
import type { Sql } from "postgres";
import type { Log } from "../log.ts";
import { answerFlush, onFlushRequest } from "./flush.ts";
import { QUANTITIES, type UsageTotals } from "./quantities.ts";
import { applyUsage } from "./sink.ts";

export type UsageShipper = {
  /** Reports what has been counted until now; resolves when it is applied. */
  ship(): Promise<void>;
  /**
   * Stops. With `final` the writer is closed after a last report, and its id is never used again.
   */
  close(options: { final: boolean }): Promise<void>;
};

export type UsageShipperOptions = {
  readonly sql: Sql;
  readonly log: Log;
  readonly writerId: string;
  readonly service: string;
  /** All totals of this writer. Called at each report; it must not shrink any. */
  readonly snapshot: () => readonly UsageTotals[];
  readonly intervalMs?: number;
  /** Told how each report has ended. */
  readonly reported?: (succeeded: boolean) => void;
};

/** A quiet writer still shows itself, or readers would take it for lost. */
const HEARTBEAT_MS = 5_000;

export async function startUsageShipper(options: UsageShipperOptions): Promise<UsageShipper> {
  const { sql, log, writerId, service } = options;
  const acknowledged = new Map<string, UsageTotals>();
  let running: Promise<void> = Promise.resolve();
  let lastContactMs = Number.NEGATIVE_INFINITY;
  let failing = false;

  const report = async (final: boolean, force: boolean): Promise<void> => {
    const rows = options.snapshot().filter((row) => changed(row, acknowledged.get(row.databaseId)));
    const quiet = performance.now() - lastContactMs < HEARTBEAT_MS;
    if (rows.length === 0 && quiet && !final && !force) return;
    await applyUsage(sql, { writerId, service, rows, countedAtMs: Date.now(), final });
    for (const row of rows) acknowledged.set(row.databaseId, row);
    lastContactMs = performance.now();
    if (failing) log.info("usage_shipping_resumed", { writerId });
    failing = false;
    options.reported?.(true);
  };
  // Reports follow one another: each sees what the one before had acknowledged.
  const enqueue = (final: boolean, force: boolean): Promise<void> => {
    const next = running.then(() => report(final, force));
    running = next.catch((error: unknown) => {
      if (!failing) log.warn("usage_shipping_failed", { writerId, reason: String(error) });
      failing = true;
      options.reported?.(false);
    });
    return next;
  };

  await enqueue(false, true);
  let inFlight = false;
  const timer = setInterval(() => {
    if (inFlight) return;
    inFlight = true;
    const done = () => {
      inFlight = false;
    };
    enqueue(false, false).then(done, done);
  }, options.intervalMs ?? 1_000);
  const subscription = await onFlushRequest(sql, log, (request) => {
    enqueue(false, true)
      .then(() => answerFlush(sql, writerId, request))
      .catch(() => {}); // Already logged; the reader's deadline covers it.
  });

  return {
    ship: () => enqueue(false, true),
    async close({ final }) {
      clearInterval(timer);
      await subscription.close();
      await enqueue(final, true);
    },
  };
}

function changed(now: UsageTotals, before: UsageTotals | undefined): boolean {
  if (before === undefined) return QUANTITIES.some((quantity) => now.totals[quantity] > 0);
  return QUANTITIES.some((quantity) => now.totals[quantity] !== before.totals[quantity]);
}
