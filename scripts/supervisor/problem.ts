/** What stops the platform and is for the person at the terminal: what is wrong, and what to do. */
export class Problem extends Error {}

/** Turns what the file system says into a `Problem` where there is a plain remedy. */
export function explain(error: unknown): unknown {
  const code = (error as NodeJS.ErrnoException | null)?.code;
  const where = (error as NodeJS.ErrnoException | null)?.path ?? "the data directory";
  if (code === "ENOSPC" || code === "EDQUOT") {
    return diskFull(where);
  }
  if (code === "EACCES" || code === "EPERM" || code === "EROFS") {
    return new Problem(
      `${where} cannot be written (${code}). Make it writable for the user who starts the platform, ` +
        "or name another directory in OGEL_DATA_DIR.",
    );
  }
  return error;
}

/** Whether what a component said tells of a full disk. */
export function diskFullProblem(said: string, where: string): Problem | null {
  return /No space left on device|ENOSPC|Disk quota exceeded/.test(said) ? diskFull(where) : null;
}

function diskFull(where: string): Problem {
  return new Problem(
    `The disk that holds ${where} is full. Free some space and start again; nothing was lost.`,
  );
}
