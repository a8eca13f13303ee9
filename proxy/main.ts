/**
 * Starts O7s: reads the configuration, builds the layers, opens the ports, and takes them down
 * again.
 */
import { createHmac, randomUUID } from "node:crypto";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import type { Sql } from "postgres";
import type { ComputeHost } from "../platform/compute-host.ts";
import { createComputeHostClient } from "../platform/compute-host-client.ts";
import { createTenantDirectory } from "../platform/control/tenant-directory.ts";
import { createEngines, engineOf } from "../platform/engines/registry.ts";
import { openSharedServer } from "../platform/engines/shared-server.ts";
import { ConfigurationError } from "../platform/environment.ts";
import { createLog, type Log } from "../platform/log.ts";
import { openPostgres } from "../platform/postgres-client.ts";
import { engineLimits } from "../platform/provisioning.ts";
import { ComputeLeases } from "./compute-leases.ts";
import { type Configuration, readConfiguration } from "./configuration.ts";
import { drainSessions } from "./draining.ts";
import { readGauges } from "./gauges.ts";
import { findTroubles } from "./health.ts";
import { serveHttp } from "./http-server.ts";
import { createAuthentication } from "./layers/authentication.ts";
import { createDatabaseRouter } from "./layers/database-router.ts";
import { type Limits, openLimits } from "./limits/shared-limits.ts";
import { createLogBudgets } from "./log-budget.ts";
import { ProxyMetrics } from "./metrics.ts";
import { applyTenantChange, endYoungest, type Layers } from "./pipeline.ts";
import { createOperators, type Operators } from "./protocols/postgres/admin/operators.ts";
import { createViews } from "./protocols/postgres/admin/views.ts";
import { listenPostgres } from "./protocols/postgres/listener.ts";
import { UpstreamPools } from "./protocols/postgres/upstream-pools.ts";
import { createUpstreamSupply } from "./protocols/postgres/upstream-supply.ts";
import { type Session, SessionRegistry } from "./session.ts";
import { SlowStatements } from "./slow-statements.ts";
import { TenantCache } from "./tenant-cache.ts";
import { type Certificate, ensureSelfSignedCertificate, loadCertificate } from "./tls.ts";
import { UsageCounters } from "./usage-counters.ts";
import { startUsageReporting, type UsageReporting } from "./usage-reporting.ts";
import { mergeMetrics } from "./workers/merge-metrics.ts";
import { Primary, refuseTakenPorts } from "./workers/primary.ts";
import { WorkerLink } from "./workers/worker-link.ts";

const nowMs = (): number => performance.now();
const TICK_MS = 250;

type Running = {
  /**
   * Takes no more connections, and resolves when the sessions have gone, in patience or, once
   * hurried, without.
   */
  drain(hurried: AbortSignal): Promise<void>;
  close(): Promise<void>;
};

/** Builds the parts and opens the ports; `link` is null for a proxy that serves alone. */
async function start(
  configuration: Configuration,
  log: Log,
  link: WorkerLink | null,
): Promise<Running> {
  const usageDirectory = join(configuration.dataDirectory, "usage");
  mkdirSync(usageDirectory, { recursive: true, mode: 0o700 });
  const tls = await certificateOf(configuration);
  const sql = openPostgres(configuration.controlPlane, {
    applicationName: "ogel-o7s",
    connectionsMax: 5,
  });
  const computeHosts = computeHostsOf(configuration);
  const sessions = new SessionRegistry();
  const metrics = new ProxyMetrics();
  const tenants = new TenantCache({
    directory: createTenantDirectory(sql, { log }),
    log,
    liveOrgs: sessions,
    changed: (orgId, tenant) => {
      applyTenantChange(layers, orgId, tenant);
      if (tenant !== null) pools.applyLimits(orgId, tenant.limits);
    },
  });
  const leases = new ComputeLeases(computeHosts, {
    holder: `o7s-${randomUUID()}`,
    log,
    nowMs,
    wakeDeadlineMs: configuration.wakeDeadlineMs,
  });
  const counters = new UsageCounters(usageDirectory);
  const limits = await openLimits({
    redisUrl: configuration.redisUrl,
    primary: link,
    log,
    clock: { nowMs, schedule },
    endYoungest: (orgId, count) => endYoungest(layers, orgId, count),
  });
  const layers: Layers = {
    authentication: createAuthentication({
      findTenant: (orgId) => tenants.find(orgId),
      mockKey: createHmac("sha256", configuration.masterKey).update("mock verifiers").digest(),
      nowMs,
    }),
    gate: limits.gate,
    limiter: limits.limiter,
    router: createDatabaseRouter({
      servers: configuration.sharedServers,
      leases,
      masterKey: configuration.masterKey,
    }),
    counters,
    sessions,
    currentTenant: (orgId) => tenants.peek(orgId),
    reloadTenant: (orgId) => tenants.reload(orgId).catch(() => null),
    throttleMaxWaitMs: configuration.throttleMaxWaitMs,
    nowMs,
    ...createRecords(configuration, log),
    metrics,
  };
  const pools = createPools(configuration, layers, computeHosts);

  await tenants.start();
  const reporting = await startUsageReporting({
    sql,
    log,
    directory: usageDirectory,
    counters,
    nowMs,
    failed: () => {
      metrics.usageReportsFailed += 1;
    },
  });
  const parts = { sql, tls, pools, tenants, limits, reporting, link };
  const ports = openPorts(configuration, layers, parts);
  return {
    drain: ports.drain,
    async close() {
      await ports.close();
      await limits.close();
      leases.close();
      await reporting.close();
      await tenants.close();
      await sql.end({ timeout: 1 });
    },
  };
}

