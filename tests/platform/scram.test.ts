import { expect, test } from "bun:test";
import {
  clientProof,
  deriveKeys,
  formatVerifier,
  parseVerifier,
  saltPassword,
  serverSignature,
  verifyProof,
} from "../../platform/scram.ts";

/** The example of RFC 7677, section 3. */
const PASSWORD = "pencil";
const PARAMETERS = {
  salt: Buffer.from("W22ZaJ0SNY7soEsUEjb6gQ==", "base64"),
  iterations: 4_096,
} as const;
const SERVER_FIRST =
  "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0," + "s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
const AUTH_MESSAGE =
  `n=user,r=rOprNGfwEbeRWgbNEkqO,${SERVER_FIRST},` +
  "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
const PROOF = "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
const SIGNATURE = "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

test("the client's side gives the proof and the signature of RFC 7677", () => {
  const salted = saltPassword(PASSWORD, PARAMETERS);
  expect(clientProof(salted, AUTH_MESSAGE)).toEqual({ proof: PROOF, serverSignature: SIGNATURE });
});

test("the server's side takes that proof, and answers with that signature", () => {
  const keys = deriveKeys(PASSWORD, PARAMETERS);
  expect(verifyProof(keys, AUTH_MESSAGE, Buffer.from(PROOF, "base64"))).toBe(true);
  expect(serverSignature(keys, AUTH_MESSAGE)).toBe(SIGNATURE);
});

test("a proof with any bit changed, of another length, or for another exchange is refused", () => {
  const keys = deriveKeys(PASSWORD, PARAMETERS);
  const proof = Buffer.from(PROOF, "base64");
  for (let bit = 0; bit < 256; bit++) {
    const changed = Buffer.from(proof);
    changed.writeUInt8(changed.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
    expect(verifyProof(keys, AUTH_MESSAGE, changed)).toBe(false);
  }
  expect(verifyProof(keys, AUTH_MESSAGE, proof.subarray(1))).toBe(false);
  expect(verifyProof(keys, AUTH_MESSAGE, new Uint8Array(0))).toBe(false);
  expect(verifyProof(keys, `${AUTH_MESSAGE}x`, proof)).toBe(false);
});

test("a verifier is written as PostgreSQL writes it, and read back", () => {
  const verifier = { ...PARAMETERS, ...deriveKeys(PASSWORD, PARAMETERS) };
  const text = formatVerifier(verifier);
  expect(text).toMatch(/^SCRAM-SHA-256\$4096:W22ZaJ0SNY7soEsUEjb6gQ==\$[^:]{44}:[^:]{44}$/);
  const read = parseVerifier(text);
  expect(read === null ? null : formatVerifier(read)).toBe(text);
});

test.each(["", "md5abc", "SCRAM-SHA-256$x:AA==$AA==:AA==", "SCRAM-SHA-256$4096:AA==$AA=="])(
  "%j is no verifier",
  (text) => {
    expect(parseVerifier(text)).toBeNull();
  },
);
