/** O7s's configuration, read from its environment once, at the start. */
import { availableParallelism } from "node:os";
import { parseAdminServer, parseAdminServers, parseComputeHosts } from "../platform/endpoints.ts";
import { type Environment, EnvironmentReader } from "../platform/environment.ts";
import { parseLogLevel } from "../platform/log.ts";
import { parseMasterKey } from "../platform/upstream-credentials.ts";
import { WORKERS_MAX } from "./workers/messages.ts";

export type Configuration = ReturnType<typeof readConfiguration>;

/** As the supervisor demands it. */
const OPERATOR_KEY_CHARS_MIN = 24;

/** Throws a `ConfigurationError` that names every variable at fault. */
export function readConfiguration(environment: Environment) {
  const read = new EnvironmentReader("O7s", environment);
  const hosts = read.optional("COMPUTE_HOST_URLS");
  const computeHosts = hosts === null ? [] : parseComputeHosts(hosts);
  if (computeHosts === null) {
    read.fault("COMPUTE_HOST_URLS", "must be a list of name=unix:/path or name=http://host:port.");
  }
  const certPath = read.optional("O7S_TLS_CERT");
  const keyPath = read.optional("O7S_TLS_KEY");
  if ((certPath === null) !== (keyPath === null)) {
    read.fault("O7S_TLS_CERT", "and O7S_TLS_KEY name the two files of one certificate: set both.");
  }
  const redisUrl = read.optional("REDIS_URL");
  if (redisUrl !== null && !isRedisUrl(redisUrl)) {
    read.fault("REDIS_URL", "must be a URL like redis://user:password@host:6379 (or rediss://).");
  }
  const operatorKey = read.optional("OGEL_OPERATOR_KEY");
  if (operatorKey !== null && operatorKey.length < OPERATOR_KEY_CHARS_MIN) {
    read.fault("OGEL_OPERATOR_KEY", `must have at least ${OPERATOR_KEY_CHARS_MIN} characters.`);
  }
  const logLevel = parseLogLevel(read.optional("LOG_LEVEL") ?? "info");
  if (logLevel === null) read.fault("LOG_LEVEL", "must be debug, info, warn or error.");
  const configuration = {
    controlPlane: read.parsed(
      "DATABASE_URL",
      "the control plane's address",
      "a URL like postgres://user:password@host:5432/database",
      parseAdminServer,
    ),
    sharedServers: read.parsed(
      "SHARED_POSTGRES_URLS",
      "the servers that tenants' databases live on",
      "a list of name=postgres://user:password@host:5432/database, separated by commas",
      parseAdminServers,
    ),
    masterKey: read.parsed(
      "OGEL_MASTER_KEY",
      "the key that upstream passwords are derived from",
      "64 hexadecimal digits",
      parseMasterKey,
    ),
    computeHosts: computeHosts ?? [],
    computeHostSecret:
      hosts === null ? "" : read.required("COMPUTE_HOST_SECRET", "the secret of the compute hosts"),
    /** Where limits are counted when several workers or replicas share them. */
    redisUrl,
    dataDirectory: read.required(
      "O7S_DATA_DIR",
      "the directory for usage counters and the self-signed certificate",
    ),
    host: read.optional("O7S_HOST") ?? "127.0.0.1",
    postgresPort: read.port("O7S_POSTGRES_PORT", 5_440),
    httpPort: read.port("O7S_HTTP_PORT", 5_443),
    certificate: certPath === null || keyPath === null ? null : { certPath, keyPath },
    /** Opens the operators' console; null where there is none. */
    operatorKey,
    /** Lets a successor listen on the same ports before this process has left them. */
    reusePort: read.flag("O7S_REUSE_PORT", false),
    drainMs: read.integer("O7S_DRAIN_MS", 30_000, { min: 0, max: 3_600_000 }),
    requireTls: read.flag("O7S_REQUIRE_TLS", false),
    throttleMaxWaitMs: read.integer("O7S_THROTTLE_MAX_WAIT_MS", 1_000, { min: 0, max: 60_000 }),
    /** From how long on a statement is logged as slow; 0 for never. */
    slowQueryMs: read.integer("O7S_SLOW_QUERY_MS", 1_000, { min: 0, max: 3_600_000 }),
    loginDeadlineMs: read.integer("O7S_LOGIN_DEADLINE_MS", 10_000, { min: 100, max: 300_000 }),
    connectDeadlineMs: read.integer("O7S_CONNECT_DEADLINE_MS", 10_000, { min: 100, max: 300_000 }),
    wakeDeadlineMs: read.integer("O7S_WAKE_DEADLINE_MS", 15_000, { min: 100, max: 300_000 }),
    poolWaitMs: read.integer("O7S_POOL_WAIT_MS", 30_000, { min: 100, max: 600_000 }),
    poolIdleMs: read.integer("O7S_POOL_IDLE_MS", 60_000, { min: 1_000, max: 3_600_000 }),
    logLevel: logLevel ?? "info",
    ...readWorkers(read),
  };
  read.finish();
  return configuration;
}

/** The workers, and what is bounded for the proxy as a whole and so divided among them. */
function readWorkers(read: EnvironmentReader) {
  const workers = read.integer(
    "O7S_WORKERS",
    Math.min(WORKERS_MAX, Math.max(1, availableParallelism() - 1)),
    {
      min: 1,
      max: WORKERS_MAX,
    },
  );
  const worker = read.integer("O7S_WORKER", 0, { min: 0, max: workers });
  const share = (limit: number): number => Math.ceil(limit / (worker === 0 ? 1 : workers));
  return {
    /** Processes that serve, each of them with all layers. */
    workers,
    /**
     * Which of them this is, from 1 on; 0 for a proxy that serves alone, and for the primary of
     * several workers.
     */
    worker,
    strangersMax: share(read.integer("O7S_UNAUTHENTICATED_MAX", 1_000, { min: 1, max: 100_000 })),
    poolMax: share(read.integer("O7S_POOL_MAX", 20, { min: 1, max: 1_000 })),
  };
}

function isRedisUrl(text: string): boolean {
  const url = URL.parse(text);
  return url !== null && ["redis:", "rediss:"].includes(url.protocol) && url.hostname !== "";
}
