/** Command tags of CommandComplete, read in place. */

const ZERO = 48;
const NINE = 57;

/**
 * The number of rows in a tag (`SELECT 5`, `INSERT 0 5`), or 0 where it has none. `end` is the
 * offset of the zero byte.
 */
export function tagRows(bytes: Uint8Array, start: number, end: number): number {
  let rows = 0;
  let scale = 1;
  let at = end - 1;
  for (; at >= start; at--) {
    const byte = bytes[at] as number;
    if (byte < ZERO || byte > NINE) break;
    rows += (byte - ZERO) * scale;
    scale *= 10;
  }
  return rows;
}

/** The tag without its numbers. */
export function tagName(bytes: Uint8Array, start: number, end: number): string {
  let text = "";
  for (let at = start; at < end; at++) text += String.fromCharCode(bytes[at] as number);
  return text.replace(/( \d+)+$/, "");
}
