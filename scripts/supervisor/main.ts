/**
 * The supervisor's commands: up, down, and what the watchdog runs. Started by scripts/up and
 * scripts/down.
 */
import { DirectoryLockedError } from "../../computes/directory-lock.ts";
import { PostgresUnavailableError } from "../../computes/postgres/binaries.ts";
import { ServerUserError } from "../../computes/postgres/server-user.ts";
import { ConfigurationError } from "../../platform/environment.ts";
import { upDetached } from "./detach.ts";
import { down, reap } from "./down.ts";
import { explain, Problem } from "./problem.ts";
import { readSettings } from "./settings.ts";
import { createTerminal } from "./terminal.ts";
import { type UpParts, up } from "./up.ts";

const USAGE = "Usage: scripts/up [--detach], scripts/down\n";

async function main(args: readonly string[]): Promise<number> {
  const environment = Object.fromEntries(
    Object.entries(process.env).filter(
      (entry): entry is [string, string] => entry[1] !== undefined,
    ),
  );
  const write = (text: string): void => {
    process.stdout.write(text);
  };
  const terminal = createTerminal(write);
  const [command, ...rest] = args;
  const flags = new Set(rest);
  const parts: UpParts = {
    environment,
    terminal,
    background: flags.has("--background"),
    onStopRequest: (stop) => {
      for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, stop);
    },
  };
  if (command === "up" && rest.length === 0) return await up(parts);
  if (command === "up" && rest.length === 1 && parts.background) return await up(parts);
  if (command === "up" && rest.length === 1 && flags.has("--detach")) {
    return await upDetached(parts, write);
  }
  if (command === "down" && rest.length === 0) {
    return await down(readSettings(environment).dataDirectory, terminal);
  }
  if (command === "reap" && rest[0] !== undefined) return await reap(rest[0]);
  process.stderr.write(USAGE);
  return 2;
}

// A terminal that is closed must not end the platform halfway through its stop.
process.stdout.on("error", () => {});
process.stderr.on("error", () => {});

main(process.argv.slice(2)).then(
  (code) => process.exit(code),
  (error: unknown) => {
    const explained = explain(error);
    const expected =
      explained instanceof Problem ||
      explained instanceof DirectoryLockedError ||
      explained instanceof ConfigurationError ||
      explained instanceof PostgresUnavailableError ||
      explained instanceof ServerUserError;
    process.stderr.write(
      expected
        ? `${explained.message}\n`
        : `Unexpected: ${(explained as Error)?.stack ?? explained}\n`,
    );
    process.exit(1);
  },
);
