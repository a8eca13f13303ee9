import { describe, expect, test } from "bun:test";
import {
  clearsState,
  type HeldState,
  stateMadeBy,
  stateMadeByTag,
} from "../../../../proxy/protocols/postgres/session-state.ts";

describe("statements that make state are known by their text", () => {
  const cases: readonly (readonly [string, HeldState])[] = [
    ["LISTEN jobs", "LISTEN"],
    ["listen jobs; select 1", "LISTEN"],
    ["CREATE TEMP TABLE t (a int)", "temporary tables"],
    ["create temporary view v as select 1", "temporary tables"],
    ["SELECT 1 INTO TEMP t", "temporary tables"],
    ["CREATE TABLE pg_temp.t (a int)", "temporary tables"],
    ["DECLARE c CURSOR WITH HOLD FOR SELECT 1", "a cursor WITH HOLD"],
    ["declare c scroll cursor\n with\n hold for select 1", "a cursor WITH HOLD"],
    ["SELECT pg_advisory_lock(1)", "advisory locks"],
    ["select pg_try_advisory_lock_shared(1, 2)", "advisory locks"],
    ["PREPARE p AS SELECT 1", "prepared statements"],
    ["LOAD 'auto_explain'", "a loaded library"],
    ["SELECT set_config('a.b', '1', false)", "settings of its own making"],
    [
      "SELECT set_config('a', '1', true), set_config('b', '1', false)",
      "settings of its own making",
    ],
    ["SET my.own = 1", "settings of its own making"],
    ["SELECT my_function(1)", "a function call"],
    ["SELECT lower(x), app.lower(x) FROM t", "a function call"],
    ['SELECT * FROM "Odd Name"(1)', "a function call"],
    ["CALL refresh()", "a function call"],
    ["DO $$ BEGIN LISTEN jobs; END $$", "LISTEN"],
    ["DO $$ BEGIN SET statement_timeout = 0; END $$", "session settings"],
    ["/* why */ DO 'BEGIN IF true THEN RESET ALL; END IF; END'", "session settings"],
    ["CREATE /* really */ TEMP TABLE t (a int)", "temporary tables"],
  ];
  test.each(cases)("%s", (text, state) => {
    expect(stateMadeBy(text)).toBe(state);
  });
});

describe("statements that end with their transaction make none", () => {
  test.each([
    "SELECT 1",
    "UPDATE t SET a = 1",
    "INSERT INTO settings VALUES (1)",
    "BEGIN",
    "SET LOCAL statement_timeout = 0",
    "SELECT set_config('a.b', '1', true)",
    "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
    "SET CONSTRAINTS ALL DEFERRED",
    "DECLARE c CURSOR FOR SELECT 1",
    "SELECT pg_advisory_xact_lock(1)",
    "PREPARE TRANSACTION 'x'",
    "DO $$ BEGIN UPDATE t SET a = 1; SET LOCAL work_mem = '1MB'; END $$",
    "INSERT INTO t VALUES (1) ON CONFLICT DO UPDATE SET a = 1",
    "SELECT count(*), coalesce(max(a), 0) FROM t WHERE b IN (1, 2) AND pg_catalog.lower(c) = 'x'",
    "INSERT INTO t (a, b) VALUES (now(), gen_random_uuid())",
    "WITH w (a) AS (SELECT 1) SELECT a FROM w JOIN LATERAL (SELECT 2) AS l(b) ON (true)",
    "CREATE TABLE t (a int PRIMARY KEY, b varchar(20), FOREIGN KEY (a) REFERENCES u (id))",
    "CREATE INDEX ON t (lower(b))",
    "SELECT temperature, template FROM offset_listeners",
    "",
  ])("%s", (text) => {
    expect(stateMadeBy(text)).toBeNull();
  });
});

test("the longest statement that is looked into takes no time, whatever it repeats", () => {
  const bytes = 65_536;
  for (const word of [
    "declare ",
    "with ",
    "set_config(,",
    "; ",
    "create ",
    "/* load ",
    "(",
    "a.b(",
    "count(",
  ]) {
    const text = `prepare ${word.repeat(bytes / word.length)}`;
    // Looked at so often, anything but linear time runs into the test's own timeout.
    for (let time = 0; time < 100; time++) stateMadeBy(text);
  }
});

test("what the text hid, the server's command tag tells", () => {
  expect(stateMadeBy("SET work_mem = '1MB'")).toBeNull();
  expect(stateMadeByTag("SET")).toBe("session settings");
  expect(stateMadeByTag("RESET")).toBe("session settings");
  expect(stateMadeByTag("LISTEN")).toBe("LISTEN");
  expect(stateMadeByTag("PREPARE")).toBe("prepared statements");
  for (const tag of ["SELECT", "INSERT", "UPDATE", "BEGIN", "PREPARE TRANSACTION", "UNLISTEN"]) {
    expect(stateMadeByTag(tag)).toBeNull();
  }
});

test("only DISCARD ALL makes a session as new", () => {
  expect(clearsState("DISCARD ALL")).toBe(true);
  for (const tag of ["DISCARD TEMP", "DISCARD PLANS", "RESET", "DEALLOCATE ALL"]) {
    expect(clearsState(tag)).toBe(false);
  }
});
