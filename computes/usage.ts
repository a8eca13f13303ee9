/** Reports the computes' seconds to the control plane. */
import { randomBytes } from "node:crypto";
import path from "node:path";
import type { DatabaseId } from "../platform/ids.ts";
import type { Log } from "../platform/log.ts";
import { openControlPlane } from "../platform/postgres-client.ts";
import { type UsageTotals, zeroQuantities } from "../platform/usage/quantities.ts";
import { startUsageShipper, type UsageShipper } from "../platform/usage/shipper.ts";
import { keptFile } from "./files.ts";
import type { Meter } from "./meter.ts";

export type UsageReporting = {
  /** Forgets a dropped compute once its last usage has been reported. */
  retire(computeId: DatabaseId): void;
  close(): Promise<void>;
};

const RETRY_MS = 1_000;
const CLOSE_PATIENCE_MS = 3_000;

/**
 * Reports every second from the moment the control plane can be reached. The totals go back to the
 * first start on this directory, so the writer is the directory: what was counted while nothing
 * could be reported is not lost.
 */
export function startUsageReporting(options: {
  directory: string;
  url: string;
  meter: Meter;
  log: Log;
}): UsageReporting {
  const { directory, meter, log } = options;
  const writerId = keptFile(
    path.join(directory, "usage-writer"),
    () => `computes-${randomBytes(12).toString("hex")}`,
  );
  const sql = openControlPlane(options.url, { applicationName: "computes", connectionsMax: 2 });
  const retired = new Set<DatabaseId>();
  let shipper: UsageShipper | null = null;
  let closed = false;
  let told = false;

  const forgetRetired = async (): Promise<void> => {
    if (shipper === null || retired.size === 0) return;
    const reported = [...retired];
    await shipper.ship();
    for (const computeId of reported) {
      meter.close(computeId);
      retired.delete(computeId);
    }
  };
  const tick = async (): Promise<void> => {
    try {
      shipper ??= await startUsageShipper({
        sql,
        log,
        writerId,
        service: "computes",
        snapshot: () => snapshot(meter),
      });
      await forgetRetired();
      told = false;
    } catch (error) {
      // Tried again every second: one line tells as much as many.
      if (!told) log.warn("usage_not_reported", { reason: String(error) });
      told = true;
    }
  };
  const loop = async (): Promise<void> => {
    while (!closed) {
      await tick();
      await Bun.sleep(RETRY_MS);
    }
  };
  void loop();

  return {
    retire: (computeId) => retired.add(computeId),
    async close() {
      closed = true;
      // What cannot be reported now is in the meters, and is reported after the next start.
      const last = shipper?.close({ final: false }).catch(() => {});
      await Promise.race([last, Bun.sleep(CLOSE_PATIENCE_MS)]);
      await sql.end({ timeout: 1 });
    },
  };
}

function snapshot(meter: Meter): readonly UsageTotals[] {
  const rows: UsageTotals[] = [];
  for (const databaseId of meter.ids()) {
    const metered = meter.read(databaseId);
    if (metered === null) continue;
    const totals = { ...zeroQuantities(), computeMillis: metered.millis };
    rows.push({ orgId: metered.orgId, databaseId, totals });
  }
  return rows;
}
