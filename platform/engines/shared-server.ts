/** A PostgreSQL server that many orgs share, as the platform administers it. */
import type { Sql } from "postgres";
import type { AdminServer } from "../endpoints.ts";
import { openPostgres } from "../postgres-client.ts";
import { EngineError } from "./engine.ts";

export type SharedServer = {
  readonly server: AdminServer;
  readonly admin: Sql;
  /** Connections that only hold locks, apart from those that work: neither waits for the other. */
  readonly locks: Sql;
  close(): Promise<void>;
};

/**
 * Of an administrator's session. They are sent at its start and so come before whatever a
 * database has set, also inside a tenant's database. A tenant's open transaction may hold rows
 * that an administrator wants: nobody waits for it for long.
 */
export const ADMIN_SETTINGS = {
  search_path: "pg_catalog",
  local_preload_libraries: "",
  default_transaction_read_only: "off",
  lock_timeout: "2000",
  statement_timeout: "120000",
} as const;

const ADMIN_CONNECTIONS_MAX = 5;
const LOCK_CONNECTIONS_MAX = 8;
const LOCK_WAIT_MS = 60_000;

export function openSharedServer(server: AdminServer): SharedServer {
  const open = (connectionsMax: number): Sql =>
    openPostgres(server, {
      applicationName: "ogel-engine",
      connectionsMax,
      settings: ADMIN_SETTINGS,
    });
  const admin = open(ADMIN_CONNECTIONS_MAX);
  const locks = open(LOCK_CONNECTIONS_MAX);
  return {
    server,
    admin,
    locks,
    async close() {
      // The driver waits this long for a connection whose server is away, however little there is
      // to do.
      await Promise.all([admin.end({ timeout: 1 }), locks.end({ timeout: 1 })]);
    },
  };
}

/**
 * Runs `act` while nobody else, in any process, works on `subject` on this server. The lock ends
 * with the process that holds it. Driver errors come out as `EngineError`s.
 */
export async function withServerLock<T>(
  shared: SharedServer,
  subject: string,
  act: (admin: Sql) => Promise<T>,
): Promise<T> {
  return await translated(shared, async () => {
    const [result] = await shared.locks.begin(async (tx) => {
      await tx.unsafe(`SET LOCAL lock_timeout = ${LOCK_WAIT_MS}`);
      await tx`SELECT pg_advisory_xact_lock(hashtextextended(${`ogel ${subject}`}, 0))`;
      return [await act(shared.admin)] as const;
    });
    return result as T;
  });
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
