/**
 * A real PostgreSQL server to throw away, on a unix socket of its own.
 */
import { randomBytes } from "node:crypto";
import {
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import path from "node:path";
import { findPostgres, type PostgresBinaries } from "../../computes/postgres/binaries.ts";
import { initializeDataDirectory, SUPERUSER } from "../../computes/postgres/data-directory.ts";
import { type PostgresServer, startServer, stopServer } from "../../computes/postgres/server.ts";
import { chooseServerUser, giveTo, type ServerUser } from "../../computes/postgres/server-user.ts";
import { whenKilled } from "../../scripts/supervisor/watchdog.ts";
import { temporaryRoot } from "./temporary-root.ts";

export type TestPostgres = {
  /** In the form that `parseAdminServer` reads. */
  readonly adminUrl: string;
  readonly socketDirectory: string;
  readonly port: number;
  readonly dataDirectory: string;
  readonly pid: number;
  /** What the server has logged so far. */
  log(): string;
  /** Ends the process as a crash would, keeping the data. */
  kill(): Promise<void>;
  /** Starts it again after `kill`. */
  restart(): Promise<void>;
  /** Ends it and removes its data. */
  stop(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
};

/** Comfort for tests: many connections, nothing synced to disk. */
const SETTINGS = {
  fsync: "off",
  synchronous_commit: "off",
  full_page_writes: "off",
  shared_buffers: "32MB",
  max_connections: 200,
  io_method: "sync",
  max_logical_replication_workers: 0,
  jit: "off",
} as const;

export async function startPostgres(
  options: {
    readonly settings?: Readonly<Record<string, string | number>>;
    /** Where its data and socket go; Deno opens nothing below /dev. */
    readonly root?: string;
  } = {},
): Promise<TestPostgres> {
  const { user, binaries, template } = await prepareOnce();
  const home = mkdtempSync(path.join(options.root ?? temporaryRoot(), "ogel-pg-"));
  giveTo(user, home);
  const dataDirectory = path.join(home, "data");
  await copyDirectory(path.join(template, "data"), dataDirectory);
  const logFile = path.join(home, "log");
  const start = (): Promise<PostgresServer> =>
    startServer({
      binaries,
      user,
      dataDirectory,
      socketDirectory: home,
      port: 5432,
      settings: { ...SETTINGS, ...options.settings },
      logFile,
      deadlineMs: 20_000,
    });
  let server = await start();
  let watchdog = watchOver(server.identity.pid, home);
  const password = readFileSync(path.join(template, "password"), "utf8");
  const stop = async (): Promise<void> => {
    await stopServer(server, { fastMs: 2_000, immediateMs: 5_000 });
    watchdog.end();
    rmSync(home, { recursive: true, force: true });
  };
  return {
    adminUrl: `postgres://${SUPERUSER}:${password}@/postgres?host=${encodeURIComponent(home)}&port=5432`,
    socketDirectory: home,
    port: 5432,
    dataDirectory,
    get pid() {
      return server.identity.pid;
    },
    log: () => readFileSync(logFile, "utf8"),
    kill: async () => {
      process.kill(server.identity.pid, "SIGKILL");
      await server.exited;
      watchdog.end();
    },
    restart: async () => {
      server = await start();
      watchdog = watchOver(server.identity.pid, home);
    },
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

type Prepared = {
  readonly user: ServerUser | null;
  readonly binaries: PostgresBinaries;
  /** Holds `data` and `password`. */
  readonly template: string;
};

let prepared: Promise<Prepared> | null = null;

function prepareOnce(): Promise<Prepared> {
  prepared ??= prepare();
  return prepared;
}

/** The template is made once a machine and user, and shared by all test processes from then on. */
async function prepare(): Promise<Prepared> {
  const user = chooseServerUser(process.env["OGEL_SERVER_USER"] ?? null);
  const owner = process.getuid?.() ?? 0;
  const home = path.join(temporaryRoot(), `ogel-tests-${owner}`);
  mkdirSync(home, { recursive: true, mode: 0o755 });
  if (lstatSync(home).uid !== owner) throw new Error(`${home} belongs to somebody else.`);
  const binaries = findPostgres({ user, copiesDirectory: home });
  const template = path.join(home, `template-${binaries.version}-${user?.uid ?? owner}`);
  if (exists(template)) return { user, binaries, template };

  const half = mkdtempSync(`${template}.`);
  giveTo(user, half);
  const password = randomBytes(16).toString("hex");
  const dataDirectory = path.join(half, "data");
  await initializeDataDirectory({ binaries, user, dataDirectory, superuserPassword: password });
  writeFileSync(path.join(half, "password"), password, { mode: 0o600 });
  try {
    renameSync(half, template);
  } catch (error) {
    // Another test process may have made it meanwhile.
    rmSync(half, { recursive: true, force: true });
    if (!exists(template)) throw error;
  }
  return { user, binaries, template };
}

function exists(file: string): boolean {
  return lstatSync(file, { throwIfNoEntry: false }) !== undefined;
}

async function copyDirectory(from: string, to: string): Promise<void> {
  const reflink = process.platform === "linux" ? ["--reflink=auto"] : ["-c"];
  const copy = Bun.spawn(["cp", "-a", ...reflink, from, to], { stderr: "pipe" });
  if ((await copy.exited) !== 0) throw new Error(await new Response(copy.stderr).text());
}

/**
 * Ends the server and removes its files should the test process be killed: a shell waits for the
 * end of its input, which comes with the end of whoever holds the pipe's other end.
 */
function watchOver(pid: number, home: string): { end(): void } {
  const script = `kill -QUIT "$0"
    for try in 1 2 3 4 5 6 7 8 9 10; do kill -0 "$0" || break; sleep 0.3; done
    rm -rf "$1"`;
  return whenKilled(script, [String(pid), home]);
}
