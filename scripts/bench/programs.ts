/**
 * The programs that a measurement needs and the platform does not bring: where they are, or how to
 * get them.
 */
import { CommandError } from "../cli/command.ts";

export type Program = {
  readonly path: string;
  /** Such as "15.18". */
  readonly version: string;
};

type Wanted = { readonly name: string; readonly debian: string; readonly homebrew: string };

const WANTED = {
  pgbench: { name: "pgbench", debian: "postgresql-contrib", homebrew: "postgresql" },
  pgbouncer: { name: "pgbouncer", debian: "pgbouncer", homebrew: "pgbouncer" },
} as const satisfies Record<string, Wanted>;

/** Debian keeps servers here, where an ordinary user's PATH does not look. */
const SERVER_DIRECTORIES = ["/usr/sbin", "/usr/local/sbin"];

/** @throws CommandError that says for all of them at once how to get what is missing. */
export function findPrograms(): { readonly pgbench: Program; readonly pgbouncer: Program } {
  const pgbench = find(WANTED.pgbench);
  const pgbouncer = find(WANTED.pgbouncer);
  if (pgbench !== null && pgbouncer !== null) return { pgbench, pgbouncer };
  const missing: Wanted[] = [];
  if (pgbench === null) missing.push(WANTED.pgbench);
  if (pgbouncer === null) missing.push(WANTED.pgbouncer);
  const names = missing.map(({ name }) => name).join(" and ");
  const remedy =
    process.platform === "darwin"
      ? `brew install ${missing.map(({ homebrew }) => homebrew).join(" ")}`
      : `apt-get install -y ${missing.map(({ debian }) => debian).join(" ")}`;
  throw new CommandError(
    `ogel bench proxy needs ${names}, which this machine does not have. Get it with: ${remedy}`,
  );
}

function find(wanted: Wanted): Program | null {
  const path =
    Bun.which(wanted.name) ?? Bun.which(wanted.name, { PATH: SERVER_DIRECTORIES.join(":") });
  if (path === null) return null;
  const run = Bun.spawnSync([path, "--version"], { stdout: "pipe", stderr: "ignore" });
  const version = /\d+(?:\.\d+)+/.exec(run.stdout.toString())?.[0];
  return version === undefined ? null : { path, version };
}
