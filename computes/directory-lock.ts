/**
 * A directory that one process at a time may serve, with a lock that a crash does not leave locked.
 */

import { randomBytes } from "node:crypto";
import { linkSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { identifyProcess, isRunning, type ProcessIdentity } from "../platform/process-identity.ts";

/** Another process serves the directory. */
export class DirectoryLockedError extends Error {
  readonly holder: ProcessIdentity;

  constructor(file: string, holder: ProcessIdentity) {
    super(`${file} is held by process ${holder.pid}.`);
    this.holder = holder;
  }
}

/** Takes the lock for this process, or throws `DirectoryLockedError`. The file holds who has it. */
export function lockDirectory(file: string): { release(): void } {
  const self = identifyProcess(process.pid);
  if (self === null) throw new Error("This system does not tell processes apart.");
  const text = JSON.stringify(self);
  const own = `${file}.${randomBytes(6).toString("hex")}`;
  writeFileSync(own, text, { mode: 0o600 });
  try {
    for (;;) {
      // A link appears with its content in one step: nobody ever reads a lock half written.
      if (tryLink(own, file)) break;
      const holder = readLockHolder(file);
      if (holder !== null) throw new DirectoryLockedError(file, holder);
      // Stale. Of several processes that find it so, only one succeeds in moving it away.
      tryMove(file, `${own}.stale`);
      rmSync(`${own}.stale`, { force: true });
    }
  } finally {
    rmSync(own, { force: true });
  }
  return {
    release: () => {
      if (readText(file) === text) rmSync(file, { force: true });
    },
  };
}

/** Who holds the lock now, or null where nobody does. */
export function readLockHolder(file: string): ProcessIdentity | null {
  const text = readText(file);
  if (text === null) return null;
  try {
    const { pid, startMark } = JSON.parse(text) as Partial<ProcessIdentity>;
    if (typeof pid !== "number" || typeof startMark !== "string") return null;
    return isRunning({ pid, startMark }) ? { pid, startMark } : null;
  } catch {
    return null;
  }
}

function readText(file: string): string | null {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
}

function tryLink(from: string, to: string): boolean {
  try {
    linkSync(from, to);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  }
}

function tryMove(from: string, to: string): void {
  try {
    renameSync(from, to);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
}
