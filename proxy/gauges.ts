/** What /metrics reads off the parts of the proxy at the time of asking. */
import type { Gauge } from "./metrics.ts";
import type { Layers } from "./pipeline.ts";
import type { PostgresListener } from "./protocols/postgres/listener.ts";
import type { UpstreamPools } from "./protocols/postgres/upstream-pools.ts";
import type { SessionRegistry } from "./session.ts";
import type { TenantCache } from "./tenant-cache.ts";
import type { UsageReporting } from "./usage-reporting.ts";

export type GaugeSources = {
  readonly layers: Layers;
  readonly postgres: PostgresListener;
  readonly pools: UpstreamPools;
  readonly tenants: TenantCache;
  readonly reporting: UsageReporting;
  readonly draining: boolean;
};

export function readGauges(sources: GaugeSources): readonly Gauge[] {
  const { layers, postgres, pools, tenants, reporting, draining } = sources;
  const { sessions, limiter } = layers;
  const { sessions: ofSessions, logins, statements } = layers.logBudgets;
  const leftOut = ofSessions.leftOut + logins.leftOut + statements.leftOut;
  const reportAgeSeconds = reporting.reportAgeMs() / 1_000;
  return [
    ["o7s_draining", "1 while the proxy takes no more connections", draining ? 1 : 0],
    ["o7s_sessions", "Sessions that are open", sessions.size],
    ["o7s_sessions_pinned", "Sessions bound to their connection, by reason", pinnedBy(sessions)],
    ["o7s_strangers", "Sockets that have not logged in", postgres.strangers()],
    ["o7s_client_backlog_bytes", "Replies that clients have not taken", postgres.backlogBytes()],
    ["o7s_tenants_cached", "Tenants in the cache", tenants.size],
    ["o7s_requests_waiting", "Requests waiting for their turn", limiter.waiting()],
    ["o7s_upstreams_idle", "Idle connections to databases", pools.count("idle")],
    ["o7s_upstreams_lent", "Connections in use by sessions", pools.count("lent")],
    ["o7s_upstreams_pinned", "Connections that hold session state", pools.count("pinned")],
    ["o7s_sessions_waiting", "Sessions waiting for one", pools.count("waiting")],
    ["o7s_log_lines_left_out", "Log lines left out since the start", leftOut],
    [
      "o7s_usage_report_age_seconds",
      "Since a report of usage was last taken; up to 5 when there is nothing to report",
      reportAgeSeconds,
    ],
    ["process_resident_memory_bytes", "Resident memory", process.memoryUsage.rss()],
  ];
}

/** The reasons are a protocol's own few words. */
function pinnedBy(sessions: SessionRegistry): readonly (readonly [string, number])[] {
  const counts = new Map<string, number>();
  for (const session of sessions.all()) {
    const { held } = session.activity();
    if (held !== null) counts.set(held, (counts.get(held) ?? 0) + 1);
  }
  return [...counts].map(([reason, count]) => [`reason="${reason}"`, count]);
}
