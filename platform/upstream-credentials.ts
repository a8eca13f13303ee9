/**
 * The passwords by which O7s logs in to the databases behind it. They are derived from the master
 * key, never stored: whoever holds the key can compute them, and raising the generation changes
 * them.
 */
import { createHash, createHmac } from "node:crypto";
import { deriveKeys, formatVerifier, SCRAM_ITERATIONS } from "./scram.ts";

export type MasterKey = Uint8Array & { readonly __brand: "MasterKey" };

/** A master key is 32 bytes, written as 64 hexadecimal digits. */
export function parseMasterKey(text: string): MasterKey | null {
  return /^[0-9a-fA-F]{64}$/.test(text)
    ? (Buffer.from(text, "hex") as Uint8Array as MasterKey)
    : null;
}

export function upstreamPassword(key: MasterKey, role: string, generation: number): string {
  return createHmac("sha256", key).update(`upstream\0${role}\0${generation}`).digest("base64url");
}

/**
 * The verifier to give to `ALTER ROLE … PASSWORD`, so that the password itself never reaches a
 * server's log. Its salt is derived too: setting it again changes nothing, and a connected client
 * may cache its salted password.
 */
export function upstreamVerifier(key: MasterKey, role: string, generation: number): string {
  const salt = createHash("sha256")
    .update(createHmac("sha256", key).update(`salt\0${role}\0${generation}`).digest())
    .digest()
    .subarray(0, 16);
  const parameters = { salt, iterations: SCRAM_ITERATIONS };
  const keys = deriveKeys(upstreamPassword(key, role, generation), parameters);
  return formatVerifier({ ...parameters, ...keys });
}
