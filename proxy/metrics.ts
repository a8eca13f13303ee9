/**
 * Metrics in the Prometheus text format. The hot path adds to plain fields; text is only made when
 * somebody asks. Labels never hold an org or a database, so their number is bounded.
 */
import { TIERS, type Tier } from "../platform/tiers.ts";
import { Histogram } from "./histogram.ts";

/** What is read at the time of asking: name, help, and a value, or one for each set of labels. */
export type Gauge = readonly [
  string,
  string,
  number | readonly (readonly [labels: string, value: number])[],
];

/** Counters of one name that differ in their labels. */
class LabelledCounter {
  readonly #counts = new Map<string, number>();

  add(labels: string): void {
    this.#counts.set(labels, (this.#counts.get(labels) ?? 0) + 1);
  }

  samples(name: string): readonly string[] {
    return [...this.#counts].map(([labels, count]) => `${name}{${labels}} ${count}`);
  }
}

/**
 * PostgreSQL's classes of SQLSTATE (documentation, appendix A). A tenant can raise errors with
 * codes of its own: those count together, or labels would be without bound.
 */
const SQLSTATE_CLASSES: ReadonlySet<string> = new Set(
  (
    "00 01 02 03 08 09 0A 0B 0F 0L 0P 0Z 20 21 22 23 24 25 26 27 28 2B 2D 2F 34 38 39 3B 3D 3F 40 " +
    "42 44 53 54 55 57 58 72 F0 HV P0 XX"
  ).split(" "),
);

export class ProxyMetrics {
  connectionsAccepted = 0;
  sessionsOpened = 0;
  loginsFailed = 0;
  queries = 0;
  throttled = 0;
  upstreamsOpened = 0;
  upstreamsFailed = 0;
  upstreamsLost = 0;
  repairs = 0;
  wakes = 0;
  cancels = 0;
  usageReportsFailed = 0;
  /** Waits for a turn and for an upstream, those that ended with one. */
  readonly throttleWaits = new Histogram();
  readonly upstreamWaits = new Histogram();
  /** Connecting to a server and logging in, successful or not. */
  readonly upstreamConnects = new Histogram();
  readonly computeWakes = new Histogram();
  /** By how much this process's timers come late. */
  readonly loopLag = new Histogram();
  readonly #statements = new Map<string, Readonly<Record<Tier, Histogram>>>();
  readonly #denials = new LabelledCounter();
  readonly #failures = new LabelledCounter();

  /**
   * From a statement's start to the end of its reply, by tier; to be asked for once, not for each
   * statement.
   */
  statementTimes(protocol: string): Readonly<Record<Tier, Histogram>> {
    const known = this.#statements.get(protocol);
    if (known !== undefined) return known;
    const times = {
      FREE: new Histogram(),
      STARTER: new Histogram(),
      PRO: new Histogram(),
      ENTERPRISE: new Histogram(),
    };
    this.#statements.set(protocol, times);
    return times;
  }

  denied(protocol: string, code: string): void {
    this.#denials.add(`protocol="${protocol}",code="${code}"`);
  }

  /** A statement has failed in the database, with this SQLSTATE where it is known. */
  statementFailed(protocol: string, sqlState: string): void {
    const group = sqlState.slice(0, 2);
    const known = SQLSTATE_CLASSES.has(group) ? group : "other";
    this.#failures.add(`protocol="${protocol}",class="${known}"`);
  }

  /** `gauges` are read at the time of asking. */
  render(gauges: readonly Gauge[]): string {
    const lines: string[] = [];
    const family = (name: string, help: string, type: string, samples: readonly string[]): void => {
      lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`, ...samples);
    };
    for (const [name, help, value] of this.#counters()) {
      family(name, help, "counter", [`${name} ${value}`]);
    }
    for (const [name, help, value] of gauges) {
      const samples =
        typeof value === "number"
          ? [`${name} ${value}`]
          : value.map(([labels, labelled]) => `${name}{${labels}} ${labelled}`);
      family(name, help, "gauge", samples);
    }
    const denials = this.#denials.samples("o7s_denials_total");
    family("o7s_denials_total", "Refusals by layer code", "counter", denials);
    const failures = this.#failures.samples("o7s_statements_failed_total");
    const failuresHelp = "Statements that failed in the database, by class of SQLSTATE";
    family("o7s_statements_failed_total", failuresHelp, "counter", failures);
    for (const [name, help, histogram] of this.#histograms()) {
      family(name, help, "histogram", histogram.samples(name, ""));
    }
    const times = "o7s_statement_duration_seconds";
    const timesHelp = "From the start of a statement to the end of its reply";
    family(times, timesHelp, "histogram", this.#statementSamples(times));
    return `${lines.join("\n")}\n`;
  }

  #statementSamples(name: string): readonly string[] {
    return [...this.#statements].flatMap(([protocol, times]) =>
      TIERS.flatMap((tier) => times[tier].samples(name, `protocol="${protocol}",tier="${tier}"`)),
    );
  }

  #counters(): readonly (readonly [string, string, number])[] {
    return [
      ["o7s_connections_accepted_total", "Sockets accepted", this.connectionsAccepted],
      ["o7s_sessions_opened_total", "Connections that passed layers 1 to 3", this.sessionsOpened],
      ["o7s_logins_failed_total", "Logins refused by authentication", this.loginsFailed],
      ["o7s_queries_total", "Statements completed or failed", this.queries],
      ["o7s_requests_throttled_total", "Requests that waited for their turn", this.throttled],
      ["o7s_upstreams_opened_total", "Connections opened to databases", this.upstreamsOpened],
      ["o7s_upstreams_failed_total", "Failed attempts to open one", this.upstreamsFailed],
      ["o7s_upstreams_lost_total", "Connections lost while in use", this.upstreamsLost],
      ["o7s_login_repairs_total", "Upstream logins repaired", this.repairs],
      ["o7s_compute_wakes_total", "Requests that met a sleeping compute", this.wakes],
      ["o7s_cancel_requests_total", "Cancel requests received", this.cancels],
      ["o7s_usage_reports_failed_total", "Reports of usage that failed", this.usageReportsFailed],
    ];
  }

  #histograms(): readonly (readonly [string, string, Histogram])[] {
    return [
      ["o7s_throttle_wait_seconds", "Waits for a turn", this.throttleWaits],
      ["o7s_upstream_wait_seconds", "Waits for a connection to a database", this.upstreamWaits],
      ["o7s_upstream_connect_seconds", "Opening such a connection", this.upstreamConnects],
      ["o7s_compute_wake_seconds", "Waking a compute", this.computeWakes],
      ["o7s_event_loop_lag_seconds", "By how much timers came late", this.loopLag],
    ];
  }
}
