/** Opening connections to the PostgreSQL servers that the platform itself administers. */
import postgres, { type Sql } from "postgres";
import {
  type AdminServer,
  parseAdminServer,
  type ServerAddress,
  unixSocketPath,
} from "./endpoints.ts";

export type PostgresClientOptions = {
  /** Shown in `pg_stat_activity`. */
  readonly applicationName: string;
  /** Connections at most; they are opened as needed and closed after a minute of idleness. */
  readonly connectionsMax: number;
  /** Instead of the server's own administrative database. */
  readonly database?: string;
  /**
   * Settings for the session, in force before any that the server keeps for the role or the
   * database.
   */
  readonly settings?: Readonly<Record<string, string>>;
  readonly connectTimeoutSeconds?: number;
};

const RECONNECT_MAX_SECONDS = 0.5;

/** A pool of connections to `server`. Nothing is connected before the first query. */
export function openPostgres(server: AdminServer, options: PostgresClientOptions): Sql {
  return postgres({
    ...destination(server.address),
    user: server.user,
    password: server.password,
    database: options.database ?? server.database,
    max: options.connectionsMax,
    idle_timeout: 60,
    connect_timeout: options.connectTimeoutSeconds ?? 10,
    // The driver's own pause between attempts grows to 20 s, for which a server that is back
    // stays unused.
    backoff: (attempt) => Math.min(0.02 * 2 ** attempt, RECONNECT_MAX_SECONDS),
    onnotice: () => {},
    connection: { application_name: options.applicationName, ...options.settings },
  });
}

/**
 * Lists of one, because the driver splits a plain host at its colons and so breaks IPv6
 * addresses. Its types know only the plain form, hence `object`.
 */
function destination(address: ServerAddress): object {
  if (address.transport === "unix") return { path: unixSocketPath(address), ssl: false };
  const ssl = address.tls === "disable" ? false : address.tls;
  return { host: [address.host], port: [address.port], ssl };
}

/**
 * The control plane's pool from `DATABASE_URL`, in any form that `parseAdminServer` takes, unix
 * sockets included. Throws where the URL is malformed; it is not repeated in the message, because
 * it may hold a password.
 */
export function openControlPlane(
  url: string,
  options: { readonly applicationName: string; readonly connectionsMax?: number },
): Sql {
  const server = parseAdminServer(url);
  if (server === null) throw new Error("DATABASE_URL is not a postgres:// URL.");
  return openPostgres(server, {
    applicationName: options.applicationName,
    connectionsMax: options.connectionsMax ?? 10,
  });
}
