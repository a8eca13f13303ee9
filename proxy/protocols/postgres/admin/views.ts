/**
 * What operators can look at: each view is a table of what this process knows at the moment of
 * asking.
 */
import { databaseAddress } from "../../../../platform/databases.ts";
import type { OrgId } from "../../../../platform/ids.ts";
import type { Tenant } from "../../../../platform/tenants.ts";
import type { Session, SessionRegistry } from "../../../session.ts";
import type { UsageCounters } from "../../../usage-counters.ts";
import type { UpstreamPools } from "../upstream-pools.ts";
import type { Column, Row } from "./result-messages.ts";

export type View = {
  readonly name: string;
  readonly meaning: string;
  readonly columns: readonly Column[];
  /** The rows, of one org where one is named. */
  rows(orgId: OrgId | null): Iterable<Row>;
};

export type ViewSources = {
  readonly sessions: SessionRegistry;
  readonly pools: UpstreamPools;
  readonly tenants: { known(): Iterable<Tenant> };
  readonly counters: UsageCounters;
  /** Monotonic. */
  readonly nowMs: () => number;
};

const text = (name: string): Column => ({ name, type: "text" });
const int8 = (name: string): Column => ({ name, type: "int8" });

const secondsSince = (sinceMs: number, nowMs: number): number =>
  Math.max(0, Math.floor((nowMs - sinceMs) / 1_000));

export function createViews(sources: ViewSources): readonly View[] {
  return [pools(sources), clients(sources), tenants(sources), stats(sources)];
}

function pools(sources: ViewSources): View {
  return {
    name: "POOLS",
    meaning: "Connections to databases, by the pool that sessions share.",
    columns: [
      text("org"),
      text("database"),
      text("database_id"),
      text("kind"),
      int8("clients"),
      int8("waiting"),
      int8("longest_wait_ms"),
      int8("lent"),
      int8("pinned"),
      int8("idle"),
      int8("opening"),
    ],
    *rows(orgId) {
      const nowMs = sources.nowMs();
      for (const pool of sources.pools.all()) {
        const { database } = pool;
        if (orgId !== null && database.orgId !== orgId) continue;
        yield [
          database.orgId,
          databaseAddress(database),
          database.databaseId,
          database.kind,
          pool.members,
          pool.waiting,
          Math.round(pool.longestWaitMs(nowMs)),
          pool.lent,
          pool.pinned,
          pool.idle,
          pool.opening,
        ];
      }
    },
  };
}

function clients(sources: ViewSources): View {
  return {
    name: "CLIENTS",
    meaning: "Sessions, what they do, and what binds them to their connection.",
    columns: [
      int8("id"),
      text("org"),
      text("tier"),
      text("database"),
      text("protocol"),
      text("address"),
      text("state"),
      text("pinned_by"),
      int8("connected_s"),
      int8("quiet_s"),
    ],
    *rows(orgId) {
      const nowMs = sources.nowMs();
      const { sessions } = sources;
      for (const session of orgId === null ? sessions.all() : sessions.of(orgId)) {
        yield clientRow(session, nowMs);
      }
    },
  };
}

function clientRow(session: Session, nowMs: number): Row {
  const { state, held, lastTrafficMs } = session.activity();
  return [
    session.id,
    session.orgId,
    session.tenant.tier,
    databaseAddress(session.route.database),
    session.protocol,
    session.address,
    state,
    held,
    secondsSince(session.openedAtMs, nowMs),
    secondsSince(lastTrafficMs, nowMs),
  ];
}

function tenants(sources: ViewSources): View {
  return {
    name: "TENANTS",
    meaning: "Orgs that this proxy knows, and how far they are from their limits.",
    columns: [
      text("org"),
      text("tier"),
      text("status"),
      int8("connections"),
      int8("connections_max"),
      int8("queries_per_second_max"),
      int8("databases"),
      text("denied_because"),
    ],
    *rows(orgId) {
      for (const tenant of sources.tenants.known()) {
        if (orgId !== null && tenant.orgId !== orgId) continue;
        yield [
          tenant.orgId,
          tenant.tier,
          tenant.status,
          sources.sessions.of(tenant.orgId).length,
          tenant.limits.connections,
          tenant.limits.limitQps,
          tenant.databases.size,
          tenant.overUsage,
        ];
      }
    },
  };
}

function stats(sources: ViewSources): View {
  return {
    name: "STATS",
    meaning: "What has been counted for each database since this proxy started.",
    columns: [
      text("org"),
      text("database_id"),
      int8("queries"),
      int8("rows"),
      int8("bytes_in"),
      int8("bytes_out"),
      int8("busy_ms"),
    ],
    *rows(orgId) {
      for (const file of sources.counters.writers) {
        for (const counted of file.snapshot().rows) {
          if (orgId !== null && counted.orgId !== orgId) continue;
          const { queries, rows, bytesIn, bytesOut, busyMicros } = counted.totals;
          const busyMs = Math.floor(busyMicros / 1_000);
          yield [counted.orgId, counted.databaseId, queries, rows, bytesIn, bytesOut, busyMs];
        }
      }
    },
  };
}
