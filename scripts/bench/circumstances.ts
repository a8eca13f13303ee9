/** Under which circumstances a measurement was made: without them its numbers mean nothing. */
import { availableParallelism, cpus, loadavg, release, totalmem } from "node:os";
import { REPOSITORY } from "../cli/platform-file.ts";

export type Circumstances = {
  readonly at: string;
  /** With "+" where the work tree differs from it; null outside a repository. */
  readonly commit: string | null;
  readonly machine: {
    readonly os: string;
    readonly cpu: string;
    readonly cores: number;
    readonly memoryGb: number;
    /** Processes that wanted to run in the minute before: above zero, others shared the machine. */
    readonly loadBefore: number;
  };
};

/** To be called before the measurement begins. */
export function describeCircumstances(): Circumstances {
  return {
    at: new Date().toISOString(),
    commit: describeCommit(),
    machine: {
      os: `${process.platform} ${release()}`,
      cpu: cpus()[0]?.model.trim() ?? "unknown",
      cores: availableParallelism(),
      memoryGb: Math.round(totalmem() / 1e9),
      loadBefore: Number((loadavg()[0] ?? 0).toFixed(2)),
    },
  };
}

function describeCommit(): string | null {
  const commit = git("rev-parse", "--short=12", "HEAD");
  if (commit === null) return null;
  const changes = git("status", "--porcelain", "--untracked-files=no");
  return changes === "" ? commit : `${commit}+`;
}

function git(...args: readonly string[]): string | null {
  try {
    const run = Bun.spawnSync(["git", ...args], {
      cwd: REPOSITORY,
      stdout: "pipe",
      stderr: "ignore",
    });
    return run.exitCode === 0 ? run.stdout.toString().trim() : null;
  } catch {
    return null; // Git is not installed.
  }
}
