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
  /\b(?:listen|set|set_config|temp|temporary|pg_temp|declare|advisory|prepare|load|pg_(?:try_)?advisory_\w+|discard|deallocate|reset|unlisten|do|call)\b/i;

const MAKES: readonly (readonly [RegExp, HeldState])[] = [
  [/\blisten\b/i, "LISTEN"],
  [/\b(?:temp|temporary)\b|\bpg_temp\b/i, "temporary tables"],
  [/\bdeclare\b[\s\S]*\bwith\s+hold\b/i, "a cursor WITH HOLD"],
  [/\bpg_(?:try_)?advisory_(?!xact|unlock)\w*/i, "advisory locks"],
  [/\bprepare\b(?!\s+transaction)/i, "prepared statements"],
  // SET LOCAL and the SET of UPDATE are not told apart from it where several statements share a message.
  [
    /(?:^|;)\s*(?:set\s+(?!local\b|transaction\b|constraints\b)|reset\b|load\b)/i,
    "session settings",
  ],
  [/\bset_config\s*\(/i, "session settings"],
];

/** The state that running `text` may make, or null. Comments may hide a SET from it; its command tag does not. */
export function stateMadeBy(text: string): HeldState | null {
  if (!SUSPICIOUS.test(text)) return null;
  for (const [pattern, state] of MAKES) if (pattern.test(text)) return state;
  return null;
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
