/** A real PostgreSQL server for the length of a measurement. */
import { randomBytes } from "node:crypto";
import { mkdirSync } from "node:fs";
import path from "node:path";
import { findPostgres } from "../../computes/postgres/binaries.ts";
import { initializeDataDirectory, SUPERUSER } from "../../computes/postgres/data-directory.ts";
import { startServer, stopServer } from "../../computes/postgres/server.ts";
import { chooseServerUser, giveTo, type ServerUser } from "../../computes/postgres/server-user.ts";

export type BenchPostgres = {
  /** In the form that `parseAdminServer` reads; over the unix socket. */
  readonly adminUrl: string;
  readonly socketDirectory: string;
  /** Of the socket's name, and of TCP where `listenOnTcp` asked for it. */
  readonly port: number;
  /** Such as "18.4". */
  readonly version: string;
  /** Whom it runs as where that is not the current user. */
  readonly user: ServerUser | null;
  stop(): Promise<void>;
};

/** Nothing is kept past the run, so nothing is synced; what is measured only reads. */
const SETTINGS = {
  fsync: "off",
  synchronous_commit: "off",
  full_page_writes: "off",
  shared_buffers: "256MB",
  max_connections: 300,
  max_wal_size: "2GB",
  io_method: "sync",
  jit: "off",
} as const;

const START_DEADLINE_MS = 20_000;

/** Makes and starts a server in `home`, a directory that the server user can reach. */
export async function startBenchPostgres(options: {
  readonly home: string;
  readonly name: string;
  readonly port: number;
  readonly listenOnTcp: boolean;
}): Promise<BenchPostgres> {
  const user = chooseServerUser(process.env["OGEL_SERVER_USER"] ?? null);
  const binaries = findPostgres({ user, copiesDirectory: path.join(options.home, "programs") });
  const directory = path.join(options.home, options.name);
  mkdirSync(directory, { mode: 0o700 });
  giveTo(user, directory);
  const dataDirectory = path.join(directory, "data");
  const password = randomBytes(16).toString("hex");
  await initializeDataDirectory({ binaries, user, dataDirectory, superuserPassword: password });
  const server = await startServer({
    binaries,
    user,
    dataDirectory,
    socketDirectory: directory,
    port: options.port,
    settings: { ...SETTINGS, ...(options.listenOnTcp && { listen_addresses: "127.0.0.1" }) },
    logFile: path.join(directory, "log"),
    deadlineMs: START_DEADLINE_MS,
  });
  const query = `host=${encodeURIComponent(directory)}&port=${options.port}`;
  return {
    adminUrl: `postgres://${SUPERUSER}:${password}@/postgres?${query}`,
    socketDirectory: directory,
    port: options.port,
    version: binaries.version,
    user,
    stop: () => stopServer(server, { fastMs: 5_000, immediateMs: 5_000 }),
  };
}
