/**
 * Measures how long a sleeping Neon-kind database keeps its first query waiting, through O7s and
 * its compute host.
 */
import postgres, { type Sql } from "postgres";
import type { ComputeHost } from "../../platform/compute-host.ts";
import type { DatabaseId } from "../../platform/ids.ts";
import { findFreePort } from "./free-port.ts";
import { startBenchPostgres } from "./postgres.ts";
import type { Scratch } from "./scratch.ts";
import { type Stage, startStage } from "./stage.ts";

export type WakePlan = {
  readonly wakes: number;
  /** Databases on the host, the measured one included; the others sleep. */
  readonly databases: number;
};

/**
 * A first query, in milliseconds from the moment the client sent it. The parts add up to the whole.
 */
export type FirstQuery = {
  readonly totalMs: number;
  /**
   * Until the compute's server was set up, which is when it takes its own start time: O7s, the call
   * to the host, the process, its memory and sockets.
   */
  readonly setUpMs: number;
  /** Until it had a session for O7s: the check of its data, the host's answer, the connection. */
  readonly openMs: number;
  /** Until the query began: the login, and the query's way. */
  readonly loginMs: number;
  /** Until the client had the answer. */
  readonly queryMs: number;
};

export type WakeMeasurement = {
  readonly postgresVersion: string;
  /** Over a connection that the client kept open while the database slept. */
  readonly keptConnections: readonly FirstQuery[];
  /** Connecting included, in milliseconds. */
  readonly newConnections: readonly number[];
  /** The host's wake by itself, as its caller sees it. */
  readonly hostWakes: readonly number[];
  /** The same query, once the database is awake. */
  readonly awakeQueries: readonly number[];
};

const WARM_UPS = 5;
const DATABASE = "wake";
/** No org may have more databases. */
const DATABASES_PER_ORG = 400;
const LIMITS = { connections: 1_000, limitQps: 1_000_000 } as const;

export async function measureWake(
  plan: WakePlan,
  progress: (line: string) => void,
  scratch: Scratch,
): Promise<WakeMeasurement> {
  progress("starting PostgreSQL, the compute host and O7s");
  const { home } = scratch;
  const port = await findFreePort();
  const server = await startBenchPostgres({ home, name: "control", port, listenOnTcp: false });
  scratch.defer(() => server.stop());
  // No database of this run lives on the shared server, so one server is both.
  const urls = { controlUrl: server.adminUrl, sharedUrl: server.adminUrl };
  const stage = await startStage({ home, ...urls, computes: true, defer: scratch.defer });
  if (stage.computes === null) throw new Error("The stage has no compute host.");
  const { host } = stage.computes;
  await createSleepers(stage, host, plan.databases - 1, progress);
  const org = await stage.createOrg("ENTERPRISE", LIMITS);
  const computeId = await stage.createDatabase(org, DATABASE, "neon");
  const url = stage.url(org, DATABASE);
  const kept = openClient(url);
  scratch.defer(() => kept.end({ timeout: 1 }));
  const subject: Subject = { host, computeId, url, kept };

  progress("warming up");
  for (let wake = 0; wake < WARM_UPS; wake++) await measureOnce(subject);
  const samples: Sample[] = [];
  for (let wake = 1; wake <= plan.wakes; wake++) {
    samples.push(await measureOnce(subject));
    if (wake % 10 === 0) progress(`${wake} of ${plan.wakes} wakes`);
  }
  return {
    postgresVersion: server.version,
    keptConnections: samples.map(({ keptConnection }) => keptConnection),
    newConnections: samples.map(({ newConnectionMs }) => newConnectionMs),
    hostWakes: samples.map(({ hostWakeMs }) => hostWakeMs),
    awakeQueries: samples.map(({ awakeQueryMs }) => awakeQueryMs),
  };
}

async function createSleepers(
  stage: Stage,
  host: ComputeHost,
  count: number,
  progress: (line: string) => void,
): Promise<void> {
  for (let made = 0; made < count; ) {
    const org = await stage.createOrg("ENTERPRISE");
    for (let of = 0; of < DATABASES_PER_ORG && made < count; of++) {
      await host.suspend(await stage.createDatabase(org, `sleeper-${of}`, "neon"));
      made += 1;
      if (made % 50 === 0) progress(`${made} of ${count} other databases made`);
    }
  }
}

type Subject = {
  readonly host: ComputeHost;
  readonly computeId: DatabaseId;
  readonly url: string;
  readonly kept: Sql;
};

type Sample = {
  readonly keptConnection: FirstQuery;
  readonly newConnectionMs: number;
  readonly hostWakeMs: number;
  readonly awakeQueryMs: number;
};

/** Three wakes, each from a stopped process. */
async function measureOnce({ host, computeId, url, kept }: Subject): Promise<Sample> {
  await host.suspend(computeId);
  const keptConnection = await timeFirstQuery(kept);
  const awakeQueryMs = await timed(() => ask(kept));

  await host.suspend(computeId);
  const fresh = openClient(url);
  let newConnectionMs: number;
  try {
    newConnectionMs = await timed(() => ask(fresh));
  } finally {
    await fresh.end({ timeout: 1 });
  }

  await host.suspend(computeId);
  const lease = { holder: "bench", leaseMs: 0, deadlineMs: 15_000 };
  const hostWakeMs = await timed(() => host.wake(computeId, lease));
  return { keptConnection, newConnectionMs, hostWakeMs, awakeQueryMs };
}

/** One connection, made by its first query, which then has no query of the driver's before it. */
function openClient(url: string): Sql {
  return postgres(url, { max: 1, ssl: false, fetch_types: false, onnotice: () => {} });
}

type Answer = {
  readonly pid: number;
  /** Milliseconds since the epoch, by the server's clock, which is this machine's. */
  readonly serverStart: number;
  readonly queryStart: number;
};

/** A query that reads no table, as a health check does, and says when it ran. */
async function ask(sql: Sql): Promise<Answer> {
  const [row] = await sql<Answer[]>`
    SELECT pg_backend_pid() AS pid,
      (extract(epoch FROM pg_postmaster_start_time()) * 1000)::float8 AS "serverStart",
      (extract(epoch FROM statement_timestamp()) * 1000)::float8 AS "queryStart"`.simple();
  if (row === undefined) throw new Error("The database answered without a row.");
  return row;
}

async function timeFirstQuery(sql: Sql): Promise<FirstQuery> {
  const sent = wallClockMs();
  const { pid, serverStart, queryStart } = await ask(sql);
  const answered = wallClockMs();
  // Asked for afterwards, because looking it up would be part of what is measured.
  const [session] = await sql<{ start: number }[]>`
    SELECT (extract(epoch FROM backend_start) * 1000)::float8 AS start
    FROM pg_stat_activity WHERE pid = ${pid}`;
  if (session === undefined) throw new Error("The session that answered is gone.");
  return {
    totalMs: answered - sent,
    setUpMs: serverStart - sent,
    openMs: session.start - serverStart,
    loginMs: queryStart - session.start,
    queryMs: answered - queryStart,
  };
}

async function timed(act: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await act();
  return performance.now() - start;
}

/** As `Date.now()`, with the fractions of a millisecond that it leaves out. */
function wallClockMs(): number {
  return performance.timeOrigin + performance.now();
}
