/** The end of a server's log, for the log of whoever runs it. */
import { closeSync, fstatSync, openSync, readSync, renameSync, statSync } from "node:fs";

const TAIL_BYTES = 2_000;
const LOG_BYTES_MAX = 1_048_576;

/** The last lines, of those after `fromBytes` only; the empty string where there is no log. */
export function readLogTail(logFile: string, fromBytes = 0): string {
  try {
    const file = openSync(logFile, "r");
    try {
      const size = fstatSync(file).size;
      const buffer = Buffer.alloc(Math.max(0, Math.min(TAIL_BYTES, size - fromBytes)));
      readSync(file, buffer, 0, buffer.length, size - buffer.length);
      return buffer.toString("utf8").trim();
    } finally {
      closeSync(file);
    }
  } catch {
    return "";
  }
}

/**
 * Puts a log that has grown large aside, one generation deep. For use while nobody writes to it.
 */
export function rotateLog(logFile: string): void {
  const size = statSync(logFile, { throwIfNoEntry: false })?.size ?? 0;
  if (size > LOG_BYTES_MAX) renameSync(logFile, `${logFile}.1`);
}
