/** Measures O7s against PgBouncer and against no proxy at all, by turns, on one PostgreSQL. */
import path from "node:path";
import type { Sql } from "postgres";
import { parseAdminServer } from "../../platform/endpoints.ts";
import { openPostgres } from "../../platform/postgres-client.ts";
import { parseMasterKey, upstreamPassword } from "../../platform/upstream-credentials.ts";
import { CommandError } from "../cli/command.ts";
import { findFreePort } from "./free-port.ts";
import {
  fillTables,
  type PgbenchResult,
  type PgbenchTarget,
  type QueryMode,
  runPgbench,
} from "./pgbench.ts";
import { type RunningPgbouncer, startPgbouncer, supportsPrepared } from "./pgbouncer.ts";
import { type BenchPostgres, startBenchPostgres } from "./postgres.ts";
import { cpuMicrosOf } from "./process-cpu.ts";
import type { Program } from "./programs.ts";
import type { Scratch } from "./scratch.ts";
import { type Stage, startStage } from "./stage.ts";

export const ROUTES = ["direct", "o7s", "pgbouncer"] as const;
/** The way from the client to PostgreSQL. */
export type Route = (typeof ROUTES)[number];

export type ProxyPlan = {
  readonly modes: readonly QueryMode[];
  readonly clients: readonly number[];
  /** Of each run of pgbench. */
  readonly seconds: number;
  readonly rounds: number;
  readonly scale: number;
};

/** The results of one mode and number of clients: one of each route for each round, in order. */
export type Comparison = {
  readonly mode: QueryMode;
  readonly clients: number;
  readonly rounds: readonly Readonly<Record<Route, RouteResult>>[];
};

export type RouteResult = PgbenchResult & {
  /** Connections to PostgreSQL that were at work: the most that were seen within a second. */
  readonly upstreams: number;
};

export type ProxyMeasurement = {
  readonly comparisons: readonly Comparison[];
  readonly postgresVersion: string;
  /** Modes that were asked for and that this PgBouncer cannot do. */
  readonly leftOut: readonly QueryMode[];
};

export type ProxyTools = {
  readonly pgbench: Program;
  readonly pgbouncer: Program;
  readonly progress: (line: string) => void;
};

/** The connections to PostgreSQL that each proxy may have for the database. */
export const POOL_SIZE = 20;
const CLIENTS_MAX = 250;
const WARM_UP_SECONDS = 3;

/** Far above what is reached here: every layer works, and none throttles. */
const LIMITS = { connections: 1_000, limitQps: 1_000_000 } as const;
const DATABASE = "bench";

export async function measureProxy(
  plan: ProxyPlan,
  tools: ProxyTools,
  scratch: Scratch,
): Promise<ProxyMeasurement> {
  tools.progress("starting PostgreSQL, O7s and PgBouncer");
  const setting = await setUp(plan, tools, scratch);
  const modes = plan.modes.filter(
    (mode) => mode !== "prepared" || supportsPrepared(tools.pgbouncer),
  );
  const comparisons: Comparison[] = [];
  for (const mode of modes) {
    for (const clients of plan.clients) {
      comparisons.push(await compare({ mode, clients, plan, tools, scratch, setting }));
    }
  }
  return {
    comparisons,
    postgresVersion: setting.postgres.version,
    leftOut: plan.modes.filter((mode) => !modes.includes(mode)),
  };
}

type Setting = {
  readonly postgres: BenchPostgres;
  readonly targets: Readonly<Record<Route, PgbenchTarget>>;
  readonly processes: Readonly<Record<Route, number | null>>;
  /** How O7s is, and what it wrote last: where a run fails, it says why. */
  readonly lastWords: () => string;
  /** How many of the database's connections had a query within the last second. */
  readonly busyUpstreams: () => Promise<number>;
};

const LAST_LINES = 10;

async function setUp(plan: ProxyPlan, tools: ProxyTools, scratch: Scratch): Promise<Setting> {
  const { home } = scratch;
  const start = async (name: string, listenOnTcp: boolean): Promise<BenchPostgres> => {
    const port = await findFreePort();
    const postgres = await startBenchPostgres({ home, name, port, listenOnTcp });
    scratch.defer(() => postgres.stop());
    return postgres;
  };
  const control = await start("control", false);
  const postgres = await start("shared", true);
  const urls = { controlUrl: control.adminUrl, sharedUrl: postgres.adminUrl };
  const environment = { O7S_POOL_MAX: String(POOL_SIZE) };
  const stage = await startStage({
    home,
    ...urls,
    computes: false,
    environment,
    defer: scratch.defer,
  });
  const org = await stage.createOrg("ENTERPRISE", LIMITS);
  const databaseName = await stage.createDatabase(org, DATABASE);
  const upstream = {
    socketDirectory: postgres.socketDirectory,
    port: postgres.port,
    databaseName,
    roleName: org.orgId,
    password: passwordOf(stage, org.orgId),
  };
  const pgbouncer = await startPgbouncer({
    program: tools.pgbouncer,
    directory: path.join(home, "pgbouncer"),
    port: await findFreePort(),
    poolSize: POOL_SIZE,
    clientsMax: CLIENTS_MAX,
    user: postgres.user,
    upstream,
  });
  scratch.defer(() => pgbouncer.stop());
  const targets = targetsOf({ stage, pgbouncer, upstream, token: org.token });
  tools.progress(`filling pgbench's tables at scale ${plan.scale}`);
  await fillTables({ program: tools.pgbench, target: targets.direct, scale: plan.scale });
  const admin = openAdmin(postgres.adminUrl);
  scratch.defer(() => admin.end({ timeout: 1 }));
  return {
    postgres,
    targets,
    busyUpstreams: async () => {
      const [row] = await admin<{ count: number }[]>`
        SELECT count(*)::int AS count FROM pg_stat_activity
        WHERE datname = ${databaseName} AND query_start > clock_timestamp() - interval '1 second'`;
      return row?.count ?? 0;
    },
    processes: { direct: null, o7s: stage.proxy.pid, pgbouncer: pgbouncer.pid },
    lastWords: () => {
      const { proxy } = stage;
      const state = proxy.ending() ?? "running";
      return `O7s: ${state}. It wrote last:\n${proxy.lines().slice(-LAST_LINES).join("\n")}`;
    },
  };
}

