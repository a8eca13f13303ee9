/**
 * What the planner expects statements to cost, asked once for each fingerprint and remembered for a
 * while. Whoever sends a statement that is known waits for nothing.
 *
 * A statement that is over the bound makes its fingerprint one whose constants matter: from then on
 * each text is asked about by itself, so that a cheap one is not refused for an expensive one, nor
 * an expensive one let through for a cheap one.
 */
import { BoundedMap } from "../../bounded-map.ts";
import { exactKey, statementKey } from "./statement-key.ts";

/**
 * Raised by every command that can change what plans cost: shared by all who ask about one
 * database.
 */
export type SchemaChanges = { count: number };

/** Asks for the planner's total cost, or null where it cannot tell. */
export type AskForCost = () => Promise<number | null>;

type Known = { readonly cost: number | null; readonly atMs: number; readonly changes: number };

/** Entries per pool; each takes about a hundred bytes. */
const STATEMENTS_MAX = 2_000;
/** Tables grow and are analysed without a word. */
const COST_TTL_MS = 600_000;
/**
 * What was refused may have become cheap by an index or by statistics that somebody else has made.
 */
const REFUSAL_TTL_MS = 60_000;
/** What could not be planned may have been made in a transaction that has committed since. */
const FAILURE_TTL_MS = 10_000;
/** So many are asked about at one time; others run without having been. */
const ASKING_MAX = 16;

/** Statements that have a plan. Others are not asked about. */
const PLANNED = /^(?:\s|--[^\n]*\n|\/\*[^*]*\*\/|\()*(?:select|insert|update|delete|merge|with)\b/i;

export class QueryCosts {
  readonly #schema: SchemaChanges;
  readonly #known = new BoundedMap<number, Known>(STATEMENTS_MAX);
  /** Fingerprints whose constants matter. */
  readonly #varying = new BoundedMap<number, true>(STATEMENTS_MAX);
  readonly #asking = new Map<number, Promise<void>>();

  constructor(schema: SchemaChanges) {
    this.#schema = schema;
  }

  /**
   * What `text` costs where that is over `costMax`, null where it may run, or `unknown` until
   * `learn` has been called.
   */
  judge(text: string, costMax: number, nowMs: number): number | "unknown" | null {
    if (!PLANNED.test(text)) return null;
    const known = this.#known.get(this.#keyOf(text));
    if (known === undefined || known.changes !== this.#schema.count) return this.#canAsk();
    const over = known.cost !== null && known.cost > costMax;
    const ttlMs = over ? REFUSAL_TTL_MS : known.cost === null ? FAILURE_TTL_MS : COST_TTL_MS;
    if (nowMs - known.atMs > ttlMs) return this.#canAsk();
    return over ? known.cost : null;
  }

  /**
   * Resolves when `judge` knows `text`, whatever came of it; those who ask at once share one
   * answer. Never rejects.
   */
  learn(text: string, costMax: number, nowMs: number, ask: AskForCost): Promise<void> {
    const asked = this.#keyOf(text);
    const pending = this.#asking.get(asked);
    if (pending !== undefined) return pending;
    const { count: changes } = this.#schema;
    const asking = ask()
      .catch(() => null)
      .then((cost) => {
        this.#asking.delete(asked);
        if (cost !== null && cost > costMax) this.#varying.set(statementKey(text), true);
        this.#known.set(this.#keyOf(text), { cost, atMs: nowMs, changes });
      });
    this.#asking.set(asked, asking);
    return asking;
  }

  #canAsk(): "unknown" | null {
    return this.#asking.size < ASKING_MAX ? "unknown" : null;
  }

  #keyOf(text: string): number {
    const fingerprint = statementKey(text);
    return this.#varying.get(fingerprint) === true ? exactKey(text) : fingerprint;
  }
}

/** Whether a command with this tag may change what statements cost, or what their names mean. */
export function changesPlans(tag: string): boolean {
  return /^(?:CREATE|ALTER|DROP|ANALYZE|VACUUM|REINDEX|CLUSTER|TRUNCATE|REFRESH|DO|CALL)\b/.test(
    tag,
  );
}
