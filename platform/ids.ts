/**
 * Identifiers of the domain and the rules that names must follow.
 *
 * An identifier is a prefix and lower-case base32 (RFC 4648 alphabet), so that it is valid as a
 * PostgreSQL role or database name without quoting, and as a host name label.
 */

export type OrgId = string & { readonly __brand: "OrgId" };
export type DatabaseId = string & { readonly __brand: "DatabaseId" };
export type TokenId = string & { readonly __brand: "TokenId" };

const ALPHABET = "abcdefghijklmnopqrstuvwxyz234567";
const RANDOM_CHARS = 16; // 80 random bits

/** Random bytes of a given length; injected where a test needs to replay. */
export type RandomBytes = (length: number) => Uint8Array;

export const cryptoRandomBytes: RandomBytes = (length) =>
  crypto.getRandomValues(new Uint8Array(length));

function randomBase32(random: RandomBytes): string {
  let out = "";
  for (const byte of random(RANDOM_CHARS)) out += ALPHABET.charAt(byte & 31);
  return out;
}

export function newOrgId(random: RandomBytes = cryptoRandomBytes): OrgId {
  return `org_${randomBase32(random)}` as OrgId;
}

export function newDatabaseId(random: RandomBytes = cryptoRandomBytes): DatabaseId {
  return `db_${randomBase32(random)}` as DatabaseId;
}

export function newTokenId(random: RandomBytes = cryptoRandomBytes): TokenId {
  return `tok_${randomBase32(random)}` as TokenId;
}

/**
 * The OrgId that `text` spells, or null. Ids are taken up to 40 characters so that imported orgs
 * keep theirs.
 */
export function parseOrgId(text: string): OrgId | null {
  return /^org_[a-z2-7]{6,40}$/.test(text) ? (text as OrgId) : null;
}

export function parseDatabaseId(text: string): DatabaseId | null {
  return /^db_[a-z2-7]{6,40}$/.test(text) ? (text as DatabaseId) : null;
}

export function parseTokenId(text: string): TokenId | null {
  return /^tok_[a-z2-7]{6,40}$/.test(text) ? (text as TokenId) : null;
}

/** What a database may be called by its org; the sentence is shown to people as it is. */
export const DATABASE_NAME_RULE =
  "A database name starts with a lower-case letter and has at most 40 characters: a-z, 0-9, _ and -.";

export function isDatabaseName(text: string): boolean {
  return /^[a-z][a-z0-9_-]{0,39}$/.test(text);
}

/**
 * What an org may be called; names are for people, need not be unique, and are never part of an
 * address.
 */
export const ORG_NAME_RULE =
  "An org name has 1 to 80 characters, none of them a control character, and no space at either end.";

export function isOrgName(text: string): boolean {
  return text.length >= 1 && text.length <= 80 && !/\p{Cc}/u.test(text) && text.trim() === text;
}