/** What is written down of denials and slow statements. */
function createRecords(
  { slowQueryMs }: Configuration,
  log: Log,
): Pick<Layers, "log" | "logBudgets" | "slowStatements"> {
  const logBudgets = createLogBudgets(nowMs);
  const budget = logBudgets.statements;
  const slowStatements = new SlowStatements({ log, budget, thresholdMs: slowQueryMs });
  return { log, logBudgets, slowStatements };
}

function computeHostsOf(configuration: Configuration): ReadonlyMap<string, ComputeHost> {
  return new Map(
    configuration.computeHosts.map((address) => [
      address.name,
      createComputeHostClient({ address, secret: configuration.computeHostSecret }),
    ]),
  );
}

function certificateOf(configuration: Configuration): Promise<Certificate> {
  const { certificate, dataDirectory } = configuration;
  return certificate === null
    ? ensureSelfSignedCertificate(join(dataDirectory, "tls"))
    : Promise.resolve(loadCertificate(certificate.certPath, certificate.keyPath));
}

function createPools(
  configuration: Configuration,
  layers: Layers,
  computeHosts: ReadonlyMap<string, ComputeHost>,
): UpstreamPools {
  const engines = createEngines({
    masterKey: configuration.masterKey,
    sharedServers: configuration.sharedServers.map(openSharedServer),
    computeHosts,
  });
  const supply = createUpstreamSupply({
    log: layers.log,
    metrics: layers.metrics,
    nowMs,
    connectDeadlineMs: configuration.connectDeadlineMs,
    repairLogin: (session) => repairLogin(engines, session),
  });
  return new UpstreamPools({
    supply,
    nowMs,
    sharedMax: configuration.poolMax,
    waitMs: configuration.poolWaitMs,
    idleMs: configuration.poolIdleMs,
  });
}

function openPorts(
  configuration: Configuration,
  layers: Layers,
  parts: {
    readonly sql: Sql;
    readonly tls: Certificate;
    readonly pools: UpstreamPools;
    readonly tenants: TenantCache;
    readonly limits: Limits;
    readonly reporting: UsageReporting;
    readonly link: WorkerLink | null;
  },
): Running {
  const { sessions } = layers;
  const { link } = parts;
  const reusePort = configuration.reusePort || link !== null;
  let draining = false;
  const postgres = listenPostgres({
    layers,
    hostname: configuration.host,
    port: configuration.postgresPort,
    reusePort,
    cancelRouting:
      link === null
        ? null
        : { worker: link.worker, elsewhere: (pid, key) => link.cancelElsewhere(pid, key) },
    tls: parts.tls,
    requireTls: configuration.requireTls,
    pools: parts.pools,
    operators: operatorsOf(configuration, layers, parts),
    nowMs,
    strangersMax: configuration.strangersMax,
    loginDeadlineMs: configuration.loginDeadlineMs,
  });
  const gauges = () => [
    ...readGauges({ ...parts, layers, postgres, draining }),
    ...parts.limits.gauges(),
  ];
  const ownMetrics = (): string => layers.metrics.render(gauges());
  const ownTroubles = async (): Promise<readonly string[]> => [
    ...(await findTroubles(parts.sql)),
    ...parts.limits.troubles(),
  ];
  const http = serveHttp({
    hostname: configuration.host,
    port: configuration.httpPort,
    reusePort,
    draining: () => draining,
    troubles: () => (link === null ? ownTroubles() : link.collectTroubles(configuration.workers)),
    metrics: async () =>
      link === null ? ownMetrics() : mergeMetrics(await link.collect("metrics")),
  });
  let dueMs = nowMs() + TICK_MS;
  const ticker = setInterval(() => {
    const now = nowMs();
    layers.metrics.loopLag.observe(Math.max(0, now - dueMs));
    dueMs = now + TICK_MS;
    for (const session of sessions.all()) session.tick(now);
  }, TICK_MS);
  const ports = { postgresPort: postgres.port, httpPort: http.port };
  link?.started(ports, {
    report: async (kind) => (kind === "metrics" ? ownMetrics().split("\n") : await ownTroubles()),
    cancel: postgres.cancel,
  });
  if (link === null) layers.log.info("started", ports);
  else layers.log.info("worker_started", { worker: link.worker, pid: process.pid, ...ports });
  return {
    async drain(hurried) {
      draining = true;
      postgres.stopAccepting();
      // A successor on the same port answers from now on. Without one, this process says that it is
      // going.
      if (configuration.reusePort) http.stopAccepting();
      layers.log.info("draining", { sessions: sessions.size, drainMs: configuration.drainMs });
      const left = await drainSessions({
        sessions,
        strangers: postgres.strangers,
        refuseStrangers: postgres.refuseStrangers,
        drainMs: configuration.drainMs,
        nowMs,
        hurried,
      });
      layers.log.info("drained", { sessionsLeft: left });
    },
    async close() {
      clearInterval(ticker);
      await postgres.close();
      await http.close();
    },
  };
}

