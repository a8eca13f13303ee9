/**
 * The seven layers, in order. A connection passes `openSession` once, a request passes
 * `admitRequest` each time; what is left of the seventh layer, running the query, is
 * `layers/query-execution.ts` and the protocol's own relay.
 */
import type { DatabaseKind } from "../platform/databases.ts";
import type { OrgId } from "../platform/ids.ts";
import type { Log } from "../platform/log.ts";
import type { Tenant } from "../platform/tenants.ts";
import {
  connectionLimit,
  type Denial,
  databaseDropped,
  orgSuspended,
  rateLimited,
} from "./denial.ts";
import type { Authentication, LoginAttempt, Principal } from "./layers/authentication.ts";
import type { ConnectionGate } from "./layers/connection-gate.ts";
import { type DatabaseRouter, verifyNetwork } from "./layers/database-router.ts";
import type { RateLimiter, Weight } from "./layers/rate-limiter.ts";
import { verifySession } from "./layers/tier-verification.ts";
import { UsageMeter } from "./layers/usage-tracker.ts";
import type { LogBudgets } from "./log-budget.ts";
import type { ProxyMetrics } from "./metrics.ts";
import type { Session, SessionRegistry } from "./session.ts";
import type { SlowStatements } from "./slow-statements.ts";
import type { UsageCounters } from "./usage-counters.ts";

export type Layers = {
  readonly authentication: Authentication;
  readonly gate: ConnectionGate;
  readonly limiter: RateLimiter;
  readonly router: DatabaseRouter;
  readonly counters: UsageCounters;
  readonly sessions: SessionRegistry;
  /** The tenant's newest state, so that a change during a login is not missed. */
  readonly currentTenant: (orgId: OrgId) => Tenant | null;
  /** The same from the control plane itself, or null where that cannot be asked. */
  readonly reloadTenant: (orgId: OrgId) => Promise<Tenant | null>;
  readonly throttleMaxWaitMs: number;
  /** Monotonic. */
  readonly nowMs: () => number;
  readonly log: Log;
  readonly logBudgets: LogBudgets;
  readonly slowStatements: SlowStatements;
  readonly metrics: ProxyMetrics;
};

export type Hello = {
  readonly protocol: string;
  readonly user: string;
  readonly database: string;
  /** The client's address, without port. */
  readonly address: string;
  /** The kinds of database that this protocol serves. */
  readonly kinds: readonly DatabaseKind[];
  /** Runs the protocol's exchange with the client. */
  readonly prove: (attempt: LoginAttempt) => Promise<Principal | Denial>;
  readonly end: Session["end"];
  readonly tick: Session["tick"];
  readonly part: Session["part"];
  readonly activity: Session["activity"];
};

export function isDenial(value: object): value is Denial {
  return "code" in value && "level" in value;
}

let lastSessionId = 0;

/**
 * What a connection passes before it is a session. Its slot and limiter are given back by
 * `closeSession`.
 */
export async function openSession(layers: Layers, hello: Hello): Promise<Session | Denial> {
  // 1 Authentication: which org is this?
  const attempt = await layers.authentication.begin(hello.user, hello.address);
  if (isDenial(attempt)) return attempt;
  const principal = await hello.prove(attempt);
  if (isDenial(principal)) return principal;
  const tenant = await newestTenant(layers, principal.tenant, hello.database);

  // 2 Tier verification: may it use the platform now?
  const refused = verifySession(tenant, principal.tokenId);
  if (refused !== null) return refused;

  // 3 Connection gate: is there a place for one more?
  const slot = await layers.gate.admit(tenant);
  if (isDenial(slot)) return slot;

  // 5 Database router: where is it?
  const route = layers.router.resolve(tenant, hello.database, hello);
  if (isDenial(route)) {
    slot.release();
    return route;
  }

  const { orgId } = tenant;
  const session: Session = {
    id: ++lastSessionId,
    orgId,
    tokenId: principal.tokenId,
    protocol: hello.protocol,
    address: hello.address,
    openedAtMs: layers.nowMs(),
    tenant,
    slot,
    route,
    limiter: layers.limiter.acquire(orgId, tenant.limits.limitQps),
    meter: new UsageMeter(layers.counters.slot(orgId, route.database.databaseId)),
    end: hello.end,
    tick: hello.tick,
    part: hello.part,
    activity: hello.activity,
  };
  layers.sessions.add(session);
  return session;
}

