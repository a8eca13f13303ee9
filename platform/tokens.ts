/**
 * Tokens: the secrets by which an org is known. A token is shown once; what is kept of it is a
 * SCRAM verifier and a SHA-256, neither of which can be turned back into it.
 */
import { createHash } from "node:crypto";
import { cryptoRandomBytes, type RandomBytes } from "./ids.ts";

const BASE62 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const SECRET_CHARS = 43; // 43 · log2(62) = 256.03 bits

/**
 * `ogel_` and 43 characters of base62: more than 256 random bits, free of characters that a URL
 * would escape.
 */
export function newTokenSecret(random: RandomBytes = cryptoRandomBytes): string {
  let out = "ogel_";
  while (out.length < 5 + SECRET_CHARS) {
    for (const byte of random(SECRET_CHARS)) {
      // Bytes from 248 on would favour the first characters of the alphabet; they are thrown away.
      if (byte < 248 && out.length < 5 + SECRET_CHARS) out += BASE62.charAt(byte % 62);
    }
  }
  return out;
}

/** SHA-256 of a token, for protocols that carry it in clear. */
export function tokenSha256(secret: string): Uint8Array {
  return createHash("sha256").update(secret).digest();
}

/**
 * What people are shown to tell tokens apart: the first characters of the secret, too few to help a
 * guesser.
 */
export function tokenPrefix(secret: string): string {
  return secret.slice(0, 10);
}