function operatorsOf(
  { operatorKey }: Configuration,
  { sessions, counters }: Layers,
  { pools, tenants }: { pools: UpstreamPools; tenants: TenantCache },
): Operators | null {
  if (operatorKey === null) return null;
  const views = createViews({ sessions, pools, tenants, counters, nowMs });
  return createOperators({ operatorKey, views, nowMs });
}

function repairLogin(engines: ReturnType<typeof createEngines>, session: Session): Promise<void> {
  const { database } = session.route;
  if (database.endpoint === null) return Promise.resolve();
  const { databaseId, orgId, name, endpoint } = database;
  const { credentialGeneration, limits } = session.tenant;
  return engineOf(engines, database.kind).repairLogin({
    databaseId,
    orgId,
    name,
    endpoint,
    credentialGeneration,
    ...engineLimits(limits),
  });
}

function schedule(delayMs: number, call: () => void): () => void {
  const timer = setTimeout(call, delayMs);
  return () => clearTimeout(timer);
}

/** What went wrong, in a sentence for whoever started the service. */
function startFailure(error: unknown, configuration: Configuration | null): string {
  if (error instanceof ConfigurationError) return error.message;
  const text = error instanceof Error ? error.message : String(error);
  const inUse = error instanceof Error && "code" in error && error.code === "EADDRINUSE";
  if (inUse && configuration !== null) {
    return (
      `O7s cannot start: port ${configuration.postgresPort} (O7S_POSTGRES_PORT) or ` +
      `${configuration.httpPort} (O7S_HTTP_PORT) is taken. Stop what listens there, or set another.`
    );
  }
  return `O7s cannot start: ${text}`;
}

/** Serves until it is told to stop, alone or as one of several workers. */
async function serve(configuration: Configuration, log: Log): Promise<void> {
  const link = configuration.worker === 0 ? null : new WorkerLink(configuration.worker);
  const proxy = await start(configuration, log, link);
  const hurry = new AbortController();
  let stopping = false;
  const shutDown = (signal: string): void => {
    // Whoever asks twice, or at the keyboard, does not want to wait.
    if (stopping || signal === "SIGINT") hurry.abort();
    if (stopping) return;
    stopping = true;
    proxy
      .drain(hurry.signal)
      .then(() => proxy.close())
      .then(
        () => process.exit(0),
        () => process.exit(1),
      );
  };
  process.on("SIGTERM", shutDown);
  process.on("SIGINT", shutDown);
  link?.whenLost(() => shutDown("SIGINT"));
}

/** Runs the workers until it is told to stop. */
async function runPrimary(configuration: Configuration, log: Log): Promise<void> {
  const { workers } = configuration;
  const { host, postgresPort, httpPort, reusePort } = configuration;
  if (!reusePort) refuseTakenPorts(host, [postgresPort, httpPort]);
  const primary = await Primary.start({
    workers,
    command: [process.execPath, import.meta.path],
    environment: process.env,
    log,
    nowMs,
  });
  log.info("started", { ...primary.ports, workers });
  const stop = (signal: NodeJS.Signals): void => {
    primary.stop(signal).then(
      () => process.exit(0),
      () => process.exit(1),
    );
  };
  process.on("SIGTERM", stop);
  process.on("SIGINT", stop);
}

let configuration: Configuration | null = null;
try {
  configuration = readConfiguration(process.env);
  const log = createLog({
    service: "o7s",
    level: configuration.logLevel,
    write: (line) => process.stdout.write(`${line}\n`),
  });
  if (configuration.workers > 1 && configuration.worker === 0) await runPrimary(configuration, log);
  else await serve(configuration, log);
} catch (error) {
  process.stderr.write(`${startFailure(error, configuration)}\n`);
  process.exit(1);
}
