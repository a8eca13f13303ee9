/**
 * Telling one process from another that later got the same pid: whoever records a pid in a file, to
 * find the process again after a crash, records its start mark with it.
 */
import { spawnSync } from "node:child_process";
import { readFileSync, readlinkSync } from "node:fs";

export type ProcessIdentity = {
  readonly pid: number;
  /** Opaque; two processes of one pid have different marks. */
  readonly startMark: string;
};

/**
 * The identity of the process that has `pid` now, or null where there is none (a zombie counts as
 * none).
 */
export function identifyProcess(pid: number): ProcessIdentity | null {
  if (!Number.isInteger(pid) || pid < 1) return null;
  const startMark = process.platform === "linux" ? linuxStartMark(pid) : portableStartMark(pid);
  return startMark === null ? null : { pid, startMark };
}

/** Whether that very process still runs. */
export function isRunning(identity: ProcessIdentity): boolean {
  return identifyProcess(identity.pid)?.startMark === identity.startMark;
}

/** Sends a signal to that very process; false where it is gone. */
export function signalProcess(identity: ProcessIdentity, signal: NodeJS.Signals): boolean {
  if (!isRunning(identity)) return false;
  try {
    process.kill(identity.pid, signal);
    return true;
  } catch {
    return false;
  }
}

/** The directory a process works in, or null where the system does not tell. */
export function workingDirectoryOf(pid: number): string | null {
  try {
    return readlinkSync(`/proc/${pid}/cwd`);
  } catch {
    return null;
  }
}

/** The words of a process's command line, or null where there is no such process. */
export function commandLineOf(pid: number): string | null {
  if (process.platform !== "linux") return ps(pid, "command=");
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ").trim();
  } catch {
    return null;
  }
}

function linuxStartMark(pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    // The command, in parentheses, may itself hold spaces and parentheses: fields are counted after
    // the last one.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    const [state] = fields;
    const startTicks = fields[19];
    if (state === "Z" || state === "X" || startTicks === undefined) return null;
    return `${bootId()}:${startTicks}`;
  } catch {
    return null;
  }
}

let cachedBootId: string | null = null;

/** Ticks count from boot: without the boot's id, a record could name a process of another boot. */
function bootId(): string {
  cachedBootId ??= readFileSync("/proc/sys/kernel/random/boot_id", "latin1").trim();
  return cachedBootId;
}

function portableStartMark(pid: number): string | null {
  const state = ps(pid, "state=");
  return state === null || state.startsWith("Z") ? null : ps(pid, "lstart=");
}

function ps(pid: number, column: string): string | null {
  const run = spawnSync("ps", ["-o", column, "-p", String(pid)], { encoding: "utf8" });
  const text = run.stdout?.trim();
  return run.status === 0 && text !== undefined && text !== "" ? text : null;
}
