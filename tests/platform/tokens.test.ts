import { expect, test } from "bun:test";
import { newTokenSecret, tokenPrefix, tokenSha256 } from "../../platform/tokens.ts";

test("a token has more than 256 random bits and needs no escaping in a URL", () => {
  const secrets = new Set(Array.from({ length: 200 }, () => newTokenSecret()));
  expect(secrets.size).toBe(200);
  for (const secret of secrets) {
    expect(secret).toMatch(/^ogel_[A-Za-z0-9]{43}$/);
    expect(encodeURIComponent(secret)).toBe(secret);
  }
});

test("bytes that would favour some characters are thrown away", () => {
  let calls = 0;
  const source = (length: number) => new Uint8Array(length).fill(calls++ === 0 ? 255 : 61);
  expect(newTokenSecret(source)).toBe(`ogel_${"9".repeat(43)}`);
  expect(calls).toBe(2);
});

test("what people are shown of a token leaves far too much to guess", () => {
  const secret = newTokenSecret();
  expect(tokenPrefix(secret)).toBe(secret.slice(0, 10));
});

test("the digest is SHA-256", () => {
  expect(Buffer.from(tokenSha256("abc")).toString("hex")).toBe(
    "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
  );
});
