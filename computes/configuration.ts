/** What the compute host is told by its environment. */
import { type AdminServer, parseAdminServer } from "../platform/endpoints.ts";
import { type Environment, EnvironmentReader } from "../platform/environment.ts";
import { type LogLevel, parseLogLevel } from "../platform/log.ts";

export type ListenAddress =
  | { readonly transport: "unix"; readonly path: string }
  | { readonly transport: "tcp"; readonly hostname: string; readonly port: number };

export type ComputesConfiguration = {
  readonly dataDirectory: string;
  /** Where PostgreSQL is copied to if its user cannot reach the package. */
  readonly programsDirectory: string;
  readonly listen: ListenAddress;
  readonly secret: string;
  /** Its name in `COMPUTE_HOST_URLS`. */
  readonly name: string;
  readonly computesMax: number;
  readonly sparesCount: number;
  /** The control plane, to which usage is reported; null where it is kept for later. */
  readonly controlPlane: { readonly url: string; readonly server: AdminServer } | null;
  readonly serverUser: string | null;
  readonly logLevel: LogLevel;
};

/** @throws ConfigurationError with all faults. */
export function readConfiguration(environment: Environment): ComputesConfiguration {
  const reader = new EnvironmentReader("The compute host", environment);
  const dataDirectory = reader.parsed(
    "COMPUTE_DATA_DIR",
    "the directory of its databases, as an absolute path",
    "an absolute path",
    (text) => (text.startsWith("/") ? text : null),
  );
  const listen = reader.parsed(
    "COMPUTE_LISTEN",
    "where it listens: unix:/path or host:port",
    "unix:/path (at most 103 bytes) or host:port",
    parseListenAddress,
  );
  const secret = reader.parsed(
    "COMPUTE_HOST_SECRET",
    "the secret that callers must present",
    "16 to 200 characters without spaces",
    (text) => (/^\S{16,200}$/.test(text) ? text : null),
  );
  const name = reader.optional("COMPUTE_HOST_NAME") ?? "local";
  if (!/^[a-z][a-z0-9-]{0,39}$/.test(name)) {
    reader.fault("COMPUTE_HOST_NAME", "must be lower-case letters, digits and hyphens.");
  }
  const computesMax = reader.integer("O7S_COMPUTES_MAX", 50, { min: 1, max: 10_000 });
  const sparesCount = reader.integer("COMPUTE_SPARES", 2, { min: 0, max: 100 });
  const url = reader.optional("DATABASE_URL");
  const server = url === null ? null : parseAdminServer(url);
  if (url !== null && server === null) reader.fault("DATABASE_URL", "must be a postgres:// URL.");
  const serverUser = reader.optional("OGEL_SERVER_USER");
  const logLevel = parseLogLevel(reader.optional("LOG_LEVEL") ?? "info");
  if (logLevel === null) reader.fault("LOG_LEVEL", "must be debug, info, warn or error.");
  reader.finish();
  return {
    dataDirectory,
    programsDirectory: reader.optional("COMPUTE_PROGRAMS_DIR") ?? `${dataDirectory}/programs`,
    listen,
    secret,
    name,
    computesMax,
    sparesCount,
    controlPlane: url === null || server === null ? null : { url, server },
    serverUser,
    logLevel: logLevel ?? "info",
  };
}

/** The bytes that a unix socket's path may have, everywhere. */
const SOCKET_PATH_BYTES_MAX = 103;

export function parseListenAddress(text: string): ListenAddress | null {
  if (text.startsWith("unix:/")) {
    const path = text.slice("unix:".length);
    return Buffer.byteLength(path) <= SOCKET_PATH_BYTES_MAX ? { transport: "unix", path } : null;
  }
  const match = /^(\[[0-9a-f:]+\]|[\w.-]+):(\d{1,5})$/i.exec(text);
  const hostname = match?.[1];
  const port = Number(match?.[2]);
  return hostname === undefined || port > 65_535 ? null : { transport: "tcp", hostname, port };
}
