/**
 * What a killed postmaster leaves: its children notice within moments that it is gone, but one that
 * is busy with a query may take long, and no new server starts on the directory until all have
 * ended.
 */
import { readdirSync, realpathSync, rmSync } from "node:fs";
import path from "node:path";
import { commandLineOf, workingDirectoryOf } from "../../platform/process-identity.ts";
import { findServerProcess } from "./data-directory.ts";

/**
 * Ends the PostgreSQL processes that work in a data directory. Only for one whose postmaster is
 * known to be gone.
 */
export function endOrphans(dataDirectory: string): void {
  if (process.platform !== "linux") return; // They end by themselves, only later.
  const directory = realpathSync(dataDirectory);
  for (const entry of readdirSync("/proc")) {
    const pid = Number(entry);
    if (!Number.isInteger(pid) || workingDirectoryOf(pid) !== directory) continue;
    if (commandLineOf(pid)?.startsWith("postgres: ") !== true) continue;
    try {
      process.kill(pid, "SIGQUIT");
    } catch {
      // It has just ended.
    }
  }
}

/**
 * Removes the lock files of a server that is gone. PostgreSQL itself only asks whether the pid in
 * them is in use, and takes for its own a process that has got the number since, or a dead one that
 * nobody has reaped. The data is safe without: PostgreSQL also looks for processes that are
 * attached to the directory's shared memory.
 */
export function removeStaleLocks(place: {
  dataDirectory: string;
  socketDirectory: string;
  port: number;
}): void {
  if (findServerProcess(place.dataDirectory) !== null) return;
  rmSync(path.join(place.dataDirectory, "postmaster.pid"), { force: true });
  const socket = path.join(place.socketDirectory, `.s.PGSQL.${place.port}`);
  rmSync(socket, { force: true });
  rmSync(`${socket}.lock`, { force: true });
}

/** Whether a server that did not start says that processes of an earlier one are in its way. */
export function saysOrphansAreThere(log: string): boolean {
  return log.includes("pre-existing shared memory block");
}
