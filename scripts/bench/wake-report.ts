/** What a measurement of wakes comes to, for people and for the record. */
import { table } from "../cli/table.ts";
import { BAR_HEADINGS, type Bar, barRow, judge } from "./bars.ts";
import type { Circumstances } from "./circumstances.ts";
import { type Quantiles, quantilesOf, rounded } from "./statistics.ts";
import type { FirstQuery, WakeMeasurement, WakePlan } from "./wake-measurement.ts";

export type WakeReport = Circumstances & {
  readonly benchmark: "wake";
  readonly versions: Readonly<Record<"bun" | "postgres", string>>;
  readonly plan: WakePlan;
  /** Milliseconds. */
  readonly keptConnection: Readonly<Record<keyof FirstQuery, Quantiles>>;
  readonly newConnection: Quantiles;
  readonly hostWake: Quantiles;
  readonly awakeQuery: Quantiles;
  readonly bars: readonly Bar[];
};

const WAKE_BAR = { unit: "ms", bar: 150, better: "lower" } as const;

export function reportWake(run: {
  readonly circumstances: Circumstances;
  readonly plan: WakePlan;
  readonly measurement: WakeMeasurement;
}): WakeReport {
  const { measurement } = run;
  const part = (name: keyof FirstQuery): Quantiles =>
    quantiles(measurement.keptConnections.map((query) => query[name]));
  const keptConnection = {
    totalMs: part("totalMs"),
    setUpMs: part("setUpMs"),
    openMs: part("openMs"),
    loginMs: part("loginMs"),
    queryMs: part("queryMs"),
  };
  const newConnection = quantiles(measurement.newConnections);
  const name = "first query of a sleeping database, p95";
  return {
    benchmark: "wake",
    ...run.circumstances,
    versions: { bun: Bun.version, postgres: measurement.postgresVersion },
    plan: run.plan,
    keptConnection,
    newConnection,
    hostWake: quantiles(measurement.hostWakes),
    awakeQuery: quantiles(measurement.awakeQueries),
    bars: [
      judge({ ...WAKE_BAR, name: `${name}, connection kept` }, keptConnection.totalMs.p95),
      judge({ ...WAKE_BAR, name: `${name}, connecting included` }, newConnection.p95),
    ],
  };
}

function quantiles(values: readonly number[]): Quantiles {
  const { p50, p95, p99 } = quantilesOf(values);
  return { p50: rounded(p50), p95: rounded(p95), p99: rounded(p99) };
}

export function wakeText(report: WakeReport): string {
  const { versions, machine, plan, keptConnection: kept } = report;
  const rows: [string, Quantiles][] = [
    ["first query, connection kept", kept.totalMs],
    ["  until the server was set up", kept.setUpMs],
    ["  until it had a session for O7s", kept.openMs],
    ["  until the query began", kept.loginMs],
    ["  until the answer was there", kept.queryMs],
    ["first query, connecting included", report.newConnection],
    ["the compute host's wake alone", report.hostWake],
    ["the same query, awake", report.awakeQuery],
  ];
  const databases = plan.databases === 1 ? "1 database" : `${plan.databases} databases`;
  const parts = [
    `Waking a Neon-kind database, PostgreSQL ${versions.postgres}, O7s on Bun ${versions.bun}\n` +
      `${machine.cores} cores of ${machine.cpu}, load before ${machine.loadBefore}; ` +
      `${plan.wakes} wakes of each kind, ${databases} on the host, warm page cache; ` +
      `commit ${report.commit ?? "unknown"}\n`,
    table(
      ["milliseconds", "p50", "p95", "p99"],
      rows.map(([name, { p50, p95, p99 }]) => [name, p50, p95, p99]),
      "Nothing was measured.",
    ),
    table(BAR_HEADINGS, report.bars.map(barRow), "There are no bars."),
    "The parts of a wake are quantiles of their own: they add up in each wake, not in each column.\n",
  ];
  return parts.join("\n");
}
