import { expect, test } from "bun:test";
import { newTokenId } from "../../../platform/ids.ts";
import { verifySession, verifyTier } from "../../../proxy/layers/tier-verification.ts";
import { tenantWith, tokenOf } from "../../support/tenants.ts";

test("an active org within its allowances passes", () => {
  expect(verifyTier(tenantWith())).toBeNull();
});

test("a suspended org does not", () => {
  expect(verifyTier(tenantWith({ status: "suspended" }))?.code).toBe("org_suspended");
});

test("an org over an allowance is told which, and what to do", () => {
  const denial = verifyTier(
    tenantWith({ overUsage: "The compute hours of the month are used up." }),
  );
  expect(denial?.code).toBe("usage_exhausted");
  expect(denial?.message).toBe("The compute hours of the month are used up.");
  expect(denial?.hint).toBe("Upgrade the tier or raise the spend cap in Studio.");
});

test("a session stays as long as its own token is valid, whatever becomes of others", () => {
  const [kept, revoked] = [newTokenId(), newTokenId()];
  const tenant = tenantWith({ tokens: [tokenOf("kept", kept)] });
  expect(verifySession(tenant, kept)).toBeNull();
  expect(verifySession(tenant, revoked)?.code).toBe("token_revoked");
});
