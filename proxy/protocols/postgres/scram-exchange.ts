/**
 * The messages of a SCRAM-SHA-256 exchange (RFC 5802 section 7), both sides, as text. What they
 * prove is decided in `platform/scram.ts`.
 */
import { randomBytes } from "node:crypto";
import type { ScramParameters } from "../../../platform/scram.ts";

export type ClientFirst = {
  readonly channelBinding: "none" | "not-offered" | "tls-server-end-point";
  readonly gs2Header: string;
  readonly bare: string;
  readonly nonce: string;
};

/**
 * `n,,n=user,r=nonce`; the user name in it is not used, as in PostgreSQL. Null where it is
 * malformed.
 */
export function parseClientFirst(text: string): ClientFirst | null {
  const match =
    /^((n|y|p=tls-server-end-point),(?:a=[^,]*)?,)(n=[^,]*,r=([!-+\--~]{8,256})(?:,.*)?)$/s.exec(
      text,
    );
  if (match === null) return null;
  const [, gs2Header = "", flag, bare = "", nonce = ""] = match;
  const channelBinding =
    flag === "n" ? "none" : flag === "y" ? "not-offered" : "tls-server-end-point";
  return { channelBinding, gs2Header, bare, nonce };
}

export type ClientFinal = {
  readonly channelBinding: Uint8Array;
  readonly nonce: string;
  readonly proof: Uint8Array;
  readonly withoutProof: string;
};

/** `c=…,r=nonce,p=proof`. Null where it is malformed. */
export function parseClientFinal(text: string): ClientFinal | null {
  const match = /^(c=([A-Za-z0-9+/=]+),r=([!-+\--~]{8,600})),p=([A-Za-z0-9+/=]{44})$/.exec(text);
  if (match === null) return null;
  const [, withoutProof = "", binding = "", nonce = "", proof = ""] = match;
  return {
    channelBinding: Buffer.from(binding, "base64"),
    nonce,
    proof: Buffer.from(proof, "base64"),
    withoutProof,
  };
}

export function newNonce(): string {
  return randomBytes(18).toString("base64");
}

/** The server's first message, with its own nonce appended to the client's. */
export function serverFirst(nonce: string, parameters: ScramParameters): string {
  const salt = Buffer.from(parameters.salt).toString("base64");
  return `r=${nonce},s=${salt},i=${parameters.iterations}`;
}

export type ServerFirst = ScramParameters & { readonly nonce: string };

/** Iterations above the bound would let a server keep this process busy. */
const ITERATIONS_MAX = 1_000_000;

export function parseServerFirst(text: string, clientNonce: string): ServerFirst | null {
  const match = /^r=([!-+\--~]+),s=([A-Za-z0-9+/=]+),i=(\d{1,9})$/.exec(text);
  if (match === null) return null;
  const [, nonce = "", salt = "", iterations = ""] = match;
  const rounds = Number(iterations);
  if (!nonce.startsWith(clientNonce) || nonce.length === clientNonce.length) return null;
  if (rounds < 1 || rounds > ITERATIONS_MAX) return null;
  return { nonce, salt: Buffer.from(salt, "base64"), iterations: rounds };
}
