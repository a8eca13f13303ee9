/**
 * The state that a session keeps on its server beyond the protocol's own: what would be lost if the
 * session went on over another connection. It is supposed by a scan of the query text and by the
 * server's command tags, erring towards "there is some", and once the session rests the server is
 * asked what there really is.
 */
import { callsUnknownFunction } from "./known-functions.ts";
import { message } from "./messages.ts";

/** Why a session is bound to its connection, in words for people. */
export type HeldState =
  | "LISTEN"
  | "session settings"
  | "temporary tables"
  | "a cursor WITH HOLD"
  | "advisory locks"
  | "prepared statements"
  | "settings of its own making"
  | "a loaded library"
  | "a statement too long to look into"
  | "a function call";

/**
 * One pass finds the words that can make state; only where one stands is the text looked at again.
 */
const SUSPICIOUS =
  /\b(?:listen|temp|temporary|pg_temp|declare|advisory|prepare|load|set_config)\b|advisory_lock|\bset\s+(?:session\s+)?"?\w+"?\s*\.|(?:^|;|\*\/)\s*(?:do|call)\b/i;

/** Where statements stand by themselves. */
const PLAIN: readonly (readonly [RegExp, HeldState])[] = [
  [/(?:^|;)\s*listen\b/i, "LISTEN"],
  [
    /\b(?:create|into)\s+(?:(?:or\s+replace|local|global)\s+)*temp(?:orary)?\b/i,
    "temporary tables",
  ],
  [/\bpg_temp\b/i, "temporary tables"],
  // Not tied to the DECLARE before it: looking on from each would take quadratic time.
  [/\bwith\s+hold\b/i, "a cursor WITH HOLD"],
  [/\bpg_(?:try_)?advisory_lock/i, "advisory locks"],
  [/(?:^|;)\s*prepare\b(?!\s+transaction)/i, "prepared statements"],
  [/(?:^|;)\s*load\b/i, "a loaded library"],
  [/(?:^|;)\s*set\s+(?:session\s+)?"?\w+"?\s*\./i, "settings of its own making"],
];

/** Where comments may part words, or statements stand inside others (DO, CALL, functions). */
const LOOSE: readonly (readonly [RegExp, HeldState])[] = [
  [/\blisten\b/i, "LISTEN"],
  [/\b(?:temp|temporary|pg_temp)\b/i, "temporary tables"],
  [/\bhold\b/i, "a cursor WITH HOLD"],
  [/advisory_lock/i, "advisory locks"],
  [/\bprepare\b/i, "prepared statements"],
  [/\bload\b/i, "a loaded library"],
  [/\bset\s+(?:session\s+)?"?\w+"?\s*\./i, "settings of its own making"],
  // A SET inside DO has no command tag to tell it. It is told from the SET of UPDATE by what stands
  // before it.
  [/(?:\bbegin|\bthen|\belse|\bloop|[;$'])\s*(?:re)?set\s+(?!local\b)/i, "session settings"],
];

const NESTING = /\/\*|--|(?:^|;|\*\/)\s*(?:do|call)\b/i;
const SET_CONFIG = /\bset_config\s*\(/gi;
/** The third argument says that the setting ends with the transaction. */
const SET_CONFIG_LOCAL = /\bset_config\s*\([^()]*,\s*true\s*\)/gi;

/**
 * The state that running `text` may make, or null. A plain SET is not looked for here: its command
 * tag tells it, wherever it stands.
 */
export function stateMadeBy(text: string): HeldState | null {
  if (!SUSPICIOUS.test(text)) return callsUnknownFunction(text) ? "a function call" : null;
  for (const [pattern, state] of NESTING.test(text) ? LOOSE : PLAIN) {
    if (pattern.test(text)) return state;
  }
  const settings = text.match(SET_CONFIG)?.length ?? 0;
  const local = text.match(SET_CONFIG_LOCAL)?.length ?? 0;
  if (settings > local) return "settings of its own making";
  return callsUnknownFunction(text) ? "a function call" : null;
}

/** The state that a finished command has made, by its tag. */
export function stateMadeByTag(tag: string): HeldState | null {
  switch (tag) {
    case "LISTEN":
      return "LISTEN";
    case "SET":
    case "RESET":
      return "session settings";
    case "LOAD":
      return "a loaded library";
    case "PREPARE":
      return "prepared statements";
    default:
      return null;
  }
}

/** What the server can be asked about, by the letter with which `askForState` answers. */
const ANSWERS: readonly (readonly [string, HeldState])[] = [
  ["l", "LISTEN"],
  ["t", "temporary tables"],
  ["c", "a cursor WITH HOLD"],
  ["a", "advisory locks"],
  ["p", "prepared statements"],
  ["s", "session settings"],
];

/**
 * Asks the server what a session holds there: one row, one text column, a letter for each kind.
 * Every name is qualified, operators too, so that nothing in the tenant's search path answers in
 * their place.
 */
export const askForState = message(
  "Q",
  `SELECT pg_catalog.concat(
    CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_listening_channels()) THEN 'l' END,
    CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_class
      WHERE relnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema())
      OR EXISTS (SELECT FROM pg_catalog.pg_proc
      WHERE pronamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema())
      OR EXISTS (SELECT FROM pg_catalog.pg_type
      WHERE typnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()) THEN 't' END,
    CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_cursors WHERE is_holdable) THEN 'c' END,
    CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_locks
      WHERE locktype OPERATOR(pg_catalog.=) 'advisory'
      AND pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()) THEN 'a' END,
    CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_prepared_statements WHERE from_sql) THEN 'p' END,
    CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_settings
      WHERE source OPERATOR(pg_catalog.=) 'session') THEN 's' END)`,
);

/** The state that a session holds, as far as is known. */
export class HeldStates {
  readonly #states = new Set<HeldState>();
  /** One of them, or null: what the hot path looks at. */
  first: HeldState | null = null;
  /** Something has run since the server was last asked. */
  #unverified = false;

  add(state: HeldState | null): void {
    if (state === null) return;
    this.#states.add(state);
    this.first ??= state;
    this.#unverified = true;
  }

  has(state: HeldState): boolean {
    return this.#states.has(state);
  }

  /** A session that holds something has run another statement, which may have let it go. */
  touched(): void {
    this.#unverified = true;
  }

  clear(): void {
    this.#states.clear();
    this.first = null;
  }

  /** Whether asking the server can tell anything new: of some things it knows nothing. */
  get worthAsking(): boolean {
    if (!this.#unverified || this.first === null) return false;
    return (
      this.#states.has("a function call") || ANSWERS.some(([, state]) => this.#states.has(state))
    );
  }

  /** The server has been asked, and has answered with `letters`. */
  verified(letters: string): void {
    this.#unverified = false;
    this.#states.delete("a function call"); // It has made what is found now, or nothing.
    for (const [letter, state] of ANSWERS) {
      if (letters.includes(letter)) this.#states.add(state);
      else this.#states.delete(state);
    }
    this.first = [...this.#states][0] ?? null;
  }

  asked(): void {
    this.#unverified = false;
  }
}

/** Whether a command leaves the session as a new one. */
export function clearsState(tag: string): boolean {
  return tag === "DISCARD ALL";
}
