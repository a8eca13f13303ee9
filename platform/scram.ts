/**
 * SCRAM-SHA-256 (RFC 5802, RFC 7677): verifiers, and the two sides of the exchange as pure
 * functions. Used with clients (O7s is the server) and with upstreams (O7s is the client).
 */
import { createHash, createHmac, pbkdf2Sync, timingSafeEqual } from "node:crypto";

/** High-entropy secrets do not gain from more rounds; this is PostgreSQL's own default. */
export const SCRAM_ITERATIONS = 4_096;

export type ScramParameters = { readonly salt: Uint8Array; readonly iterations: number };

export type ScramKeys = { readonly storedKey: Uint8Array; readonly serverKey: Uint8Array };

export type ScramVerifier = ScramParameters & ScramKeys;

const hmac = (key: Uint8Array, text: string): Buffer =>
  createHmac("sha256", key).update(text).digest();
const sha256 = (data: Uint8Array): Buffer => createHash("sha256").update(data).digest();

/**
 * PBKDF2 of a password: the slow step, whose result a client may cache per (password, salt,
 * iterations).
 */
export function saltPassword(password: string, parameters: ScramParameters): Uint8Array {
  const normalized = password.normalize("NFKC");
  return pbkdf2Sync(normalized, parameters.salt, parameters.iterations, 32, "sha256");
}

export function deriveKeys(password: string, parameters: ScramParameters): ScramKeys {
  const salted = saltPassword(password, parameters);
  return { storedKey: sha256(hmac(salted, "Client Key")), serverKey: hmac(salted, "Server Key") };
}

/**
 * The text form that PostgreSQL keeps in `pg_authid.rolpassword` and takes in `ALTER ROLE …
 * PASSWORD`.
 */
export function formatVerifier(verifier: ScramVerifier): string {
  const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString("base64");
  return `SCRAM-SHA-256$${verifier.iterations}:${base64(verifier.salt)}$${base64(verifier.storedKey)}:${base64(verifier.serverKey)}`;
}

export function parseVerifier(text: string): ScramVerifier | null {
  const match =
    /^SCRAM-SHA-256\$(\d{1,9}):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):([A-Za-z0-9+/=]+)$/.exec(text);
  if (match === null) return null;
  const [, iterations = "", salt = "", storedKey = "", serverKey = ""] = match;
  return {
    iterations: Number(iterations),
    salt: Buffer.from(salt, "base64"),
    storedKey: Buffer.from(storedKey, "base64"),
    serverKey: Buffer.from(serverKey, "base64"),
  };
}

/**
 * Whether `proof` was made with the secret behind `keys`: ClientKey = Proof XOR HMAC(StoredKey,
 * AuthMessage), and H(ClientKey) must be StoredKey. The comparison takes the same time whatever the
 * answer.
 */
export function verifyProof(keys: ScramKeys, authMessage: string, proof: Uint8Array): boolean {
  if (proof.length !== 32) return false;
  const clientKey = hmac(keys.storedKey, authMessage);
  for (let i = 0; i < clientKey.length; i++) {
    clientKey[i] = (clientKey[i] as number) ^ (proof[i] as number);
  }
  return timingSafeEqual(sha256(clientKey), keys.storedKey);
}

/** The server's proof to the client, `v=` of the server-final-message, in base64. */
export function serverSignature(keys: ScramKeys, authMessage: string): string {
  return hmac(keys.serverKey, authMessage).toString("base64");
}

/** The client's side: its proof, and the server signature it must then see. Both base64. */
export function clientProof(
  saltedPassword: Uint8Array,
  authMessage: string,
): { readonly proof: string; readonly serverSignature: string } {
  const clientKey = hmac(saltedPassword, "Client Key");
  const signature = hmac(sha256(clientKey), authMessage);
  for (let i = 0; i < clientKey.length; i++) {
    clientKey[i] = (clientKey[i] as number) ^ (signature[i] as number);
  }
  return {
    proof: clientKey.toString("base64"),
    serverSignature: hmac(hmac(saltedPassword, "Server Key"), authMessage).toString("base64"),
  };
}
