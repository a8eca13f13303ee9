/**
 * Layer 7, query execution: for how long a session keeps a connection to its database, and how long
 * a statement may take. This is the one place that decides about sharing connections.
 */
import type { Session } from "../session.ts";

/**
 * Whether a session's connection can serve another one now: nothing runs or is owed, no transaction
 * is open, and the session has left no state on it that it would miss or that another would
 * inherit.
 */
export function mayRelease(session: {
  readonly idle: boolean;
  readonly held: string | null;
}): boolean {
  return session.idle && session.held === null;
}

/**
 * By how much a statement that began at `sinceMs` is over the tier's timeout. The server has a
 * timeout too, but a tenant can set its way past that one.
 */
export function overdueMs(session: Session, sinceMs: number, nowMs: number): number {
  return nowMs - sinceMs - session.tenant.limits.statementTimeoutMs;
}
