/**
 * `down`: stops the platform of a data directory, however it was started, and whatever has become
 * of it.
 */
import { existsSync, realpathSync } from "node:fs";
import path from "node:path";
import { DirectoryLockedError, lockDirectory } from "../../computes/directory-lock.ts";
import { isRunning, signalProcess } from "../../platform/process-identity.ts";
import { reapLeftovers } from "./records.ts";
import type { Terminal } from "./terminal.ts";
import { LOCK_FILE } from "./up.ts";

const POLL_MS = 20;

export async function down(dataDirectory: string, terminal: Terminal): Promise<number> {
  if (!existsSync(dataDirectory)) {
    terminal.say("The platform is not running.");
    return 0;
  }
  const stateDirectory = realpathSync(dataDirectory);
  const lock = await terminal.during("Stopping", () => stopSupervisor(stateDirectory));
  try {
    const left = await reapLeftovers(stateDirectory);
    terminal.say(lock.stopped || left.length > 0 ? "Stopped." : "The platform is not running.");
    return 0;
  } finally {
    lock.release();
  }
}

/**
 * What the watchdog does once the supervisor is gone. Another one that has taken over does it
 * itself.
 */
export async function reap(stateDirectory: string): Promise<number> {
  try {
    const lock = lockDirectory(path.join(stateDirectory, LOCK_FILE));
    await reapLeftovers(stateDirectory);
    lock.release();
  } catch (error) {
    if (!(error instanceof DirectoryLockedError)) throw error;
  }
  return 0;
}

/** Resolves holding the directory's lock. */
async function stopSupervisor(
  stateDirectory: string,
): Promise<{ stopped: boolean; release(): void }> {
  const file = path.join(stateDirectory, LOCK_FILE);
  for (let stopped = false; ; stopped = true) {
    try {
      return { ...lockDirectory(file), stopped };
    } catch (error) {
      if (!(error instanceof DirectoryLockedError)) throw error;
      signalProcess(error.holder, "SIGTERM");
      while (isRunning(error.holder)) await Bun.sleep(POLL_MS);
    }
  }
}
