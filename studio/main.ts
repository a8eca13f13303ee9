/**
 * Starts Studio: the control plane's keeper and the platform's HTTP API. Configured by its
 * environment alone.
 */

import type { ComputeHost } from "../platform/compute-host.ts";
import { createComputeHostClient } from "../platform/compute-host-client.ts";
import { migrate } from "../platform/control/migrate.ts";
import { parseAdminServer, parseAdminServers, parseComputeHosts } from "../platform/endpoints.ts";
import { createEngines } from "../platform/engines/registry.ts";
import { prepareServer } from "../platform/engines/server-preparation.ts";
import { openSharedServer } from "../platform/engines/shared-server.ts";
import {
  ConfigurationError,
  type Environment,
  EnvironmentReader,
} from "../platform/environment.ts";
import { createLog, type Log, parseLogLevel } from "../platform/log.ts";
import { openPostgres } from "../platform/postgres-client.ts";
import { parseMasterKey } from "../platform/upstream-credentials.ts";
import { BODY_BYTES_MAX, createApi } from "./api/app.ts";
import { parseOperatorKey } from "./api/session.ts";
import { startSweeper } from "./sweeper.ts";

function readConfiguration(environment: Environment) {
  const read = new EnvironmentReader("Studio", environment);
  const url = "a URL like postgres://user:password@host:5432/database";
  const computeHosts = read.optional("COMPUTE_HOST_URLS");
  const configuration = {
    controlPlane: read.parsed("DATABASE_URL", "the control plane's address", url, parseAdminServer),
    sharedServers: read.parsed(
      "SHARED_POSTGRES_URLS",
      "the servers that tenants' databases live on",
      "a list of name=postgres://user:password@host:5432/database, separated by commas",
      parseAdminServers,
    ),
    computeHosts: computeHosts === null ? [] : parseComputeHosts(computeHosts),
    computeHostSecret:
      computeHosts === null
        ? ""
        : read.required("COMPUTE_HOST_SECRET", "the secret of the compute hosts"),
    masterKey: read.parsed(
      "OGEL_MASTER_KEY",
      "the key that upstream passwords are derived from",
      "64 hexadecimal digits",
      parseMasterKey,
    ),
    operatorKey: read.parsed(
      "OGEL_OPERATOR_KEY",
      "the key by which operators use the API",
      "at least 24 characters",
      parseOperatorKey,
    ),
    host: read.optional("STUDIO_HOST") ?? "127.0.0.1",
    port: read.port("STUDIO_PORT", 5_444),
    proxy: {
      host: read.optional("O7S_PUBLIC_HOST") ?? "127.0.0.1",
      postgresPort: read.port("O7S_POSTGRES_PORT", 5_440),
    },
    logLevel: parseLogLevel(read.optional("LOG_LEVEL") ?? "info"),
  };
  if (configuration.computeHosts === null) {
    read.fault("COMPUTE_HOST_URLS", "must be a list of name=unix:/path or name=http://host:port.");
  }
  if (configuration.logLevel === null) {
    read.fault("LOG_LEVEL", "must be debug, info, warn or error.");
  }
  read.finish();
  return configuration;
}

async function start(environment: Environment): Promise<void> {
  const configuration = readConfiguration(environment);
  const log = createLog({
    service: "studio",
    level: configuration.logLevel ?? "info",
    write: (line) => process.stdout.write(`${line}\n`),
  });
  const open = (connectionsMax: number) =>
    openPostgres(configuration.controlPlane, { applicationName: "ogel-studio", connectionsMax });
  const sql = open(10);
  const locks = open(16);
  const sharedServers = configuration.sharedServers.map(openSharedServer);
  const computeHosts = new Map<string, ComputeHost>(
    (configuration.computeHosts ?? []).map((address) => [
      address.name,
      createComputeHostClient({ address, secret: configuration.computeHostSecret }),
    ]),
  );

  for (const name of await migrate(sql)) log.info("migration_applied", { name });
  await prepareServers(sharedServers, log);

  const engines = createEngines({
    masterKey: configuration.masterKey,
    sharedServers,
    computeHosts,
  });
  const provisioning = { sql, locks, engines, log };
  const { operatorKey, proxy } = configuration;
  const api = createApi({
    sql,
    provisioning,
    computeHosts,
    operatorKey,
    log,
    proxy,
    now: Date.now,
  });
  const server = Bun.serve({
    hostname: configuration.host,
    port: configuration.port,
    // Making a database may take a minute; the default of ten seconds would cut it off.
    idleTimeout: 240,
    // The API answers for bodies over its own bound; the server cuts off what comes without a
    // length.
    maxRequestBodySize: 4 * BODY_BYTES_MAX,
    development: false,
    // Without it, Bun shares the port with whoever has it already when it does not run for
    // development.
    reusePort: false,
    fetch: api.fetch,
  });
  const sweeper = startSweeper(provisioning);
  log.info("studio_ready", { host: configuration.host, port: server.port });

  const stop = async (signal: string): Promise<void> => {
    log.info("studio_stopping", { signal });
    await server.stop(); // Answers what it is doing first.
    await sweeper.stop();
    await Promise.all(sharedServers.map((shared) => shared.close()));
    await Promise.all([sql.end({ timeout: 1 }), locks.end({ timeout: 1 })]);
    log.info("studio_stopped");
    process.exit(0);
  };
  for (const signal of ["SIGTERM", "SIGINT"] as const)
    process.once(signal, () => void stop(signal));
}

/** One server that is away must not keep the others' tenants from being served. */
async function prepareServers(
  servers: readonly ReturnType<typeof openSharedServer>[],
  log: Log,
): Promise<void> {
  for (const shared of servers) {
    try {
      await prepareServer(shared);
    } catch (error) {
      log.error("server_not_prepared", { server: shared.server.name, reason: String(error) });
    }
  }
}

/** What a person who starts the service needs to know, in one message. */
function explain(error: unknown, port: string): string {
  if (error instanceof ConfigurationError) return error.message;
  const { code, message } = (error ?? {}) as { code?: unknown; message?: unknown };
  if (code === "EADDRINUSE") {
    return (
      `Studio cannot start: port ${port} is taken. ` +
      "Set STUDIO_PORT to another one, or stop what uses it."
    );
  }
  if (["ECONNREFUSED", "ENOENT", "CONNECT_TIMEOUT", "28P01", "3D000"].includes(String(code))) {
    const reason = String(message);
    return `Studio cannot start: the control plane (DATABASE_URL) cannot be used: ${reason}`;
  }
  return `Studio cannot start: ${String(message ?? error)}`;
}

try {
  await start(process.env);
} catch (error) {
  process.stderr.write(`${explain(error, process.env["STUDIO_PORT"] ?? "5444")}\n`);
  process.exit(1);
}
