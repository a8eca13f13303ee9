/**
 * Refusals that the server itself gives, at O7s's word. A statement that must not run is replaced
 * by one that raises the denial: so it comes in its place among the server's replies, and an open
 * transaction is aborted as by any other error. An error of O7s's own would say that it was, while
 * the server goes on with it.
 */
import type { Denial } from "../../denial.ts";
import { sqlState } from "./errors.ts";
import { message } from "./messages.ts";

/** In place of a Query. */
export function refusingQuery(denial: Denial): Uint8Array {
  return message("Q", raising(denial));
}

/**
 * In place of a Parse: Parse, Bind and Execute of a statement without a name. The server answers
 * ParseComplete, BindComplete, and the error, after which it skips what the client has sent up to
 * its Sync.
 */
export function refusingBatch(denial: Denial): Uint8Array {
  return Buffer.concat([
    message("P", "", raising(denial), Uint8Array.of(0, 0)),
    message("B", "", "", Uint8Array.of(0, 0, 0, 0, 0, 0)),
    message("E", "", 0),
  ]);
}

function raising(denial: Denial): string {
  const { message: text, hint } = denial;
  const hinting = hint === null ? "" : `, HINT = ${constant(hint)}`;
  return (
    `DO LANGUAGE plpgsql $o7s$ BEGIN RAISE EXCEPTION USING ERRCODE = '${sqlState(denial)}', ` +
    `MESSAGE = ${constant(text)}${hinting}; END $o7s$`
  );
}

/**
 * What a client has written may be in there: nothing of it gets out of the constant, in any
 * encoding or setting.
 */
function constant(text: string): string {
  return `'${text.replace(/[^\x20-\x7e]|[\\$]/g, "?").replaceAll("'", "''")}'`;
}
