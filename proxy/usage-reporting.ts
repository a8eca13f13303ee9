/**
 * Reporting what the counters hold: one shipper per counter file, and the files that dead workers
 * left.
 */
import { rmSync } from "node:fs";
import type { Sql } from "postgres";
import type { Log } from "../platform/log.ts";
import { startUsageShipper, type UsageShipper } from "../platform/usage/shipper.ts";
import { applyUsage } from "../platform/usage/sink.ts";
import { type CounterFile, leftOverFiles, type UsageCounters } from "./usage-counters.ts";

const SERVICE = "o7s";
/** Files are added when databases outgrow them; each is reported from then on. */
const NEW_FILE_CHECK_MS = 1_000;

export type UsageReporting = {
  /** How long ago the control plane took the last report, of the file that is furthest behind. */
  reportAgeMs(): number;
  close(): Promise<void>;
};

/**
 * Reports for dead predecessors, then goes on reporting for this worker. A control plane that is
 * away does not keep the proxy from starting: what is counted stays in the files until it is back.
 */
export async function startUsageReporting(parts: {
  readonly sql: Sql;
  readonly log: Log;
  readonly directory: string;
  readonly counters: UsageCounters;
  /** Monotonic. */
  readonly nowMs: () => number;
  /** Told of each report that failed. */
  readonly failed: () => void;
}): Promise<UsageReporting> {
  const { sql, log, counters, nowMs } = parts;
  const startedMs = nowMs();
  const reportedMs = new Map<CounterFile, number>();
  const shippers = new Map<CounterFile, Promise<UsageShipper>>();
  let closed = false;

  const start = async (file: CounterFile): Promise<UsageShipper> => {
    const snapshot = () => file.snapshot().rows;
    return await startUsageShipper({
      sql,
      log,
      writerId: file.writerId,
      service: SERVICE,
      snapshot,
      reported: (succeeded) => {
        if (succeeded) reportedMs.set(file, nowMs());
        else parts.failed();
      },
    });
  };
  const startMissing = (): void => {
    for (const file of counters.writers) {
      if (shippers.has(file)) continue;
      const starting = start(file);
      shippers.set(file, starting);
      starting.catch(() => shippers.delete(file)); // Tried again at the next check.
    }
  };
  const inherit = async (): Promise<boolean> => {
    for (const left of leftOverFiles(parts.directory)) {
      const batch = { ...left, service: SERVICE, countedAtMs: left.modifiedAtMs, final: true };
      await applyUsage(sql, batch);
      rmSync(left.path, { force: true }); // Another worker may have been faster.
      log.info("usage_inherited", { writerId: left.writerId, databases: left.rows.length });
    }
    return true;
  };
  let inherited = false;
  let inheriting = false;
  const check = (): void => {
    if (closed) return;
    startMissing();
    if (inherited || inheriting) return;
    inheriting = true;
    inherit()
      .then(
        () => {
          inherited = true;
        },
        (error: unknown) => log.warn("usage_inheritance_failed", { reason: String(error) }),
      )
      .finally(() => {
        inheriting = false;
      });
  };
  check();
  // A reader of usage waits for the writers that are known by then: nothing is counted before this
  // one is.
  await Promise.allSettled(shippers.values());
  const timer = setInterval(check, NEW_FILE_CHECK_MS);

  return {
    reportAgeMs() {
      let oldestMs = nowMs();
      for (const file of counters.writers) {
        oldestMs = Math.min(oldestMs, reportedMs.get(file) ?? startedMs);
      }
      return nowMs() - oldestMs;
    },
    async close() {
      closed = true;
      clearInterval(timer);
      for (const [file, starting] of shippers) {
        // A file whose last report failed stays for the next start.
        await starting
          .then((shipper) => shipper.close({ final: true }))
          .then(() => file.remove())
          .catch((error: unknown) => log.warn("usage_kept", { reason: String(error) }));
      }
    },
  };
}
