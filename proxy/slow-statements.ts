/** One log line per slow statement: which it was, without anything of what its user put into it. */
import { databaseAddress } from "../platform/databases.ts";
import type { Log } from "../platform/log.ts";
import type { LogBudget } from "./log-budget.ts";
import type { Session } from "./session.ts";

/**
 * A statement without its constants, and what all statements have in common that differ in nothing
 * else.
 */
export type Fingerprint = { readonly text: string; readonly hash: string };

export type SlowStatement = {
  readonly session: Session;
  readonly durationMs: number;
  readonly rows: number;
  readonly succeeded: boolean;
  /** Only asked for where the line is written; null where the statement is not known. */
  readonly fingerprint: () => Fingerprint | null;
};

export class SlowStatements {
  readonly #log: Log;
  readonly #budget: LogBudget;
  /** From this on a statement is slow. */
  readonly thresholdMs: number;

  constructor(options: {
    readonly log: Log;
    readonly budget: LogBudget;
    /** 0: none is slow. */
    readonly thresholdMs: number;
  }) {
    this.#log = options.log;
    this.#budget = options.budget;
    this.thresholdMs = options.thresholdMs === 0 ? Number.POSITIVE_INFINITY : options.thresholdMs;
  }

  note({ session, durationMs, rows, succeeded, fingerprint }: SlowStatement): void {
    const { orgId, protocol, route } = session;
    const leftOut = this.#budget.take(orgId);
    if (leftOut === null) return;
    const { text = null, hash = null } = fingerprint() ?? {};
    this.#log.info("slow_query", {
      orgId,
      database: databaseAddress(route.database),
      databaseId: route.database.databaseId,
      protocol,
      durationMs: Math.round(durationMs),
      rows,
      succeeded,
      fingerprint: text,
      hash,
      leftOut: leftOut === 0 ? undefined : leftOut,
    });
  }
}
