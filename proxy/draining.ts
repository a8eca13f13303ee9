/**
 * Draining: how a proxy that is being replaced parts from its sessions. It takes no more
 * connections; those that it has are ended at moments when nothing of theirs is lost, gently at
 * first, and at the deadline whatever they do.
 */
import type { SessionRegistry } from "./session.ts";

/** Which sessions may end now, of those for which nothing runs and no transaction is open. */
export type Parting = {
  /** For so long they have neither sent nor got anything. */
  readonly quietMs: number;
  /**
   * Or their answer is just leaving: in one piece with it goes the end, which the client sees
   * before it acts again.
   */
  readonly withAnswer: boolean;
  /**
   * Whether what they hold on their connection (temporary tables, advisory locks, …) may be lost.
   */
  readonly stateToo: boolean;
};

export type DrainOptions = {
  readonly sessions: SessionRegistry;
  /** Connections that have not logged in yet. */
  readonly strangers: () => number;
  /** They have had time to log in; those that have not by now are to be refused. */
  readonly refuseStrangers: () => void;
  readonly drainMs: number;
  readonly nowMs: () => number;
  /** Ends the patience. */
  readonly hurried: AbortSignal;
};

/** Longer than clients pause between two statements of one piece of work. */
const QUIET_MS = 500;
/**
 * Shorter, for those that would not leave by themselves, but long enough that no statement is
 * likely on its way.
 */
const PAUSE_MS = 50;
/** Short-lived connections come to their own end within this. */
const GENTLE_MS_MAX = 2_000;
const LOOK_INTERVAL_MS = 50;

/**
 * Resolves when every session has gone, or at the deadline; says how many are left then. Sessions
 * are asked in three steps: the quiet ones; then, after a moment, the busy ones between two
 * transactions; and when half of the time has passed those that hold state too, which would end
 * with the proxy anyway.
 */
export async function drainSessions(options: DrainOptions): Promise<number> {
  const { sessions, drainMs, nowMs, hurried } = options;
  const startedMs = nowMs();
  const gentleMs = Math.min(GENTLE_MS_MAX, drainMs / 4);
  for (;;) {
    const passedMs = nowMs() - startedMs;
    if (passedMs >= gentleMs) options.refuseStrangers();
    const parting: Parting = {
      quietMs: passedMs < gentleMs ? QUIET_MS : PAUSE_MS,
      withAnswer: passedMs >= gentleMs,
      stateToo: passedMs >= drainMs / 2,
    };
    for (const session of [...sessions.all()]) session.part(parting, nowMs());
    if (sessions.size + options.strangers() === 0) return 0;
    if (hurried.aborted || nowMs() - startedMs >= drainMs) return sessions.size;
    await Bun.sleep(LOOK_INTERVAL_MS);
  }
}
