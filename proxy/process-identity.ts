/**
 * Telling a living process from one that had its number before. A number alone does not do: it is used again, in
 * containers at once.
 */
import { readFileSync } from "node:fs";

/** This process as text, for `processLives` of another one: its number and when it started. */
export function ownProcess(): string {
  return `${process.pid} ${startOf(process.pid) ?? "-"}`;
}

export function processLives(identity: string): boolean {
  const [pidText = "", start = ""] = identity.split(" ");
  const pid = Number(pidText);
  if (!Number.isInteger(pid) || pid < 1) return false;
  const present = startOf(pid);
  if (present !== null) return present === start;
  if (start !== "-") return false; // It had a start time, so this system shows them, and it is gone.
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error instanceof Error && "code" in error && error.code === "EPERM";
  }
}

/** Start time in clock ticks since boot (proc(5), field 22 of stat), or null where the system does not tell. */
function startOf(pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The command name is in parentheses and may hold anything; the fields are counted after it.
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? null;
  } catch {
    return null;
  }
}
