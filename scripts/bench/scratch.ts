/**
 * A place for a measurement's own servers and files, of which nothing is left at its end, nor after
 * Ctrl-C.
 */
import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";

export type Scratch = {
  /** A new directory that every user can pass through: servers run as one of their own. */
  readonly home: string;
  /** Called last to first at the end. */
  readonly defer: (end: () => Promise<void>) => void;
};

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/** Runs `work` and ends everything that it deferred, however it comes out. */
export async function withScratch<T>(work: (scratch: Scratch) => Promise<T>): Promise<T> {
  const home = mkdtempSync(path.join(tmpdir(), "ogel-bench-"));
  chmodSync(home, 0o711);
  const ends: (() => Promise<void>)[] = [];
  let ended: Promise<void> | null = null;
  const end = (): Promise<void> => {
    ended ??= endAll(ends, home);
    return ended;
  };
  const interrupted = (signal: NodeJS.Signals): void => {
    process.stderr.write(`\nStopping after ${signal}.\n`);
    void end().finally(() => process.exit(130));
  };
  for (const signal of SIGNALS) process.on(signal, interrupted);
  try {
    return await work({ home, defer: (step) => void ends.push(step) });
  } finally {
    await end();
    for (const signal of SIGNALS) process.off(signal, interrupted);
  }
}

/** One that fails does not keep the others from being ended. */
async function endAll(ends: readonly (() => Promise<void>)[], home: string): Promise<void> {
  for (const end of ends.toReversed()) {
    try {
      await end();
    } catch (error) {
      process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
    }
  }
  rmSync(home, { recursive: true, force: true });
}
