/**
 * The template: a data directory, made once, of which each new compute is a copy. It holds what all
 * computes have in common, so that making one needs no more than a copy and a rename of a role and
 * a database.
 */
import { createHash } from "node:crypto";
import { appendFileSync, existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from "node:fs";
import path from "node:path";
import postgres from "postgres";
import type { PostgresBinaries } from "./postgres/binaries.ts";
import { initializeDataDirectory, SUPERUSER } from "./postgres/data-directory.ts";
import { startServer, stopServer } from "./postgres/server.ts";
import { giveTo, type ServerUser } from "./postgres/server-user.ts";

/**
 * Where the host itself connects. No tenant's database can be called this: theirs are in lower
 * case.
 */
export const ADMIN_DATABASE = "OgelAdmin";
/** What a copy's database and role are called until they get their owner's names. */
export const UNNAMED_DATABASE = "OgelUnnamed";
export const UNNAMED_ROLE = "OgelUnnamedRole";

export const COMPUTE_PORT = 5432;

/**
 * Lean, so that a compute starts in some 25 ms and takes some 20 MB; measured in the project's fact
 * sheet on Neon.
 */
const SETTINGS: Readonly<Record<string, string | number>> = {
  shared_buffers: "16MB",
  max_connections: 210, // The largest tier's connections, and the reserved ones.
  superuser_reserved_connections: 5,
  io_method: "sync",
  wal_level: "minimal",
  max_wal_senders: 0,
  max_logical_replication_workers: 0,
  max_worker_processes: 4,
  max_parallel_workers: 2,
  max_parallel_workers_per_gather: 1,
  min_wal_size: "4MB",
  max_wal_size: "256MB",
  huge_pages: "off",
  jit: "off",
  // Statements that fail are the tenant's to see. Logged, they could fill the host's disk; so could
  // RAISE LOG.
  log_min_messages: "fatal",
  log_checkpoints: "off",
  log_timezone: "UTC",
  timezone: "UTC",
};

export type TemplateOptions = {
  readonly binaries: PostgresBinaries;
  readonly user: ServerUser | null;
  /** Where templates are kept, one of each version. */
  readonly templatesDirectory: string;
  readonly runDirectory: string;
  readonly superuserPassword: string;
};

/** The directory of the template for these binaries and settings; made now if there is none. */
export async function ensureTemplate(options: TemplateOptions): Promise<string> {
  const fingerprint = createHash("sha256")
    .update(JSON.stringify([SETTINGS, options.superuserPassword, "layout 1"]))
    .digest("hex")
    .slice(0, 12);
  const name = `${options.binaries.version}-${fingerprint}`;
  const template = path.join(options.templatesDirectory, name);
  if (existsSync(template)) return template;

  const half = mkdtempSync(path.join(options.templatesDirectory, "half-"));
  try {
    giveTo(options.user, half);
    const dataDirectory = path.join(half, "data");
    await initializeDataDirectory({ ...options, dataDirectory });
    const lines = Object.entries(SETTINGS).map(([setting, value]) => `${setting} = '${value}'\n`);
    appendFileSync(path.join(dataDirectory, "postgresql.conf"), `\n${lines.join("")}`);
    await furnish(options, dataDirectory, path.join(half, "log"));
    renameSync(dataDirectory, template);
  } finally {
    rmSync(half, { recursive: true, force: true });
  }
  return template;
}

async function furnish(
  options: TemplateOptions,
  dataDirectory: string,
  logFile: string,
): Promise<void> {
  const socketDirectory = path.join(options.runDirectory, "template");
  mkdirSync(socketDirectory, { recursive: true, mode: 0o700 });
  giveTo(options.user, socketDirectory);
  const { binaries, user } = options;
  const server = await startServer({
    binaries,
    user,
    dataDirectory,
    socketDirectory,
    port: COMPUTE_PORT,
    settings: {},
    logFile,
    deadlineMs: 60_000,
  });
  try {
    const password = options.superuserPassword;
    await withAdmin({ socketDirectory, password, database: "template1" }, async (sql) => {
      await sql.unsafe(`ALTER DATABASE postgres RENAME TO "${ADMIN_DATABASE}"`);
      await sql.unsafe(`CREATE ROLE "${UNNAMED_ROLE}" NOLOGIN`);
      await sql.unsafe(`CREATE DATABASE "${UNNAMED_DATABASE}" OWNER "${UNNAMED_ROLE}"`);
      for (const closed of ["template1", `"${ADMIN_DATABASE}"`, `"${UNNAMED_DATABASE}"`]) {
        await sql.unsafe(`REVOKE ALL ON DATABASE ${closed} FROM PUBLIC`);
      }
    });
  } finally {
    await stopServer(server, { fastMs: 30_000, immediateMs: 5_000 });
    rmSync(socketDirectory, { recursive: true, force: true });
  }
}

/** Runs `work` on one connection of the superuser. */
export async function withAdmin<T>(
  target: { socketDirectory: string; password: string; database: string },
  work: (sql: postgres.Sql) => Promise<T>,
): Promise<T> {
  const sql = postgres({
    host: target.socketDirectory,
    port: COMPUTE_PORT,
    user: SUPERUSER,
    password: target.password,
    database: target.database,
    max: 1,
    fetch_types: false,
    onnotice: () => {},
    connect_timeout: 10,
    connection: { application_name: "compute-host", search_path: "pg_catalog" },
  });
  try {
    return await work(sql);
  } finally {
    await sql.end({ timeout: 5 });
  }
}