/**
 * The tenant as it is now. A database that has just been made may be ready before its announcement
 * is here, so one that lacks the database asked for is loaded anew.
 */
async function newestTenant(layers: Layers, known: Tenant, database: string): Promise<Tenant> {
  const tenant = layers.currentTenant(known.orgId) ?? known;
  if (tenant.databases.get(database)?.status === "ready") return tenant;
  return (await layers.reloadTenant(known.orgId)) ?? tenant;
}

export function closeSession(layers: Layers, session: Session): void {
  layers.sessions.delete(session);
  layers.limiter.release(session.orgId);
  session.slot.release();
}

/**
 * What the layers say to a request: go on, wait for a turn, wait for the compute to wake, or a
 * denial.
 */
export type Admission = "run" | "throttled" | "asleep" | Denial;

/**
 * What each request passes before it runs. `arrivedMs` is when it was read; `mayDeny` is false
 * inside a transaction, where an error would lie about the transaction's state; `paid` says that
 * its turn has come after a wait.
 */
export function admitRequest(
  layers: Layers,
  session: Session,
  weight: Weight,
  paid: boolean,
  mayDeny: boolean,
  arrivedMs: number,
  nowMs: number,
): Admission {
  // 4 Rate limiter: is it this org's turn?
  if (!paid) {
    const waitMs = session.limiter.take(weight, nowMs);
    if (waitMs > 0) {
      const allWaitMs = nowMs - arrivedMs + waitMs;
      if (mayDeny && allWaitMs > layers.throttleMaxWaitMs) {
        return rateLimited(session.tenant, waitMs);
      }
      layers.metrics.throttled += 1;
      return "throttled";
    }
  }

  // 5 Database router: is it awake?
  if (session.route.open(nowMs) === null) return "asleep";

  // 6 Usage tracker: `session.meter` starts when the request is sent, and counts its replies as
  // they come. 7 Query execution: the protocol sends it over a connection of the database's pool.
  return "run";
}

/** A tenant has changed: its open sessions go on under the new limits, or end. */
export function applyTenantChange(layers: Layers, orgId: OrgId, tenant: Tenant | null): void {
  const sessions = layers.sessions.of(orgId);
  let kept = 0;
  for (const session of sessions) {
    const denial = tenant === null ? orgSuspended() : sessionDenial(session, tenant, kept);
    if (denial === null && tenant !== null) {
      kept += 1;
      session.tenant = tenant;
      session.limiter.setRate(tenant.limits.limitQps);
      if (session.route.lease !== null) session.route.lease.idleMs = tenant.limits.computeIdleMs;
    } else if (denial !== null) {
      logDenial(layers, denial, { orgId, protocol: session.protocol });
      session.end(denial);
    }
  }
  if (tenant !== null) layers.gate.limitChanged(tenant);
}

/**
 * Ends so many of an org's sessions for want of places, the youngest first; returns how many it
 * could.
 */
export function endYoungest(layers: Layers, orgId: OrgId, count: number): number {
  const ended = layers.sessions.of(orgId).slice(-count);
  for (const session of ended) {
    const denial = connectionLimit(session.tenant);
    logDenial(layers, denial, { orgId, protocol: session.protocol });
    session.end(denial);
  }
  return ended.length;
}

/** Oldest sessions keep their places when a tier with fewer comes into force. */
function sessionDenial(session: Session, tenant: Tenant, kept: number): Denial | null {
  const denial = verifySession(tenant, session.tokenId);
  if (denial !== null) return denial;
  if (kept >= tenant.limits.connections) return connectionLimit(tenant);
  const { database } = session.route;
  const current = [...tenant.databases.values()].find(
    (candidate) => candidate.databaseId === database.databaseId,
  );
  if (current?.status !== "ready") return databaseDropped();
  return verifyNetwork(current, session.address);
}

/** Counts a denial, and logs it as far as its source has not done so too often. */
export function logDenial(
  layers: Pick<Layers, "log" | "logBudgets" | "metrics">,
  denial: Denial,
  context: { orgId: string; protocol: string; address?: string },
): void {
  layers.metrics.denied(context.protocol, denial.code);
  const { sessions, logins } = layers.logBudgets;
  const { address } = context;
  const leftOut = address === undefined ? sessions.take(context.orgId) : logins.take(address);
  if (leftOut === null) return;
  layers.log[denial.level]("denial", {
    code: denial.code,
    reason: denial.log,
    ...context,
    leftOut: leftOut === 0 ? undefined : leftOut,
  });
}
