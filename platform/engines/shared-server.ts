/** A PostgreSQL server that many orgs share, as the platform administers it. */
import type { Sql, TransactionSql } from "postgres";
import type { AdminServer } from "../endpoints.ts";
import { openPostgres } from "../postgres-client.ts";
import { EngineError } from "./engine.ts";

export type SharedServer = {
  readonly server: AdminServer;
  readonly admin: Sql;
  /** Connections that only hold locks, apart from those that do the work: neither waits for the other. */
  readonly locks: Sql;
  close(): Promise<void>;
};

const LOCKS_MAX = 8;
const LOCK_WAIT_MS = 60_000;

export function openSharedServer(server: AdminServer): SharedServer {
  // Whatever a role or a database has set, an administrator's session does not follow it.
  const settings = { search_path: "pg_catalog" };
  const open = (connectionsMax: number): Sql =>
    openPostgres(server, { applicationName: "ogel-engine", connectionsMax, settings });
  const admin = open(5);
  const locks = open(LOCKS_MAX);
  return {
    server,
    admin,
    locks,
    async close() {
      await Promise.all([admin.end({ timeout: 5 }), locks.end({ timeout: 5 })]);
    },
  };
}

/**
 * Runs `act` while nobody else, in any process, works on `roleName` on this server. The lock ends with the process that
 * holds it. Driver errors come out as `EngineError`s.
 */
export async function withRoleLock<T>(
  shared: SharedServer,
  roleName: string,
  act: (admin: Sql) => Promise<T>,
): Promise<T> {
  return await translated(
    shared,
    () =>
      shared.locks.begin(async (tx: TransactionSql) => {
        await tx.unsafe(`SET LOCAL lock_timeout = ${LOCK_WAIT_MS}`);
        await tx`SELECT pg_advisory_xact_lock(hashtextextended(${`ogel role ${roleName}`}, 0))`;
        return await act(shared.admin);
      }) as Promise<T>,
  );
}

/** Runs `act` and turns what the driver throws into an `EngineError` that names the server. */
export async function translated<T>(shared: SharedServer, act: () => Promise<T>): Promise<T> {
  try {
    return await act();
  } catch (error) {
    if (error instanceof EngineError) throw error;
    throw engineError(shared.server.name, error);
  }
}

function engineError(server: string, error: unknown): EngineError {
  const code = errorCode(error);
  const message = error instanceof Error ? error.message : String(error);
  if (code !== null && /^[0-9A-Z]{5}$/.test(code) && !isPassing(code)) {
    return new EngineError("refused", `Server ${server} refused: ${message} (${code}).`, {
      cause: error,
    });
  }
  return new EngineError(
    "unreachable",
    `Server ${server} cannot be used just now (${code ?? message}).`,
    { cause: error },
  );
}

/** Classes of SQLSTATE that pass by themselves: connections, resources, locks, shutdown, system. */
function isPassing(code: string): boolean {
  return ["08", "53", "55", "57", "58"].includes(code.slice(0, 2));
}

/** The driver's or PostgreSQL's code for `error`, or null where it has none. */
export function errorCode(error: unknown): string | null {
  if (typeof error !== "object" || error === null || !("code" in error)) return null;
  return typeof error.code === "string" ? error.code : null;
}
