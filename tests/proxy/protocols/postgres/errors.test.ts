import { describe, expect, test } from "bun:test";
import type { OrgId } from "../../../../platform/ids.ts";
import type { Tenant } from "../../../../platform/tenants.ts";
import { TIER_LIMITS } from "../../../../platform/tiers.ts";
import {
  authenticationBlocked,
  authenticationFailed,
  connectionLimit,
  type Denial,
  databaseDropped,
  orgSuspended,
  protocolViolation,
  queryTooExpensive,
  rateLimited,
  sessionStateExpired,
  settingAboveTier,
  shuttingDown,
  statementTimeout,
  tlsRequired,
  tokenRevoked,
  transactionIdle,
  transactionTimeout,
  unauthenticatedLimit,
  unknownDatabase,
  upstreamLost,
  upstreamUnavailable,
  usageExhausted,
} from "../../../../proxy/denial.ts";
import { errorResponse, sqlState } from "../../../../proxy/protocols/postgres/errors.ts";
import { errorFields } from "../../../../proxy/protocols/postgres/messages.ts";

const tenant: Tenant = {
  orgId: "org_abcdefgh" as OrgId,
  tier: "FREE",
  status: "active",
  limits: TIER_LIMITS.FREE,
  overUsage: null,
  scram: { salt: new Uint8Array(16), iterations: 4_096 },
  tokens: [],
  databases: new Map(),
  credentialGeneration: 1,
};

function fieldsOf(denial: Denial, severity: "ERROR" | "FATAL"): ReadonlyMap<string, string> {
  return errorFields(errorResponse(denial, severity).subarray(5));
}

test("a denial is an ErrorResponse with severity, SQLSTATE, message and hint", () => {
  const bytes = errorResponse(connectionLimit(tenant), "FATAL");
  expect(String.fromCharCode(bytes[0] ?? 0)).toBe("E");
  expect(Buffer.from(bytes).readUInt32BE(1)).toBe(bytes.length - 1);
  expect(Object.fromEntries(fieldsOf(connectionLimit(tenant), "FATAL"))).toEqual({
    S: "FATAL",
    V: "FATAL",
    C: "53300",
    M: "too many connections: the FREE tier allows 5 per org, over all its databases",
    H: "Close a connection, make your client's pool smaller, or upgrade the tier.",
  });
});

test("one without a hint has no hint field", () => {
  expect(fieldsOf(databaseDropped(), "FATAL").has("H")).toBe(false);
});

describe("the SQLSTATE is the one that drivers know for it", () => {
  const cases: readonly (readonly [string, Denial])[] = [
    ["28000", tlsRequired()],
    ["28P01", authenticationFailed("u")],
    ["28000", authenticationBlocked(3)],
    ["53300", unauthenticatedLimit()],
    ["28000", orgSuspended()],
    ["57P01", tokenRevoked()],
    ["53400", usageExhausted("over")],
    ["53300", connectionLimit(tenant)],
    ["53400", rateLimited(tenant, 1_500)],
    ["3D000", unknownDatabase("x")],
    ["57P01", databaseDropped()],
    ["57P03", upstreamUnavailable("log")],
    ["08006", upstreamLost("log")],
    ["57P05", sessionStateExpired("LISTEN", 300_000)],
    ["25P03", transactionIdle(300_000)],
    ["57014", statementTimeout(tenant)],
    ["25P03", transactionTimeout(tenant)],
    ["22023", settingAboveTier(tenant, "work_mem", "1GB", "4MB")],
    ["54001", queryTooExpensive(tenant, 6_000_000, 5_000_000)],
    ["08P01", protocolViolation("x")],
    ["57P01", shuttingDown()],
  ];
  test.each(cases)("%s", (state, denial) => {
    expect(sqlState(denial)).toBe(state);
    expect(fieldsOf(denial, "ERROR").get("C")).toBe(state);
  });

  test("or the server's own where that is passed on", () => {
    expect(sqlState({ ...databaseDropped(), sqlState: "22023" })).toBe("22023");
  });
});

test("what is for operators is not told to clients", () => {
  const secret = "main.internal:5432 refused role org_x";
  const whole = Buffer.from(errorResponse(upstreamUnavailable(secret), "FATAL")).toString();
  expect(whole).not.toContain(secret);
});

test("a rate denial names tier, limit and when to come again", () => {
  const fields = fieldsOf(rateLimited(tenant, 1_234), "ERROR");
  expect(fields.get("M")).toBe(
    "query rate exceeded: the FREE tier allows 10 queries per second per org",
  );
  expect(fields.get("H")).toBe("Retry in 1.3 s, send fewer queries at once, or upgrade the tier.");
});
