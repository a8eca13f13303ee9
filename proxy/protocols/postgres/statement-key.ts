/**
 * Keys of statements: one number for all that differ only in their constants, white space, comments
 * and the case of their words. A list of constants counts as one, however long it is.
 * `sql-fingerprint.ts` makes text of the same, for people.
 */
import { SqlScanner, TOKEN } from "./sql-scanner.ts";

/** Two hashes in the manner of FNV-1a, 32 bits each, make the 53 bits that a number can hold. */
const FNV_PRIME = 0x0100_0193;
const HIGH_PRIME = 0x85eb_ca6b;
const SEED_LOW = 0x811c_9dc5;
const SEED_HIGH = 0x9e37_79b9;
const HIGH_BITS = 21;

/** Stand for every constant, and for the end of a token: characters that are in no word or sign. */
const CONSTANT = 1;
const SEPARATOR = 2;
const COMMA = 0x2c;
const CASE_BIT = 0x20;

const scanner = new SqlScanner();

/**
 * The same number for the same statement but for its constants; that of another one with a chance
 * of 1 in 2^53.
 */
export function statementKey(text: string): number {
  let low = SEED_LOW;
  let high = SEED_HIGH;
  let afterConstant = false;
  let commaPending = false;
  scanner.read(text);
  for (let kind = scanner.next(); kind !== TOKEN.end; kind = scanner.next()) {
    const constant = kind === TOKEN.string || kind === TOKEN.number;
    if (constant && afterConstant && commaPending) {
      commaPending = false;
      continue;
    }
    if (commaPending) {
      low = Math.imul(low ^ COMMA, FNV_PRIME);
      high = Math.imul(high ^ COMMA, HIGH_PRIME);
    }
    const { start, end } = scanner;
    commaPending = afterConstant && text.charCodeAt(start) === COMMA;
    if (commaPending) continue;
    afterConstant = constant;
    // A constant is one character, which no token of SQL begins with.
    let code: number = CONSTANT;
    for (let at = start; at < end; at++) {
      if (!constant) code = text.charCodeAt(at);
      // Letters are hashed without their case; the words of two statements hardly differ by nothing
      // else.
      if (kind === TOKEN.word) code |= CASE_BIT;
      low = Math.imul(low ^ code, FNV_PRIME);
      high = Math.imul(high ^ code, HIGH_PRIME);
      if (constant) break;
    }
    low = Math.imul(low, FNV_PRIME);
    high = Math.imul(high ^ SEPARATOR, HIGH_PRIME);
  }
  scanner.read(""); // The text is not to be kept alive.
  return combined(low, high);
}

/** The same for the whole text as it stands. */
export function exactKey(text: string): number {
  let low = SEED_LOW;
  let high = SEED_HIGH;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    low = Math.imul(low ^ code, FNV_PRIME);
    high = Math.imul(high ^ code, HIGH_PRIME);
  }
  return combined(low, high);
}

function combined(low: number, high: number): number {
  return (low >>> 0) + (high >>> (32 - HIGH_BITS)) * 2 ** 32;
}
