/**
 * One PostgreSQL server process: starting it, knowing when it is ready, and ending it. `pg_ctl` is
 * not used: it takes a tenth of a second to notice what postmaster.pid says at once.
 */
import { closeSync, openSync, statSync } from "node:fs";
import {
  identifyProcess,
  isRunning,
  type ProcessIdentity,
  signalProcess,
} from "../../platform/process-identity.ts";
import type { PostgresBinaries } from "./binaries.ts";
import { findServerProcess, readPostmasterFile } from "./data-directory.ts";
import { readLogTail } from "./log-tail.ts";
import { endOrphans, removeStaleLocks, saysOrphansAreThere } from "./orphans.ts";
import { asUser, giveTo, type ServerUser } from "./server-user.ts";

/**
 * Why a server ended: its exit code, or the signal that killed it; null where it was not our child.
 */
export type ServerExit = {
  readonly exitCode: number | null;
  readonly signal: string | null;
};

export type PostgresServer = {
  readonly identity: ProcessIdentity;
  readonly dataDirectory: string;
  /** Resolves when the process has ended, for whatever reason. */
  readonly exited: Promise<ServerExit>;
  /** Whether it runs at this moment, also where `exited` has not been told yet. */
  isRunning(): boolean;
};

export class ServerStartError extends Error {}

export type StartOptions = {
  readonly binaries: PostgresBinaries;
  readonly user: ServerUser | null;
  readonly dataDirectory: string;
  readonly socketDirectory: string;
  readonly port: number;
  /** Settings on the command line, which stand above those in files. */
  readonly settings: Readonly<Record<string, string | number>>;
  /** Appended to; the server's own words go here. */
  readonly logFile: string;
  readonly deadlineMs: number;
  /**
   * Called as soon as a process is there, before it is ready; again should a start have to be
   * repeated.
   */
  readonly onSpawn?: (identity: ProcessIdentity) => void;
};

/**
 * Starts a server on a unix socket and resolves when it takes queries.
 * @throws ServerStartError when it ends first or is not ready by the deadline; nothing is left running then.
 */
export async function startServer(options: StartOptions): Promise<PostgresServer> {
  const deadlineMs = performance.now() + options.deadlineMs;
  for (let attempt = 1; ; attempt++) {
    const logBytes = statSync(options.logFile, { throwIfNoEntry: false })?.size ?? 0;
    removeStaleLocks(options);
    const server = spawnServer(options);
    options.onSpawn?.(server.identity);
    const outcome = await untilReady(server, deadlineMs);
    if (outcome === "ready") return server;
    if (outcome === "late") {
      await stopServer(server, { fastMs: 1_000, immediateMs: 2_000 });
      throw new ServerStartError(`PostgreSQL was not ready within ${options.deadlineMs} ms.`);
    }
    const said = readLogTail(options.logFile, logBytes);
    if (attempt === ORPHAN_ATTEMPTS_MAX || !saysOrphansAreThere(said)) {
      throw new ServerStartError(`PostgreSQL ended while starting (${describeExit(outcome)}).`);
    }
    endOrphans(options.dataDirectory);
    await Bun.sleep(ORPHAN_WAIT_MS);
  }
}

/** Together two seconds, which is plenty for processes that have been told to end. */
const ORPHAN_ATTEMPTS_MAX = 40;
const ORPHAN_WAIT_MS = 50;

async function untilReady(
  server: PostgresServer,
  deadlineMs: number,
): Promise<"ready" | "late" | ServerExit> {
  let ended: ServerExit | null = null;
  void server.exited.then((exit) => {
    ended = exit;
  });
  for (let polls = 0; ; polls++) {
    const file = readPostmasterFile(server.dataDirectory);
    if (file?.pid === server.identity.pid && file.phase === "ready") return "ready";
    if (ended !== null) return ended;
    if (performance.now() > deadlineMs) return "late";
    // A start takes some 25 ms; one that takes longer is recovering, and need not be watched so
    // closely.
    await Bun.sleep(polls < 100 ? 1 : 5);
  }
}

function spawnServer(options: StartOptions): PostgresServer {
  const { binaries, dataDirectory, user } = options;
  const settings = {
    listen_addresses: "",
    unix_socket_directories: options.socketDirectory,
    unix_socket_permissions: "0700",
    port: options.port,
    ...options.settings,
  };
  const args = Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
  const log = openSync(options.logFile, "a", 0o600);
  try {
    giveTo(user, options.logFile);
    const child = Bun.spawn([binaries.postgres, "-D", dataDirectory, ...args], {
      ...asUser(user),
      cwd: dataDirectory,
      env: { PATH: "/usr/bin:/bin", LC_ALL: "C", TZ: "UTC" },
      stdin: "ignore",
      stdout: log,
      stderr: log,
      // A session of its own: Ctrl-C in the terminal is for us to act on, in order.
      detached: true,
    });
    return {
      identity: identifyProcess(child.pid) ?? { pid: child.pid, startMark: "ended" },
      dataDirectory,
      exited: child.exited.then(() => ({
        exitCode: child.exitCode,
        signal: child.signalCode === null ? null : String(child.signalCode),
      })),
      isRunning: () => child.exitCode === null && child.signalCode === null,
    };
  } finally {
    closeSync(log);
  }
}

/** How often a process that is not our child is looked at: its end raises no event. */
const ADOPTED_POLL_MS = 200;

/** Takes over a server that another process started, or null where none runs on the directory. */
export function adoptServer(dataDirectory: string): PostgresServer | null {
  const identity = findServerProcess(dataDirectory);
  if (identity === null) return null;
  const exited = new Promise<ServerExit>((resolve) => {
    const timer = setInterval(() => {
      if (isRunning(identity)) return;
      clearInterval(timer);
      resolve({ exitCode: null, signal: null });
    }, ADOPTED_POLL_MS);
    timer.unref();
  });
  return { identity, dataDirectory, exited, isRunning: () => isRunning(identity) };
}

/**
 * Ends a server: a fast shutdown, which writes everything down; after `fastMs` an immediate one,
 * from which the next start recovers; after `immediateMs` more, a kill. Resolves when the process
 * is gone.
 */
export async function stopServer(
  server: PostgresServer,
  patience: { readonly fastMs: number; readonly immediateMs: number },
): Promise<void> {
  const steps = [
    { signal: "SIGINT", waitMs: patience.fastMs },
    { signal: "SIGQUIT", waitMs: patience.immediateMs },
    { signal: "SIGKILL", waitMs: 10_000 },
  ] as const;
  for (const { signal, waitMs } of steps) {
    signalProcess(server.identity, signal);
    if (await endsWithin(server, waitMs)) return;
  }
  throw new Error(`PostgreSQL process ${server.identity.pid} does not end.`);
}

async function endsWithin(server: PostgresServer, waitMs: number): Promise<boolean> {
  const deadline = performance.now() + waitMs;
  while (server.isRunning()) {
    if (performance.now() > deadline) return false;
    await Bun.sleep(1);
  }
  return true;
}

export function describeExit(exit: ServerExit): string {
  if (exit.signal !== null) return `killed by ${exit.signal}`;
  return exit.exitCode === null ? "ended" : `exit code ${exit.exitCode}`;
}
