/**
 * A fingerprint has none of a statement's data and is the same for statements that differ only in
 * that.
 */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { fingerprintOf } from "../../../../proxy/protocols/postgres/sql-fingerprint.ts";

const textOf = (sql: string): string =>
  fingerprintOf(Buffer.from(sql, "utf8").toString("latin1")).text;

describe("a fingerprint", () => {
  const cases: readonly (readonly [string, string])[] = [
    ["SELECT * FROM t WHERE a = 1 AND b='x'", "select * from t where a = ? and b=?"],
    ["select  *\n from T\twhere a=1.5e10", "select * from t where a=?"],
    ["SELECT 'it''s', E'it\\'s', $$a$$, $q$b$$c$q$, B'01', X'ff', U&'x'", "select ?, ..."],
    ['SELECT "Mixed Case" FROM "T"', 'select "Mixed Case" from "T"'],
    ["INSERT INTO t VALUES (1, 'a', 2), (3, 'b', 4)", "insert into t values (?, ...), (?, ...)"],
    ["SELECT a /* secret */ -- secret\nFROM t", "select a from t"],
    ["SELECT $1, $2", "select $?, $?"],
    ["ALTER ROLE r PASSWORD 'hidden'", "alter role r password ?"],
    ["SELECT 'unterminated secret", "select ?"],
    ["SELECT größe FROM t WHERE ort = 'Köln'", "select größe from t where ort = ?"],
    ["SELECT 'C:\\', secret, 'x'", "select ? ..."],
    ["", ""],
  ];
  for (const [sql, expected] of cases) {
    test(`of ${JSON.stringify(sql)} is ${JSON.stringify(expected)}`, () => {
      expect(textOf(sql)).toBe(expected);
    });
  }

  test("has one hash for statements that differ in constants only, and another for others", () => {
    const hash = (sql: string): string => fingerprintOf(sql).hash;
    expect(hash("SELECT 1 WHERE a IN (1, 2)")).toBe(hash("select 2 where a in (3,4, 5)"));
    expect(hash("SELECT a")).not.toBe(hash("SELECT b"));
  });

  test("is cut when it is long", () => {
    expect(textOf(`SELECT ${"a + ".repeat(5_000)} 1`).length).toBe(1_003);
  });
});

test("no string constant gets into a fingerprint, whatever it holds and whichever way it is written", () => {
  const constant = fc.oneof(
    fc.string({ unit: "binary-ascii" }).map((text) => `'SECRET${text.replaceAll("'", "''")}'`),
    fc
      .string({ unit: "binary-ascii" })
      .map((text) => `E'SECRET${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`),
    fc
      .string({ unit: "binary-ascii" })
      .map((text) => `$tag$SECRET${text.replaceAll("$", "")}$tag$`),
  );
  fc.assert(
    fc.property(fc.array(constant, { minLength: 1, maxLength: 5 }), (constants) => {
      expect(textOf(`SELECT ${constants.join(" , ")} FROM t`)).not.toContain("SECRET");
    }),
  );
});

test("no constant gets into a fingerprint where backslashes escape in plain strings", () => {
  // As with standard_conforming_strings off: the server sees one constant.
  expect(textOf("SELECT 'a\\' SECRET', 'b'")).not.toContain("SECRET");
});
