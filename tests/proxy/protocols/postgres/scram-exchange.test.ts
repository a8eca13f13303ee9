import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  clientProof,
  deriveKeys,
  formatVerifier,
  parseVerifier,
  saltPassword,
  serverSignature,
  verifyProof,
} from "../../../../platform/scram.ts";
import {
  newNonce,
  parseClientFinal,
  parseClientFirst,
  parseServerFirst,
  serverFirst,
} from "../../../../proxy/protocols/postgres/scram-exchange.ts";
import { seed } from "../../../support/seed.ts";

/** RFC 7677, section 3: user "user", password "pencil". */
const RFC = {
  password: "pencil",
  clientNonce: "rOprNGfwEbeRWgbNEkqO",
  clientFirst: "n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
  serverFirst:
    "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
  clientFinal:
    "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0," +
    "p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
  serverFinal: "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
};

describe("the example of RFC 7677", () => {
  test("is followed by the server's side to the byte", () => {
    const first = parseClientFirst(RFC.clientFirst);
    const challenge = parseServerFirst(RFC.serverFirst, RFC.clientNonce);
    const final = parseClientFinal(RFC.clientFinal);
    if (first === null || challenge === null || final === null) throw new Error("not parsed");
    expect(first).toEqual({
      channelBinding: "none",
      gs2Header: "n,,",
      bare: "n=user,r=rOprNGfwEbeRWgbNEkqO",
      nonce: RFC.clientNonce,
    });
    expect(Buffer.from(final.channelBinding).toString()).toBe("n,,");
    expect(final.nonce).toBe(challenge.nonce);
    expect(serverFirst(challenge.nonce, challenge)).toBe(RFC.serverFirst);

    const keys = deriveKeys(RFC.password, challenge);
    const authMessage = `${first.bare},${RFC.serverFirst},${final.withoutProof}`;
    expect(verifyProof(keys, authMessage, final.proof)).toBe(true);
    expect(`v=${serverSignature(keys, authMessage)}`).toBe(RFC.serverFinal);
  });

  test("is followed by the client's side to the byte", () => {
    const challenge = parseServerFirst(RFC.serverFirst, RFC.clientNonce);
    if (challenge === null) throw new Error("not parsed");
    const withoutProof = `c=biws,r=${challenge.nonce}`;
    const authMessage = `n=user,r=${RFC.clientNonce},${RFC.serverFirst},${withoutProof}`;
    const answer = clientProof(saltPassword(RFC.password, challenge), authMessage);
    expect(`${withoutProof},p=${answer.proof}`).toBe(RFC.clientFinal);
    expect(`v=${answer.serverSignature}`).toBe(RFC.serverFinal);
  });
});

describe("a proof", () => {
  const parameters = { salt: Buffer.from("salt of sixteen.", "latin1"), iterations: 2 };

  test("convinces if and only if it was made with the same secret over the same messages", () => {
    fc.assert(
      fc.property(fc.string(), fc.string(), fc.string(), (secret, other, authMessage) => {
        fc.pre(secret.normalize("NFKC") !== other.normalize("NFKC"));
        const keys = deriveKeys(secret, parameters);
        const { proof } = clientProof(saltPassword(secret, parameters), authMessage);
        const bytes = Buffer.from(proof, "base64");
        expect(verifyProof(keys, authMessage, bytes)).toBe(true);
        expect(verifyProof(keys, `${authMessage}x`, bytes)).toBe(false);
        expect(verifyProof(deriveKeys(other, parameters), authMessage, bytes)).toBe(false);
      }),
      { seed },
    );
  });

  test("of the wrong length convinces nobody", () => {
    const keys = deriveKeys("secret", parameters);
    for (const bytes of [0, 31, 33]) {
      expect(verifyProof(keys, "message", new Uint8Array(bytes))).toBe(false);
    }
  });
});

