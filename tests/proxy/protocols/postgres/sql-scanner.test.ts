/** The scanner tells what PostgreSQL takes for words, constants and signs. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  constantText,
  SqlScanner,
  TOKEN,
} from "../../../../proxy/protocols/postgres/sql-scanner.ts";
import { seed } from "../../../support/seed.ts";

const KINDS = Object.fromEntries(Object.entries(TOKEN).map(([name, kind]) => [kind, name]));

function tokensOf(text: string): readonly string[] {
  const scanner = new SqlScanner().read(text);
  const tokens: string[] = [];
  for (let kind = scanner.next(); kind !== TOKEN.end; kind = scanner.next()) {
    tokens.push(`${KINDS[kind]} ${scanner.token()}`);
  }
  return tokens;
}

describe("tokens", () => {
  test.each([
    ["SELECT a.b", ["word SELECT", "word a", "sign .", "word b"]],
    ["x-- rest\n+1", ["word x", "sign +", "number 1"]],
    ["a/* b /* c */ d */e", ["word a", "word e"]],
    ["'it''s' 'two'", ["string 'it''s'", "string 'two'"]],
    ["E'\\'' x", ["string E'\\''", "word x"]],
    ["'\\' x", ["string '\\'", "word x"]],
    [
      "b'01' X'ff' n'a' U&'b' u",
      ["string b'01'", "string X'ff'", "string n'a'", "string U&'b'", "word u"],
    ],
    ["$$a'b$$ $x$ $$ $x$", ["string $$a'b$$", "string $x$ $$ $x$"]],
    ["$1 a$1", ["sign $", "number 1", "word a$1"]],
    ['"a ""b"" c"', ['word "a ""b"" c"']],
    ["1.5e10 .5 0xFF 1_000", ["number 1.5e10", "number .5", "number 0xFF", "number 1_000"]],
    ["'open", ["string 'open"]],
    ["$$open", ["string $$open"]],
    ["/* open", []],
  ] as const)("of %s", (text, tokens) => {
    expect(tokensOf(text)).toEqual([...tokens]);
  });

  test("never overlap, never stand still, and end with the text, whatever it is", () => {
    const piece = fc.constantFrom(
      "'",
      '"',
      "$",
      "$$",
      "$a$",
      "/*",
      "*/",
      "--",
      "\n",
      "E'",
      "\\",
      "1",
      "a",
      ";",
      " ",
    );
    const text = fc.array(fc.oneof(piece, fc.string({ maxLength: 4 })), { maxLength: 40 });
    fc.assert(
      fc.property(text, (pieces) => {
        const whole = pieces.join("");
        const scanner = new SqlScanner().read(whole);
        let end = 0;
        while (scanner.next() !== TOKEN.end) {
          expect(scanner.start).toBeGreaterThanOrEqual(end);
          expect(scanner.end).toBeGreaterThan(scanner.start);
          end = scanner.end;
        }
        expect(scanner.end).toBe(whole.length);
      }),
      { seed },
    );
  });
});

test.each([
  ["'it''s'", "it's"],
  ["E'plain'", "plain"],
  ["E'\\x41'", null],
  ["$$two$$", "two"],
  ["$tag$three$tag$", "three"],
  ["X'ff'", null],
] as const)("the constant %s says %p", (token, text) => {
  expect(constantText(token)).toBe(text);
});
