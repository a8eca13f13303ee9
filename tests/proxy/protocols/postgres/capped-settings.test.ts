/**
 * Which values of which settings a tier's sessions may have, and what connections to servers start
 * with.
 */
import { describe, expect, test } from "bun:test";
import { TIER_LIMITS } from "../../../../platform/tiers.ts";
import {
  settingRefusal,
  settingsKey,
  startupParameters,
  startupRefusal,
} from "../../../../proxy/protocols/postgres/capped-settings.ts";
import { tenantWith } from "../../../support/tenants.ts";

const tenant = tenantWith(); // FREE: 4 MB, 15 s, 2 min.
const refuses = (text: string): boolean => settingRefusal(text, tenant) !== null;

describe("values are compared in the setting's own units", () => {
  test.each([
    ["work_mem", "4096", false],
    ["work_mem", "4097", true],
    ["work_mem", "'4096kB'", false],
    ["work_mem", "'4MB'", false],
    ["work_mem", "' 4 MB '", false],
    ["work_mem", "'4.1MB'", true],
    ["work_mem", "'0.001GB'", false],
    ["work_mem", "'1TB'", true],
    ["work_mem", "'5000000B'", true],
    ["work_mem", "0x1001", true],
    ["work_mem", "1e9", true],
    ["work_mem", "+5000", true],
    ["work_mem", "'1mb'", false], // No unit of PostgreSQL's: it refuses that itself.
    ["work_mem", "DEFAULT", false],
    ["statement_timeout", "15000", false],
    ["statement_timeout", "15001", true],
    ["statement_timeout", "'15s'", false],
    ["statement_timeout", "'1min'", true],
    ["statement_timeout", "'1h'", true],
    ["statement_timeout", "'1d'", true],
    ["statement_timeout", "'15000000us'", false],
    ["statement_timeout", "0", false],
    ["idle_in_transaction_session_timeout", "'2min'", false],
    ["idle_in_transaction_session_timeout", "'121s'", true],
    ["lock_timeout", "999999999", false],
  ] as const)("SET %s = %s", (name, value, refused) => {
    expect(refuses(`SET ${name} = ${value}`)).toBe(refused);
  });
});

test("a larger tier may set what a smaller one may not", () => {
  const text = "SET work_mem = '256MB'";
  const of = (tier: "PRO" | "ENTERPRISE") => tenantWith({ tier, limits: TIER_LIMITS[tier] });
  expect(settingRefusal(text, of("PRO"))?.message).toBe(
    'work_mem cannot be set to "256MB": the PRO tier allows at most 64MB',
  );
  expect(settingRefusal(text, of("ENTERPRISE"))).toBeNull();
});

describe("a connection to a server starts", () => {
  const started = (parameters: Readonly<Record<string, string>>) =>
    Object.fromEntries(startupParameters(new Map(Object.entries(parameters)), TIER_LIMITS.FREE));
  const caps = {
    work_mem: "4MB",
    statement_timeout: "15s",
    idle_in_transaction_session_timeout: "2min",
  };

  test("at the tier's caps, with everything else as the client asked", () => {
    expect(started({ application_name: "x", options: "-c search_path=a" })).toEqual({
      application_name: "x",
      options: "-c search_path=a",
      ...caps,
    });
  });

  test("with the client's own smaller values, named by themselves so that they stand above options", () => {
    expect(started({ options: "-c work_mem=1MB -S 512", statement_timeout: "2s" })).toEqual({
      options: "-c work_mem=1MB -S 512",
      ...caps,
      work_mem: "512",
      statement_timeout: "2s",
    });
  });

  test("at the caps where what the client asked for has become too much", () => {
    expect(started({ WORK_MEM: "64MB" })).toEqual(caps);
  });
});

test.each([
  [{ options: "-c work_mem=1GB" }, true],
  [{ options: "-c\\ work_mem=1GB" }, false],
  [{ options: "-c search_path=a\\ b -S 99999" }, true],
  [{ options: "-c work_mem=1GB", work_mem: "1MB" }, false],
  [{ options: "--statement-timeout=0" }, false],
  [{ options: "--statement-timeout=1h" }, true],
  [{ options: "-c" }, false],
] as const)("the login with %j is refused: %p", (parameters, refused) => {
  const refusal = startupRefusal(new Map(Object.entries(parameters)), tenant);
  expect(refusal !== null).toBe(refused);
});

test("only what a connection starts with makes it another one", () => {
  const free = TIER_LIMITS.FREE;
  expect(settingsKey({ ...free, connections: 99 })).toBe(settingsKey(free));
  expect(settingsKey({ ...free, workMemBytes: 1 })).not.toBe(settingsKey(free));
});
