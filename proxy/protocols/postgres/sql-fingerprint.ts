/**
 * What a statement says apart from its constants: those are data, and may be secrets. Comments are
 * left out for the same reason; names stay.
 */
import { createHash } from "node:crypto";
import type { Fingerprint } from "../../slow-statements.ts";
import { SqlScanner, TOKEN } from "./sql-scanner.ts";

const TEXT_CHARS_MAX = 1_000;
/** Lists of constants differ in length from one statement to the next. */
const LIST = /\?(?:\s*,\s*\?)+/g;
const HASH_CHARS = 16;
/** Of ASCII alone: other letters are several bytes, which are characters here. */
const UPPER_CASE = /[A-Z]+/g;
const toLowerCase = (letters: string): string => letters.toLowerCase();

/** `text` has one character per byte, as it came over the wire; the fingerprint is proper text. */
export function fingerprintOf(text: string): Fingerprint {
  const bare = Buffer.from(withoutConstants(text), "latin1").toString();
  const listed = bare.replace(LIST, "?, ...");
  const hash = createHash("sha256").update(listed).digest("hex").slice(0, HASH_CHARS);
  const cut = listed.length > TEXT_CHARS_MAX ? `${listed.slice(0, TEXT_CHARS_MAX)}...` : listed;
  return { text: cut, hash };
}

function withoutConstants(text: string): string {
  const scanner = new SqlScanner().read(text);
  const parts: string[] = [];
  for (let before = 0; ; before = scanner.end) {
    const kind = scanner.next();
    if (kind === TOKEN.end) return parts.join("");
    if (scanner.start > before && parts.length > 0) parts.push(" ");
    if (kind === TOKEN.word) {
      const word = scanner.token();
      parts.push(word.startsWith('"') ? word : word.replace(UPPER_CASE, toLowerCase));
    } else if (kind === TOKEN.sign) {
      parts.push(scanner.token());
    } else {
      parts.push("?");
      if (kind === TOKEN.string && endIsInDoubt(scanner.token())) return `${parts.join("")} ...`;
    }
  }
}

/**
 * Whether a backslash escapes the quote behind it depends on a setting, where the prefix does not
 * say so.
 */
function endIsInDoubt(constant: string): boolean {
  return constant.includes("\\'") && !/^e/i.test(constant);
}
