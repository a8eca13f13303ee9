/**
 * Metrics in the Prometheus text format. The hot path adds to plain fields; text is only made when somebody asks. Labels
 * never hold an org or a database, so their number is bounded.
 */

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
  readonly #denials = new Map<string, number>();

  denied(protocol: string, code: string): void {
    const labels = `protocol="${protocol}",code="${code}"`;
    this.#denials.set(labels, (this.#denials.get(labels) ?? 0) + 1);
  }

  /** `gauges` are read at the time of asking: name, help, value. */
  render(gauges: readonly (readonly [string, string, number])[]): string {
    const counters: readonly (readonly [string, string, number])[] = [
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
    ];
    const lines: string[] = [];
    const family = (name: string, help: string, type: string, samples: readonly string[]): void => {
      lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`, ...samples);
    };
    for (const [name, help, value] of counters) family(name, help, "counter", [`${name} ${value}`]);
    for (const [name, help, value] of gauges) family(name, help, "gauge", [`${name} ${value}`]);
    const denials = [...this.#denials].map(
      ([labels, count]) => `o7s_denials_total{${labels}} ${count}`,
    );
    family("o7s_denials_total", "Refusals by layer code", "counter", denials);
    return `${lines.join("\n")}\n`;
  }
}
