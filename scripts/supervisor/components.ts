/** The platform's components, in the order in which they start. Adding one means adding it here. */
import path from "node:path";
import type { PostgresBinaries } from "../../computes/postgres/binaries.ts";
import type { ServerUser } from "../../computes/postgres/server-user.ts";
import { answers, type Component, createService } from "./component.ts";
import type { LogFiles } from "./log-files.ts";
import { createPostgres } from "./postgres-component.ts";
import type { Secrets } from "./secrets.ts";
import type { Settings } from "./settings.ts";

export type PlatformParts = {
  readonly settings: Settings;
  readonly secrets: Secrets;
  /** The data directory's real path. */
  readonly stateDirectory: string;
  /** For sockets; short. */
  readonly runDirectory: string;
  readonly binaries: PostgresBinaries;
  readonly user: ServerUser | null;
  readonly logs: LogFiles;
  /** The environment in which the platform was started. */
  readonly environment: Readonly<Record<string, string>>;
};

/** The longest name of a socket below the run directory. */
export const LONGEST_SOCKET_NAME_BYTES = "shared-postgres/.s.PGSQL.5432.lock".length;

/** Sessions of O7s on the shared server: all tenants' together. */
const SHARED_CONNECTIONS_MAX = 300;

export function createComponents(parts: PlatformParts): readonly Component[] {
  const controlPlane = server(parts, "control-plane", "control-plane PostgreSQL", {
    max_connections: 120,
    shared_buffers: "64MB",
  });
  const shared = server(parts, "shared-postgres", "shared PostgreSQL", {
    max_connections: SHARED_CONNECTIONS_MAX,
    shared_buffers: "128MB",
    // What tenants do wrong is for them to see; in the log it would tell of their data.
    log_min_messages: "fatal",
  });
  const { settings, secrets, runDirectory, stateDirectory, environment, logs } = parts;
  const computesSocket = path.join(runDirectory, "computes.sock");
  const everyService = {
    ...environment,
    DATABASE_URL: controlPlane.adminUrl,
    COMPUTE_HOST_SECRET: secrets.computeHostSecret,
  };
  const platformService = {
    ...everyService,
    SHARED_POSTGRES_URLS: `main=${shared.adminUrl}`,
    COMPUTE_HOST_URLS: `local=unix:${computesSocket}`,
    OGEL_MASTER_KEY: secrets.masterKey,
    O7S_PUBLIC_HOST: settings.publicHost,
    O7S_POSTGRES_PORT: String(settings.ports.postgres),
  };
  const reachable = settings.host === "0.0.0.0" ? "127.0.0.1" : settings.host;
  return [
    controlPlane,
    shared,
    createService({
      name: "computes",
      title: "compute host",
      // It reports usage to the control plane when that is there, and does not wait for it.
      stage: 1,
      entry: "computes/main.ts",
      environment: {
        ...everyService,
        COMPUTE_DATA_DIR: path.join(stateDirectory, "computes"),
        COMPUTE_PROGRAMS_DIR: programsDirectory(stateDirectory),
        COMPUTE_LISTEN: `unix:${computesSocket}`,
        COMPUTE_HOST_NAME: "local",
      },
      logs,
      isHealthy: () => answers("http://compute-host/healthz", computesSocket),
    }),
    createService({
      name: "studio",
      title: "Studio API",
      stage: 2,
      entry: "studio/main.ts",
      environment: {
        ...platformService,
        OGEL_OPERATOR_KEY: secrets.operatorKey,
        STUDIO_HOST: settings.host,
        STUDIO_PORT: String(settings.ports.studio),
      },
      logs,
      isHealthy: () => answers(`http://${reachable}:${settings.ports.studio}/healthz`),
    }),
    createService({
      name: "o7s",
      title: "proxy O7s",
      // Studio brings the control plane's schema up to date, which the proxy reads.
      stage: 3,
      entry: "proxy/main.ts",
      environment: {
        ...platformService,
        O7S_HOST: settings.host,
        O7S_HTTP_PORT: String(settings.ports.http),
        O7S_REDIS_PORT: String(settings.ports.redis),
        O7S_MONGODB_PORT: String(settings.ports.mongodb),
        O7S_DATA_DIR: path.join(stateDirectory, "o7s"),
        OGEL_OPERATOR_KEY: secrets.operatorKey,
        // Nobody takes over: what stays open is given a moment, not half a minute.
        O7S_DRAIN_MS: "2000",
      },
      logs,
      isHealthy: () => answers(`http://${reachable}:${settings.ports.http}/healthz`),
    }),
  ];
}

/** Where PostgreSQL is copied to where its user cannot reach the checkout. */
export function programsDirectory(stateDirectory: string): string {
  return path.join(stateDirectory, "programs");
}

function server(
  parts: PlatformParts,
  name: string,
  title: string,
  settings: Readonly<Record<string, string | number>>,
) {
  return createPostgres({
    ...parts,
    name,
    title,
    stage: 1,
    settings: { log_timezone: "UTC", timezone: "UTC", ...settings },
    home: path.join(parts.stateDirectory, name),
    socketDirectory: path.join(parts.runDirectory, name),
    logFile: parts.logs.fileOf(name),
  });
}
