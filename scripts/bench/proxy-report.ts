/**
 * What a measurement of the proxy comes to: medians, ratios and bars, for people and for the
 * record.
 */
import { table } from "../cli/table.ts";
import { BAR_HEADINGS, type Bar, barRow, judge } from "./bars.ts";
import type { Circumstances } from "./circumstances.ts";
import type { QueryMode } from "./pgbench.ts";
import {
  type Comparison,
  POOL_SIZE,
  type ProxyMeasurement,
  type ProxyPlan,
  ROUTES,
  type Route,
  type RouteResult,
} from "./proxy-measurement.ts";
import { medianOf, type Quantiles, rounded } from "./statistics.ts";

/** Medians over the rounds. */
export type Summary = {
  readonly route: Route;
  readonly tps: number;
  readonly latencyMicros: Quantiles;
  readonly cpuMicrosPerQuery: number | null;
  readonly upstreams: number;
};

/** Medians of what each round gives by itself: neighbours in time are compared. */
export type Ratios = {
  readonly tpsToPgbouncer: number;
  readonly tpsToDirect: number;
  readonly cpuToPgbouncer: number;
  /** What O7s adds to direct PostgreSQL, by quantile. */
  readonly addedMicros: Quantiles;
  readonly addedByPgbouncerMicros: Quantiles;
};

export type ProxyReport = Circumstances & {
  readonly benchmark: "proxy";
  readonly versions: Readonly<Record<"bun" | "postgres" | "pgbouncer" | "pgbench", string>>;
  readonly plan: ProxyPlan;
  readonly poolSize: number;
  readonly results: readonly {
    readonly mode: QueryMode;
    readonly clients: number;
    readonly routes: readonly Summary[];
    readonly ratios: Ratios;
  }[];
  readonly bars: readonly Bar[];
  readonly notes: readonly string[];
};

export function reportProxy(run: {
  readonly circumstances: Circumstances;
  readonly plan: ProxyPlan;
  readonly versions: Readonly<Record<"pgbouncer" | "pgbench", string>>;
  readonly measurement: ProxyMeasurement;
}): ProxyReport {
  const { plan, measurement } = run;
  const results = measurement.comparisons.map((comparison) => ({
    mode: comparison.mode,
    clients: comparison.clients,
    routes: ROUTES.map((route) => summarize(route, comparison)),
    ratios: ratiosOf(comparison),
  }));
  return {
    benchmark: "proxy",
    ...run.circumstances,
    versions: { bun: Bun.version, postgres: measurement.postgresVersion, ...run.versions },
    plan,
    poolSize: POOL_SIZE,
    results,
    bars: barsOf(results),
    notes: notesOf(run.versions.pgbouncer, measurement),
  };
}

function summarize(route: Route, { rounds }: Comparison): Summary {
  const median = (measure: (result: RouteResult) => number): number =>
    rounded(medianOf(rounds.map((round) => measure(round[route]))));
  return {
    route,
    tps: median(({ tps }) => tps),
    latencyMicros: {
      p50: median(({ latencyMicros }) => latencyMicros.p50),
      p95: median(({ latencyMicros }) => latencyMicros.p95),
      p99: median(({ latencyMicros }) => latencyMicros.p99),
    },
    cpuMicrosPerQuery:
      route === "direct" ? null : median(({ cpuMicrosPerQuery }) => cpuMicrosPerQuery ?? 0),
    upstreams: median(({ upstreams }) => upstreams),
  };
}

function ratiosOf({ rounds }: Comparison): Ratios {
  type Round = (typeof rounds)[number];
  const median = (measure: (round: Round) => number): number =>
    rounded(medianOf(rounds.map(measure)));
  const added = (route: Route): Quantiles => {
    const at = (quantile: keyof Quantiles): number =>
      median(
        (round) => round[route].latencyMicros[quantile] - round.direct.latencyMicros[quantile],
      );
    return { p50: at("p50"), p95: at("p95"), p99: at("p99") };
  };
  return {
    tpsToPgbouncer: median(({ o7s, pgbouncer }) => o7s.tps / pgbouncer.tps),
    tpsToDirect: median(({ o7s, direct }) => o7s.tps / direct.tps),
    cpuToPgbouncer: median(
      ({ o7s, pgbouncer }) =>
        (o7s.cpuMicrosPerQuery ?? Number.NaN) / (pgbouncer.cpuMicrosPerQuery ?? Number.NaN),
    ),
    addedMicros: added("o7s"),
    addedByPgbouncerMicros: added("pgbouncer"),
  };
}

const BARRED_MODES = ["simple", "extended"] as const;