test("a verifier in PostgreSQL's text form reads back as it was", () => {
  const parameters = { salt: Buffer.from("0123456789abcdef"), iterations: 4_096 };
  const verifier = { ...parameters, ...deriveKeys("secret", parameters) };
  expect(parseVerifier(formatVerifier(verifier))).toEqual(verifier);
  for (const text of ["", "md5abc", "SCRAM-SHA-256$x:AA==$AA==:AA==", "SCRAM-SHA-256$1:$:"]) {
    expect(parseVerifier(text)).toBeNull();
  }
});

describe("the client's first message", () => {
  test("tells what the client knows of channel binding", () => {
    const binding = (text: string) => parseClientFirst(text)?.channelBinding;
    expect(binding("n,,n=,r=01234567")).toBe("none");
    expect(binding("y,,n=,r=01234567")).toBe("not-offered");
    expect(binding("p=tls-server-end-point,,n=,r=01234567")).toBe("tls-server-end-point");
    expect(parseClientFirst("n,a=other,n=,r=01234567")?.gs2Header).toBe("n,a=other,");
  });

  test("is refused where it is malformed, binds by an unknown method or has a weak nonce", () => {
    for (const text of [
      "",
      "n,,",
      "n,,r=01234567",
      "n,,n=user",
      "n,,n=user,r=",
      "n,,n=user,r=0123456",
      "n,,n=user,r=with space",
      "n,,n=user,r=new\nline..",
      "x,,n=user,r=01234567",
      "p=tls-unique,,n=user,r=01234567",
      "n,,m=extension,n=user,r=01234567",
      `n,,n=user,r=${"a".repeat(257)}`,
    ]) {
      expect(parseClientFirst(text)).toBeNull();
    }
  });
});

describe("the client's final message", () => {
  test("is refused where it is malformed or its proof is not 32 bytes", () => {
    const proof = "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    expect(parseClientFinal(`c=biws,r=01234567,p=${proof}`)).not.toBeNull();
    for (const text of [
      "",
      `c=biws,p=${proof}`,
      `r=01234567,p=${proof}`,
      `c=biws,r=01234567`,
      `c=biws,r=01234567,p=`,
      `c=biws,r=01234567,p=${proof}=`,
      `c=biws,r=01234567,p=${proof.slice(1)}`,
      `c=biws,r=01234567,x=1,p=${proof}`,
      `c=!,r=01234567,p=${proof}`,
    ]) {
      expect(parseClientFinal(text)).toBeNull();
    }
  });
});

describe("the server's first message", () => {
  test("must go on from the client's own nonce", () => {
    expect(parseServerFirst("r=mineyours,s=AAAA,i=4096", "mine")?.nonce).toBe("mineyours");
    expect(parseServerFirst("r=mine,s=AAAA,i=4096", "mine")).toBeNull();
    expect(parseServerFirst("r=yours,s=AAAA,i=4096", "mine")).toBeNull();
  });

  test("cannot make the client work for longer than a bound", () => {
    expect(parseServerFirst("r=mineyours,s=AAAA,i=1000000", "mine")?.iterations).toBe(1_000_000);
    expect(parseServerFirst("r=mineyours,s=AAAA,i=1000001", "mine")).toBeNull();
    expect(parseServerFirst("r=mineyours,s=AAAA,i=0", "mine")).toBeNull();
    expect(parseServerFirst("r=mineyours,s=AAAA,i=-1", "mine")).toBeNull();
  });
});

test("no text makes a parser throw", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), (text) => {
      parseClientFirst(text);
      parseClientFinal(text);
      parseServerFirst(text, "mine");
      parseVerifier(text);
    }),
    { seed, numRuns: 500 },
  );
});

test("nonces are long, printable, free of commas and never the same", () => {
  const nonces = Array.from({ length: 100 }, newNonce);
  expect(new Set(nonces).size).toBe(100);
  for (const nonce of nonces) expect(nonce).toMatch(/^[!-+\--~]{24}$/);
});
