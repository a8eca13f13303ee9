/**
 * Runs of pgbench, PostgreSQL's own load generator and an unmodified client: select-only, without
 * TLS.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { availableParallelism } from "node:os";
import path from "node:path";
import type { Program } from "./programs.ts";
import { readLines } from "./service.ts";
import { type Quantiles, quantilesOf } from "./statistics.ts";

export const QUERY_MODES = ["simple", "extended", "prepared"] as const;
export type QueryMode = (typeof QUERY_MODES)[number];

export type PgbenchTarget = {
  readonly port: number;
  readonly user: string;
  readonly password: string;
  readonly database: string;
};

export type PgbenchRun = {
  readonly program: Program;
  readonly target: PgbenchTarget;
  readonly mode: QueryMode;
  readonly clients: number;
  /**
   * At least 3: processor time is taken between the first and the last of pgbench's own reports,
   * one a second.
   */
  readonly seconds: number;
  /** The directory for its logs. */
  readonly directory: string;
  /** Processor time used so far by what is measured, in microseconds; null where nothing is. */
  readonly cpuMicros: (() => number) | null;
  /** Called with each of pgbench's reports, while it works. */
  readonly onReport?: () => void;
};

export type PgbenchResult = {
  /** Queries per second, the time to connect left out. */
  readonly tps: number;
  readonly latencyMicros: Quantiles;
  readonly cpuMicrosPerQuery: number | null;
};

/**
 * From so many clients on, only this share of latencies is logged: writing them takes time away
 * from what is measured.
 */
const SAMPLED_FROM_CLIENTS = 10;
const SAMPLING_RATE = 0.2;
const GRACE_MS = 30_000;

/** One report of pgbench's, and what was true when it came. */
type Report = {
  readonly tps: number;
  readonly arrivedMs: number;
  readonly cpuMicros: number;
};

/** @throws Error with what pgbench said where a client failed. */
export async function runPgbench(run: PgbenchRun): Promise<PgbenchResult> {
  const logs = mkdtempSync(path.join(run.directory, "pgbench-"));
  try {
    const reports: Report[] = [];
    const sampling =
      run.clients >= SAMPLED_FROM_CLIENTS ? [`--sampling-rate=${SAMPLING_RATE}`] : [];
    const args = [
      "--no-vacuum",
      "--select-only",
      `--protocol=${run.mode}`,
      `--client=${run.clients}`,
      `--jobs=${Math.min(run.clients, availableParallelism())}`,
      `--time=${run.seconds}`,
      "--progress=1",
      "--log",
      `--log-prefix=${path.join(logs, "log")}`,
      ...sampling,
    ];
    const output = await execute(run, args, (line) => {
      const tps = /^progress: [\d.]+ s, ([\d.]+) tps/.exec(line)?.[1];
      if (tps === undefined) return;
      const cpuMicros = run.cpuMicros?.() ?? 0;
      reports.push({ tps: Number(tps), arrivedMs: performance.now(), cpuMicros });
      run.onReport?.();
    });
    const tps = Number(/^tps = ([\d.]+)/m.exec(output)?.[1]);
    if (!(tps > 0)) throw new Error(`pgbench said no throughput:\n${output}`);
    return {
      tps,
      latencyMicros: quantilesOf(readLatencies(logs)),
      cpuMicrosPerQuery: run.cpuMicros === null ? null : cpuPerQuery(reports),
    };
  } finally {
    rmSync(logs, { recursive: true, force: true });
  }
}

/** Makes and fills pgbench's tables. */
export async function fillTables(options: {
  readonly program: Program;
  readonly target: PgbenchTarget;
  readonly scale: number;
}): Promise<void> {
  const run = { ...options, seconds: 300 };
  await execute(run, ["--initialize", "--quiet", `--scale=${options.scale}`], () => {});
}

/**
 * Over the whole seconds between the first report and the last: logins, which cost far more than
 * queries, come before the first. The rate of processor time is divided by the rate of queries, so
 * that a report read late shifts neither.
 */
function cpuPerQuery(reports: readonly Report[]): number {
  const first = reports[0];
  const last = reports.at(-1);
  if (first === undefined || last === undefined || first === last) {
    throw new Error("pgbench reported too seldom to measure processor time.");
  }
  const between = reports.slice(1);
  const tps = between.reduce((sum, report) => sum + report.tps, 0) / between.length;
  const seconds = (last.arrivedMs - first.arrivedMs) / 1_000;
  return (last.cpuMicros - first.cpuMicros) / seconds / tps;
}

/**
 * The third column of each line: a transaction's time in microseconds. One file for each of
 * pgbench's threads.
 */
function readLatencies(directory: string): number[] {
  const latencies: number[] = [];
  for (const name of readdirSync(directory)) {
    for (const line of readFileSync(path.join(directory, name), "latin1").split("\n")) {
      const micros = line.split(" ", 3)[2];
      if (micros !== undefined) latencies.push(Number(micros));
    }
  }
  return latencies;
}

/**
 * Runs pgbench to its end and returns what it printed; `onLine` is given what it says meanwhile.
 */
async function execute(
  run: Pick<PgbenchRun, "program" | "target" | "seconds">,
  args: readonly string[],
  onLine: (line: string) => void,
): Promise<string> {
  const { target } = run;
  const child = Bun.spawn(
    [
      run.program.path,
      ...args,
      "--host=127.0.0.1",
      `--port=${target.port}`,
      `--username=${target.user}`,
      target.database,
    ],
    {
      env: {
        PATH: process.env["PATH"] ?? "",
        LC_ALL: "C",
        PGPASSWORD: target.password,
        PGSSLMODE: "disable",
        PGGSSENCMODE: "disable",
        PGCONNECT_TIMEOUT: "20",
      },
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
    },
  );
  const said: string[] = [];
  const deadline = setTimeout(() => child.kill("SIGKILL"), run.seconds * 1_000 + GRACE_MS);
  const [output] = await Promise.all([
    new Response(child.stdout).text(),
    readLines(child.stderr, (line) => {
      said.push(line);
      onLine(line);
    }),
    child.exited,
  ]);
  clearTimeout(deadline);
  if (child.exitCode === 0) return output;
  const problems = said.filter((line) => !line.startsWith("progress:")).slice(-5);
  throw new Error(`pgbench failed (${child.exitCode ?? child.signalCode}): ${problems.join("; ")}`);
}
