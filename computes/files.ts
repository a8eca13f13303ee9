/**
 * Small files written so that a reader, or the next start after a crash, sees the old or the new
 * content, whole.
 */
import { randomBytes } from "node:crypto";
import { linkSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";

/** Replaces a file in one step; it is closed to other users. */
export function writeFileWhole(file: string, text: string): void {
  const half = `${file}.${randomBytes(4).toString("hex")}`;
  try {
    writeFileSync(half, text, { mode: 0o600 });
    renameSync(half, file);
  } catch (error) {
    rmSync(half, { force: true });
    throw error;
  }
}

/**
 * The text of a file that is made on first use and then kept, such as a secret. Of several
 * processes that make it at once, one wins and all get its text.
 */
export function keptFile(file: string, make: () => string): string {
  const there = readIfThere(file);
  if (there !== null) return there;
  const half = `${file}.${randomBytes(4).toString("hex")}`;
  try {
    writeFileSync(half, make(), { mode: 0o600, flush: true });
    linkSync(half, file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
  } finally {
    rmSync(half, { force: true });
  }
  return readFileSync(file, "utf8");
}

/** The text of a file, or null where there is none. */
export function readIfThere(file: string): string | null {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
}
