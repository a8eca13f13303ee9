/**
 * Opening upstreams for sessions: finds or wakes the target, logs in, and where the login is
 * refused for something that the tenant did to its own role or database, has that repaired once and
 * tries again.
 */
import type { Log } from "../../../platform/log.ts";
import { type Denial, upstreamUnavailable } from "../../denial.ts";
import type { UpstreamTarget } from "../../layers/database-router.ts";
import type { ProxyMetrics } from "../../metrics.ts";
import { isDenial } from "../../pipeline.ts";
import type { Session } from "../../session.ts";
import { startupParameters } from "./capped-settings.ts";
import type { UpstreamConnection } from "./upstream-connection.ts";
import { connectUpstream, type UpstreamRefusal } from "./upstream-login.ts";

export type UpstreamSupplyOptions = {
  readonly log: Log;
  readonly metrics: ProxyMetrics;
  readonly nowMs: () => number;
  readonly connectDeadlineMs: number;
  /**
   * Sets the role's password again and lifts what keeps it from logging in. Rejects when that
   * cannot be done.
   */
  readonly repairLogin: (session: Session) => Promise<void>;
};

export type UpstreamSupply = (
  session: Session,
  parameters: ReadonlyMap<string, string>,
) => Promise<UpstreamConnection | Denial>;

/**
 * Refusals that a tenant can bring about itself: a changed password, a connection limit or
 * ALLOW_CONNECTIONS on its own database, a revoked CONNECT, a preloaded library that is not there.
 */
const REPAIRABLE = new Set(["28P01", "28000", "53300", "55000", "42501", "58P01"]);

/** Refusals that the client's own startup parameters bring about: its to read, word for word. */
const CLIENTS_OWN = /^(22|42|08P01|0A)/;

/** A role is repaired at most this often, or a tenant could keep the server busy with it. */
const REPAIR_INTERVAL_MS = 2_000;

export function createUpstreamSupply(options: UpstreamSupplyOptions): UpstreamSupply {
  const repairs = new Map<
    string,
    { readonly startedMs: number; readonly done: Promise<boolean> }
  >();

  const repair = (session: Session): Promise<boolean> => {
    const key = session.route.database.databaseId;
    const now = options.nowMs();
    const last = repairs.get(key);
    if (last !== undefined && now - last.startedMs < REPAIR_INTERVAL_MS) return last.done;
    options.metrics.repairs += 1;
    const done = options.repairLogin(session).then(
      () => true,
      (error: unknown) => {
        options.log.error("login_repair_failed", { databaseId: key, reason: String(error) });
        return false;
      },
    );
    repairs.set(key, { startedMs: now, done });
    setTimeout(() => repairs.delete(key), REPAIR_INTERVAL_MS);
    return done;
  };

  return async (session, parameters) => {
    const { databaseId } = session.route.database;
    const tryOnce = async (): Promise<UpstreamConnection | UpstreamRefusal | Denial> => {
      const target = await openTarget(session, options);
      if (isDenial(target)) return target;
      const started = startupParameters(parameters, session.tenant.limits);
      const connectingMs = options.nowMs();
      const outcome = await connectUpstream(target, started, options.connectDeadlineMs);
      options.metrics.upstreamConnects.observe(options.nowMs() - connectingMs);
      if ("refused" in outcome) {
        options.metrics.upstreamsFailed += 1;
        session.route.lease?.lost(target.generation);
      } else {
        options.metrics.upstreamsOpened += 1;
      }
      return outcome;
    };
    let outcome = await tryOnce();
    if ("refused" in outcome && isRepairable(outcome, session) && (await repair(session))) {
      outcome = await tryOnce();
    }
    if (!("refused" in outcome)) return outcome;
    if (outcome.errorMessage !== null && CLIENTS_OWN.test(outcome.sqlState)) {
      return relayedRefusal(outcome);
    }
    return upstreamUnavailable(`${databaseId}: ${outcome.sqlState} ${outcome.reason}`);
  };
}

function isRepairable(refusal: UpstreamRefusal, session: Session): boolean {
  // A compute that has just been stopped is woken by the second try; there is nothing else to mend.
  return REPAIRABLE.has(refusal.sqlState) || session.route.lease !== null;
}

async function openTarget(
  session: Session,
  { metrics, nowMs }: UpstreamSupplyOptions,
): Promise<UpstreamTarget | Denial> {
  const askedMs = nowMs();
  const open = session.route.open(askedMs);
  if (open !== null) return open;
  metrics.wakes += 1;
  const target = await session.route.wake();
  metrics.computeWakes.observe(nowMs() - askedMs);
  return target;
}

function relayedRefusal(refusal: UpstreamRefusal): Denial {
  return {
    code: "upstream_refused",
    message: refusal.reason,
    hint: null,
    log: `the server refused the startup parameters: ${refusal.sqlState}`,
    level: "info",
    sqlState: refusal.sqlState,
  };
}
