/** Making data directories, and reading what a server says of itself in its own. */
import { spawn } from "node:child_process";
import { readFileSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import {
  commandLineOf,
  identifyProcess,
  type ProcessIdentity,
  workingDirectoryOf,
} from "../../platform/process-identity.ts";
import type { PostgresBinaries } from "./binaries.ts";
import { asUser, giveTo, type ServerUser } from "./server-user.ts";

export const SUPERUSER = "postgres";

/**
 * Runs initdb. The directory must not exist or be empty, and its parent must be writable for the
 * server user. Logins need the superuser's password, on the socket too: other local users may reach
 * it.
 */
export async function initializeDataDirectory(options: {
  binaries: PostgresBinaries;
  user: ServerUser | null;
  dataDirectory: string;
  superuserPassword: string;
}): Promise<void> {
  const { binaries, user, dataDirectory } = options;
  const passwordFile = `${dataDirectory}.password`;
  writeFileSync(passwordFile, `${options.superuserPassword}\n`, { mode: 0o600 });
  try {
    giveTo(user, passwordFile);
    const args = [
      `--pgdata=${dataDirectory}`,
      `--username=${SUPERUSER}`,
      `--pwfile=${passwordFile}`,
      "--auth=scram-sha-256",
      "--encoding=UTF8",
      "--locale=C",
      "--locale-provider=builtin",
      "--builtin-locale=C.UTF-8",
      "--wal-segsize=1",
      // What is made here is either thrown away or synced once, when it is whole.
      "--no-sync",
    ];
    await run(binaries.initdb, args, user);
    await syncDataDirectory(options);
  } finally {
    rmSync(passwordFile, { force: true });
  }
}

/**
 * Sees to it that every file of a data directory that no server runs on, or has changed, is on the
 * disk.
 */
export function syncDataDirectory(options: {
  binaries: PostgresBinaries;
  user: ServerUser | null;
  dataDirectory: string;
}): Promise<void> {
  const args = [`--pgdata=${options.dataDirectory}`, "--sync-only"];
  return run(options.binaries.initdb, args, options.user);
}

/**
 * When the server that wrote postmaster.pid says that it started, in milliseconds since the epoch.
 */
export function findServerStart(dataDirectory: string): number {
  const text = readFileSync(path.join(dataDirectory, "postmaster.pid"), "latin1");
  const seconds = Number(text.split("\n")[2]);
  return Number.isFinite(seconds) ? seconds * 1_000 : Date.now();
}

function run(program: string, args: readonly string[], user: ServerUser | null): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      ...asUser(user),
      cwd: "/",
      env: { PATH: "/usr/bin:/bin", LC_ALL: "C", TZ: "UTC" },
      stdio: ["ignore", "ignore", "pipe"],
    });
    let said = "";
    child.stderr.on("data", (chunk: Buffer) => {
      said = (said + chunk.toString()).slice(-2_000);
    });
    child.once("error", reject);
    child.once("close", (code) => {
      if (code === 0) resolve();
      else reject(new Error(`${path.basename(program)} failed (${code}): ${essenceOf(said)}`));
    });
  });
}

/** initdb quotes whole statements around what went wrong; the line that says so is enough. */
function essenceOf(said: string): string {
  const lines = said.trim().split("\n");
  const telling = lines.find((line) => /PANIC|FATAL|error:/.test(line)) ?? lines.at(-1) ?? "";
  return telling.trim();
}

export type ServerPhase = "starting" | "ready" | "stopping" | "standby";

/** What postmaster.pid says: who serves the directory, and how far it has come. */
export type PostmasterFile = { readonly pid: number; readonly phase: ServerPhase | null };

export function readPostmasterFile(dataDirectory: string): PostmasterFile | null {
  let text: string;
  try {
    text = readFileSync(path.join(dataDirectory, "postmaster.pid"), "latin1");
  } catch {
    return null;
  }
  const lines = text.split("\n");
  const pid = Number(lines[0]);
  if (!Number.isInteger(pid) || pid <= 1) return null;
  // A postmaster writes its pid with a minus sign in stand-alone mode only, which we never use.
  const phase = lines[7]?.trim() ?? "";
  return { pid, phase: isPhase(phase) ? phase : null };
}

function isPhase(text: string): text is ServerPhase {
  return text === "starting" || text === "ready" || text === "stopping" || text === "standby";
}

/**
 * The server that runs on a data directory, or null. That it is this directory's own and not some
 * other process with a pid from an old file is checked by where it works and what it was started
 * as.
 */
export function findServerProcess(dataDirectory: string): ProcessIdentity | null {
  const file = readPostmasterFile(dataDirectory);
  if (file === null) return null;
  const identity = identifyProcess(file.pid);
  const command = commandLineOf(file.pid);
  if (identity === null || command === null || !command.includes("postgres")) return null;
  const directory = workingDirectoryOf(file.pid);
  const serves =
    directory === null
      ? command.includes(dataDirectory)
      : directory === realpathSync(dataDirectory);
  return serves ? identity : null;
}
