/**
 * Layer 7, query execution: which upstream a session uses, for how long, and how long a statement may take.
 *
 * For now a session takes an upstream at login and keeps it until it closes. The one exception is a compute that goes to
 * sleep: sessions that hold nothing on it let go, and take another upstream with their next query. Sharing upstreams
 * between sessions is a change of `mayDetach` and of where the connection goes then; relays already cope with
 * having none.
 */
import type { Session } from "../session.ts";

/** Whether a session can go on over another connection without its client noticing. */
export function mayDetach(session: {
  readonly idle: boolean;
  readonly held: string | null;
}): boolean {
  return session.idle && session.held === null;
}

/**
 * By how much a statement that began at `sinceMs` is over the tier's timeout. The server has a timeout too, but a tenant
 * can set its way past that one.
 */
export function overdueMs(session: Session, sinceMs: number, nowMs: number): number {
  return nowMs - sinceMs - session.tenant.limits.statementTimeoutMs;
}
