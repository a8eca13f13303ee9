/** The processor time that a process and its descendants have used, from /proc (Linux). */
import { readdirSync, readFileSync } from "node:fs";

/**
 * What `sysconf(_SC_CLK_TCK)` says on every Linux that Bun runs on: /proc counts in hundredths of a
 * second.
 */
const TICKS_PER_SECOND = 100;

type Stat = { readonly parent: number; readonly ticks: number };

/** User and system time of all threads of `pid` and of its living descendants, in microseconds. */
export function cpuMicrosOf(pid: number): number {
  const processes = new Map<number, Stat>();
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const stat = readStat(name);
    if (stat !== null) processes.set(Number(name), stat);
  }
  let ticks = 0;
  for (const [id, stat] of processes) if (descends(processes, id, pid)) ticks += stat.ticks;
  return (ticks / TICKS_PER_SECOND) * 1_000_000;
}

function descends(processes: ReadonlyMap<number, Stat>, id: number, ancestor: number): boolean {
  let at = id;
  while (at !== ancestor) {
    const stat = processes.get(at);
    if (stat === undefined || stat.parent === 0) return false;
    at = stat.parent;
  }
  return true;
}

/** Null where the process has just ended. */
function readStat(pid: string): Stat | null {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/stat`, "latin1");
  } catch {
    return null;
  }
  // The command, in parentheses, may itself hold spaces and parentheses: fields are counted after
  // the last one.
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  const [, parent] = fields;
  const [userTicks, systemTicks] = fields.slice(11, 13);
  return { parent: Number(parent), ticks: Number(userTicks) + Number(systemTicks) };
}
