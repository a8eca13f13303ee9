import { describe, expect, test } from "bun:test";
import {
  isDatabaseName,
  isOrgName,
  newDatabaseId,
  newOrgId,
  newTokenId,
  parseDatabaseId,
  parseOrgId,
  parseTokenId,
} from "../../platform/ids.ts";

test("new ids are read back as what they are, and as nothing else", () => {
  const [org, database, token] = [newOrgId(), newDatabaseId(), newTokenId()];
  expect(parseOrgId(org)).toBe(org);
  expect(parseDatabaseId(database)).toBe(database);
  expect(parseTokenId(token)).toBe(token);
  expect([parseOrgId(database), parseDatabaseId(org), parseTokenId(org)]).toEqual([
    null,
    null,
    null,
  ]);
});

test("ids need no quoting in SQL and fit a PostgreSQL name", () => {
  for (let i = 0; i < 200; i++) {
    expect(newOrgId()).toMatch(/^org_[a-z2-7]{16}$/);
    expect(newDatabaseId()).toMatch(/^db_[a-z2-7]{16}$/);
  }
});

test("ids follow their source of randomness", () => {
  const zeros = (length: number) => new Uint8Array(length);
  expect(newOrgId(zeros)).toBe("org_aaaaaaaaaaaaaaaa" as never);
});

test.each(["", "org_", "org_ABCDEF", "org_abc", "org_abcdef1", "xorg_abcdef", "org_abcdef\n"])(
  "%j is no org id",
  (text) => {
    expect(parseOrgId(text)).toBeNull();
  },
);

describe("names", () => {
  test.each(["a", "shop", "a1-b_c", "a".repeat(40)])("%j may be a database's", (name) => {
    expect(isDatabaseName(name)).toBe(true);
  });

  test.each(["", "A", "1a", "-a", "a".repeat(41), "a b", "a@b", "ä", "a\n", "a;b", 'a"'])(
    "%j may not be a database's",
    (name) => {
      expect(isDatabaseName(name)).toBe(false);
    },
  );

  test.each(["A", "Käse & Söhne", "名前", "x".repeat(80)])("%j may be an org's", (name) => {
    expect(isOrgName(name)).toBe(true);
  });

  test.each(["", " a", "a ", "a\u0000b", "a\u007fb", "x".repeat(81)])(
    "%j may not be an org's",
    (name) => {
      expect(isOrgName(name)).toBe(false);
    },
  );
});
