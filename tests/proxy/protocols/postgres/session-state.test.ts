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
    ["SET search_path TO app", "session settings"],
    ["  set session statement_timeout = 0", "session settings"],
    ["select 1; SET role x", "session settings"],
    ["RESET ALL", "session settings"],
    ["LOAD 'auto_explain'", "session settings"],
    ["SELECT set_config('a.b', '1', false)", "session settings"],
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
    "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
    "SET CONSTRAINTS ALL DEFERRED",
    "DECLARE c CURSOR FOR SELECT 1",
    "SELECT pg_advisory_xact_lock(1)",
    "PREPARE TRANSACTION 'x'",
    "SELECT temperature, template FROM offset_listeners",
    "",
  ])("%s", (text) => {
    expect(stateMadeBy(text)).toBeNull();
  });
});

test("what the text hid, the server's command tag tells", () => {
  expect(stateMadeBy("/* a */ SET a.b = 1")).toBeNull();
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
