/** Statements that differ only in their constants have one key, others have another. */
import { describe, expect, test } from "bun:test";
import { exactKey, statementKey } from "../../../../proxy/protocols/postgres/statement-key.ts";

const SELECT = "SELECT name FROM part WHERE id = 1";

describe("the same key", () => {
  test.each([
    [SELECT, "SELECT name FROM part WHERE id = 4711"],
    [SELECT, "select NAME\n  from part -- all of them\n where id=2"],
    [SELECT, "SELECT name FROM part WHERE id = 'x''y'"],
    [SELECT, "SELECT name FROM part WHERE id = $tag$ ; $tag$"],
    ["SELECT 1 WHERE a IN (1)", "SELECT 1 WHERE a IN (1, 2, 'three', 4.5)"],
    ["INSERT INTO t VALUES (1, 2)", "INSERT INTO t VALUES (3)"],
  ])("%s | %s", (one, other) => {
    expect(statementKey(one)).toBe(statementKey(other));
  });
});

describe("another key", () => {
  test.each([
    [SELECT, "SELECT name FROM parts WHERE id = 1"],
    [SELECT, "SELECT name FROM part WHERE id = a"],
    [SELECT, "SELECT name FROM part WHERE id > 1"],
    [SELECT, "SELECT name FROM part WHERE id = $1"],
    ["SELECT $1", "SELECT 1"],
    ["SELECT ab", "SELECT a b"],
    ["SELECT 1, a", "SELECT 1 a"],
    ["SELECT (1), (2)", "SELECT (1)"],
  ])("%s | %s", (one, other) => {
    expect(statementKey(one)).not.toBe(statementKey(other));
  });
});

test("keys are whole numbers that keep apart many statements", () => {
  const seen = new Set<number>();
  for (let n = 0; n < 100_000; n++) seen.add(statementKey(`SELECT a${n}, b FROM t${n % 7}`));
  expect(seen.size).toBe(100_000);
  expect([...seen].every(Number.isSafeInteger)).toBe(true);
});

test("an exact key tells constants apart", () => {
  expect(exactKey("SELECT 1")).not.toBe(exactKey("SELECT 2"));
});
