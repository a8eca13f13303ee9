/** What stops the platform and is for the person at the terminal: what is wrong, and what to do. */
export class Problem extends Error {}

/** Turns what the file system says into a `Problem` where there is a plain remedy. */
export function explain(error: unknown): unknown {
  const code = (error as NodeJS.ErrnoException | null)?.code;
  const where = (error as NodeJS.ErrnoException | null)?.path ?? "the data directory";
  if (code === "ENOSPC" || code === "EDQUOT") {
    return new Problem(
      `The disk that holds ${where} is full. Free some space and start again; nothing was lost.`,
    );
  }
  if (code === "EACCES" || code === "EPERM" || code === "EROFS") {
    return new Problem(
      `${where} cannot be written (${code}). Make it writable for the user who starts the platform, ` +
        "or name another directory in OGEL_DATA_DIR.",
    );
  }
  return error;
}
