/**
 * How many lines a source may log: none may drown the others' lines or fill a disk, whatever it
 * does. What is left out is counted and told with the next line that is not.
 */
import { BoundedMap } from "./bounded-map.ts";

export type LogBudgetOptions = {
  /** Monotonic. */
  readonly nowMs: () => number;
  /** Lines of one source: so many at once, and so many a second in the long run. */
  readonly burst: number;
  readonly perSecond: number;
  /** All sources together, where their number is not bounded by anything else. */
  readonly totalPerSecond?: number;
};

type Allowance = { lines: number; sinceMs: number; leftOut: number };

/** Beyond so many sources the one that was seen first begins anew. */
const SOURCES_MAX = 10_000;

export class LogBudget {
  readonly #options: LogBudgetOptions;
  readonly #sources = new BoundedMap<string, Allowance>(SOURCES_MAX);
  readonly #total: Allowance | null;
  /** Lines left out since the start. */
  leftOut = 0;

  constructor(options: LogBudgetOptions) {
    this.#options = options;
    const { totalPerSecond, nowMs } = options;
    this.#total =
      totalPerSecond === undefined ? null : { lines: totalPerSecond, sinceMs: nowMs(), leftOut: 0 };
  }

  /**
   * How many lines of the source have been left out since its last one, or null where this one is
   * to be left out too.
   */
  take(source: string): number | null {
    const { nowMs, burst, perSecond, totalPerSecond } = this.#options;
    const now = nowMs();
    let allowance = this.#sources.get(source);
    if (allowance === undefined) {
      allowance = { lines: burst, sinceMs: now, leftOut: 0 };
      this.#sources.set(source, allowance);
    }
    refill(allowance, now, burst, perSecond);
    const total = this.#total;
    if (total !== null && totalPerSecond !== undefined) {
      refill(total, now, totalPerSecond, totalPerSecond);
    }
    if (allowance.lines < 1 || (total !== null && total.lines < 1)) {
      allowance.leftOut += 1;
      this.leftOut += 1;
      return null;
    }
    allowance.lines -= 1;
    if (total !== null) total.lines -= 1;
    const { leftOut } = allowance;
    allowance.leftOut = 0;
    return leftOut;
  }
}

function refill(allowance: Allowance, nowMs: number, most: number, perSecond: number): void {
  const earned = ((nowMs - allowance.sinceMs) * perSecond) / 1_000;
  allowance.lines = Math.min(most, allowance.lines + earned);
  allowance.sinceMs = nowMs;
}

/** The budgets of all that tenants and strangers can make the proxy log. */
export type LogBudgets = {
  /** Denials of sessions, by org. */
  readonly sessions: LogBudget;
  /** Denials of logins, by address: the names in them are anybody's invention. */
  readonly logins: LogBudget;
  /** Slow statements, by org. */
  readonly statements: LogBudget;
};

export function createLogBudgets(nowMs: () => number): LogBudgets {
  const perSource = { nowMs, burst: 20, perSecond: 1 };
  return {
    sessions: new LogBudget(perSource),
    logins: new LogBudget({ ...perSource, totalPerSecond: 100 }),
    statements: new LogBudget(perSource),
  };
}
