/** Finishes databases that a kill, or a server that was away, left between two states. */
import { setTimeout } from "node:timers/promises";
import { type ProvisioningParts, sweepDatabases } from "../platform/provisioning.ts";

const INTERVAL_MS = 15_000;
const INTERVAL_MAX_MS = 600_000;

/** Sweeps at once and then from time to time, less often while nothing comes of it. */
export function startSweeper(parts: ProvisioningParts): { stop(): Promise<void> } {
  const stopping = new AbortController();

  const run = async (): Promise<void> => {
    let waitMs = INTERVAL_MS;
    let unfinishedBefore = 0;
    while (!stopping.signal.aborted) {
      let unfinished = unfinishedBefore;
      try {
        unfinished = await sweepDatabases(parts);
      } catch (error) {
        parts.log.warn("sweep_failed", { reason: String(error) });
      }
      // Only what stays unfinished sweep after sweep is worth less and less of an effort.
      const stuck = unfinished > 0 && unfinished >= unfinishedBefore && unfinishedBefore > 0;
      waitMs = stuck ? Math.min(waitMs * 2, INTERVAL_MAX_MS) : INTERVAL_MS;
      unfinishedBefore = unfinished;
      await pause(waitMs, stopping.signal);
    }
  };
  const done = run();
  return {
    async stop() {
      stopping.abort();
      await done;
    },
  };
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  // Aborted, there is nothing left to wait for.
  await setTimeout(ms, undefined, { signal }).catch(() => {});
}