/** The tenant's own role logs in on all three ways; only O7s keeps its password from the client. */
function targetsOf(setting: {
  readonly stage: Stage;
  readonly pgbouncer: RunningPgbouncer;
  readonly upstream: {
    readonly port: number;
    readonly databaseName: string;
    readonly roleName: string;
    readonly password: string;
  };
  readonly token: string;
}): Readonly<Record<Route, PgbenchTarget>> {
  const { port, databaseName, roleName: user, password } = setting.upstream;
  return {
    direct: { port, user, password, database: databaseName },
    o7s: { port: setting.stage.postgresPort, user, password: setting.token, database: DATABASE },
    pgbouncer: { port: setting.pgbouncer.port, user, password, database: DATABASE },
  };
}

function openAdmin(url: string): Sql {
  const server = parseAdminServer(url);
  if (server === null) throw new Error("The server's address is malformed.");
  return openPostgres(server, { applicationName: "ogel-bench", connectionsMax: 1 });
}

function passwordOf(stage: Stage, roleName: string): string {
  const masterKey = parseMasterKey(stage.environment["OGEL_MASTER_KEY"] ?? "");
  if (masterKey === null) throw new Error("The stage has no master key.");
  return upstreamPassword(masterKey, roleName, 1);
}

type Job = {
  readonly mode: QueryMode;
  readonly clients: number;
  readonly plan: ProxyPlan;
  readonly tools: ProxyTools;
  readonly scratch: Scratch;
  readonly setting: Setting;
};

async function compare(job: Job): Promise<Comparison> {
  const { mode, clients, plan, tools } = job;
  const run = (route: Route, seconds: number): Promise<RouteResult> =>
    runRoute({ ...job, route, seconds });
  const what = `${mode}, ${clients} ${clients === 1 ? "client" : "clients"}`;
  tools.progress(`${what}: warming up`);
  for (const route of ROUTES) await run(route, WARM_UP_SECONDS);

  const rounds: Record<Route, RouteResult>[] = [];
  for (let round = 0; round < plan.rounds; round++) {
    // Turned round each time, so that a machine that grows faster or slower favours none.
    const order = round % 2 === 0 ? ROUTES : ROUTES.toReversed();
    const results: Partial<Record<Route, RouteResult>> = {};
    for (const route of order) results[route] = await run(route, plan.seconds);
    const { direct, o7s, pgbouncer } = results;
    if (direct === undefined || o7s === undefined || pgbouncer === undefined) continue;
    rounds.push({ direct, o7s, pgbouncer });
    const speeds = ROUTES.map((route) => `${route} ${Math.round(results[route]?.tps ?? 0)}/s`);
    tools.progress(`${what}: round ${round + 1} of ${plan.rounds}: ${speeds.join(", ")}`);
  }
  return { mode, clients, rounds };
}

/** @throws CommandError with what pgbench and O7s said where the run fails. */
async function runRoute(
  job: Job & { readonly route: Route; readonly seconds: number },
): Promise<RouteResult> {
  const { route, setting } = job;
  const pid = setting.processes[route];
  let upstreams = 0;
  const counts: Promise<void>[] = [];
  const onReport = (): void => {
    const counting = setting.busyUpstreams().then((count) => {
      upstreams = Math.max(upstreams, count);
    });
    // Awaited below; until then a failure of its own is not to end the process.
    counting.catch(() => {});
    counts.push(counting);
  };
  try {
    const result = await runPgbench({
      program: job.tools.pgbench,
      target: setting.targets[route],
      mode: job.mode,
      clients: job.clients,
      seconds: job.seconds,
      directory: job.scratch.home,
      cpuMicros: pid === null ? null : () => cpuMicrosOf(pid),
      onReport,
    });
    await Promise.all(counts);
    return { ...result, upstreams };
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new CommandError(`The run of ${route} failed. ${reason}\n${setting.lastWords()}`);
  }
}
