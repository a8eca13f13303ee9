/**
 * The state that a session keeps on its server beyond the protocol's own: what would be lost if the session went on
 * over another connection. Found by a scan of the query text and by the server's command tags, erring towards "there is
 * some": a session that holds state it does not have is only less frugal.
 */

/** Why a session is bound to its connection, in words for people. */
export type HeldState =
  | "LISTEN"
  | "session settings"
  | "temporary tables"
  | "a cursor WITH HOLD"
  | "advisory locks"
  | "prepared statements"
  | "a statement too long to look into"
  | "a function call";

/** One pass finds the words that can make state; only where one stands is the text looked at again. */
const SUSPICIOUS =
  /\b(?:listen|temp|temporary|pg_temp|declare|advisory|prepare|load|set_config)\b|advisory_lock/i;

/** Where statements stand by themselves. */
const PLAIN: readonly (readonly [RegExp, HeldState])[] = [
  [/(?:^|;)\s*listen\b/i, "LISTEN"],
  [
    /\b(?:create|into)\s+(?:(?:or\s+replace|local|global)\s+)*temp(?:orary)?\b/i,
    "temporary tables",
  ],
  [/\bpg_temp\b/i, "temporary tables"],
  [/\bdeclare\b[\s\S]*\bwith\s+hold\b/i, "a cursor WITH HOLD"],
  [/\bpg_(?:try_)?advisory_lock/i, "advisory locks"],
  [/(?:^|;)\s*prepare\b(?!\s+transaction)/i, "prepared statements"],
  [/(?:^|;)\s*load\b/i, "session settings"],
];

/** Where comments may part words, or statements stand inside others (DO, CALL, functions). */
const LOOSE: readonly (readonly [RegExp, HeldState])[] = [
  [/\blisten\b/i, "LISTEN"],
  [/\b(?:temp|temporary|pg_temp)\b/i, "temporary tables"],
  [/\bhold\b/i, "a cursor WITH HOLD"],
  [/advisory_lock/i, "advisory locks"],
  [/\bprepare\b/i, "prepared statements"],
  [/\bload\b/i, "session settings"],
];

const NESTING = /\/\*|--|(?:^|;)\s*(?:do|call)\b/i;
const SET_CONFIG = /\bset_config\s*\(/gi;
/** The third argument says that the setting ends with the transaction. */
const SET_CONFIG_LOCAL = /\bset_config\s*\([^()]*,\s*true\s*\)/gi;

/**
 * The state that running `text` may make, or null. A plain SET is not looked for here: its command tag tells it, wherever
 * it stands.
 */
export function stateMadeBy(text: string): HeldState | null {
  if (!SUSPICIOUS.test(text)) return null;
  for (const [pattern, state] of NESTING.test(text) ? LOOSE : PLAIN) {
    if (pattern.test(text)) return state;
  }
  const settings = text.match(SET_CONFIG)?.length ?? 0;
  const local = text.match(SET_CONFIG_LOCAL)?.length ?? 0;
  return settings > local ? "session settings" : null;
}

/** The state that a finished command has made, by its tag. */
export function stateMadeByTag(tag: string): HeldState | null {
  switch (tag) {
    case "LISTEN":
      return "LISTEN";
    case "SET":
    case "RESET":
    case "LOAD":
      return "session settings";
    case "PREPARE":
      return "prepared statements";
    default:
      return null;
  }
}

/** Whether a command leaves the session as a new one. */
export function clearsState(tag: string): boolean {
  return tag === "DISCARD ALL";
}