function barsOf(results: ProxyReport["results"]): Bar[] {
  const ratiosAt = (mode: QueryMode, clients: number): Ratios | null =>
    results.find((result) => result.mode === mode && result.clients === clients)?.ratios ?? null;
  return BARRED_MODES.flatMap((mode) => {
    const loaded = ratiosAt(mode, 20);
    const alone = ratiosAt(mode, 1);
    return [
      judge(
        {
          name: `CPU per query against PgBouncer, ${mode}, 20 clients (the aim is 1.0×)`,
          unit: "ratio",
          bar: 1.25,
          better: "lower",
        },
        loaded?.cpuToPgbouncer ?? null,
      ),
      judge(
        {
          name: `throughput against PgBouncer, ${mode}, 20 clients`,
          unit: "ratio",
          bar: 1,
          better: "higher",
        },
        loaded?.tpsToPgbouncer ?? null,
      ),
      judge(
        {
          name: `latency added to direct PostgreSQL, p95, ${mode}, 1 client`,
          unit: "ms",
          bar: 0.2,
          better: "lower",
        },
        alone === null ? null : alone.addedMicros.p95 / 1_000,
      ),
    ];
  });
}

function notesOf(pgbouncer: string, { comparisons, leftOut }: ProxyMeasurement): string[] {
  const notes = [
    "Clients reach all three over TCP on loopback; O7s and PgBouncer reach PostgreSQL over the same " +
      `unix socket and may have ${POOL_SIZE} upstreams (O7S_POOL_MAX; default_pool_size with ` +
      "pool_mode=transaction). No TLS anywhere.",
    "O7s: ENTERPRISE with raised limits, so all seven layers work and none throttles.",
  ];
  const crowded = comparisons.filter(({ rounds }) => rounds.some(hasMoreUpstreams));
  if (crowded.length > 0) {
    const where = crowded.map(({ mode, clients }) => `${mode} with ${clients} clients`).join(", ");
    notes.push(
      `O7s worked over more upstreams than PgBouncer: ${where}. See the column upstreams.`,
    );
  }
  if (leftOut.length > 0) {
    notes.push(
      `Left out: ${leftOut.join(", ")}. PgBouncer ${pgbouncer} does not follow prepared statements ` +
        "through transaction pooling; 1.21 and later do.",
    );
  }
  return notes;
}

function hasMoreUpstreams({ o7s, pgbouncer }: Comparison["rounds"][number]): boolean {
  return o7s.upstreams > pgbouncer.upstreams;
}

const HEADINGS = [
  "mode",
  "clients",
  "route",
  "queries/s",
  "p50 ms",
  "p95 ms",
  "p99 ms",
  "cpu us",
  "upstreams",
];
const RATIO_HEADINGS = [
  "o7s against",
  "clients",
  "queries/s, pgbouncer = 1",
  "cpu, pgbouncer = 1",
  "queries/s, direct = 1",
  "added p50 us",
  "added p95 us",
];

/** Tables for people: what was measured, the ratios, the bars, and what to know about it. */
export function proxyText(report: ProxyReport): string {
  const { versions, machine, results } = report;
  const measured = results.flatMap(({ mode, clients, routes }) =>
    routes.map(({ route, tps, latencyMicros, cpuMicrosPerQuery, upstreams }) => [
      mode,
      clients,
      route,
      tps,
      ...[latencyMicros.p50, latencyMicros.p95, latencyMicros.p99].map((micros) =>
        (micros / 1_000).toFixed(3),
      ),
      cpuMicrosPerQuery,
      upstreams,
    ]),
  );
  const ratios = results.map(({ mode, clients, ratios: ratio }) => [
    mode,
    clients,
    ratio.tpsToPgbouncer.toFixed(2),
    ratio.cpuToPgbouncer.toFixed(2),
    ratio.tpsToDirect.toFixed(2),
    ratio.addedMicros.p50,
    ratio.addedMicros.p95,
  ]);
  const parts = [
    `O7s (Bun ${versions.bun}) and PgBouncer ${versions.pgbouncer} in front of PostgreSQL ` +
      `${versions.postgres}, pgbench ${versions.pgbench} -S, scale ${report.plan.scale}\n` +
      `${machine.cores} cores of ${machine.cpu}, load before ${machine.loadBefore}; ` +
      `${report.plan.rounds} rounds of ${report.plan.seconds} s, medians; ` +
      `commit ${report.commit ?? "unknown"}\n`,
    table(HEADINGS, measured, "Nothing was measured."),
    table(RATIO_HEADINGS, ratios, "Nothing was measured."),
    table(BAR_HEADINGS, report.bars.map(barRow), "There are no bars."),
    `${report.notes.join("\n")}\n`,
  ];
  return parts.join("\n");
}
