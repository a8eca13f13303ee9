import { describe, expect, test } from "bun:test";
import { newOrgId, newTokenId } from "../../../platform/ids.ts";
import { clientProof, saltPassword } from "../../../platform/scram.ts";
import type { Tenant } from "../../../platform/tenants.ts";
import {
  type Authentication,
  createAuthentication,
  type LoginAttempt,
} from "../../../proxy/layers/authentication.ts";
import { isDenial } from "../../../proxy/pipeline.ts";
import { ManualClock } from "../../support/manual-clock.ts";
import { tenantWith, tokenOf } from "../../support/tenants.ts";

const AUTH_MESSAGE = "n=,r=abc,r=abcdef,s=AAAA,i=4096,c=biws,r=abcdef";

type Setting = { readonly authentication: Authentication; readonly clock: ManualClock };

function settingWith(...tenants: readonly Tenant[]): Setting {
  const clock = new ManualClock();
  const authentication = createAuthentication({
    findTenant: (orgId) =>
      Promise.resolve(tenants.find((tenant) => tenant.orgId === orgId) ?? null),
    mockKey: new Uint8Array(32).fill(3),
    nowMs: clock.nowMs,
  });
  return { authentication, clock };
}

async function begin({ authentication }: Setting, user: string, address = "10.0.0.1") {
  const attempt = await authentication.begin(user, address);
  if (isDenial(attempt)) throw new Error(attempt.code);
  return attempt;
}

function prove(attempt: LoginAttempt, secret: string) {
  const { proof } = clientProof(saltPassword(secret, attempt.scram), AUTH_MESSAGE);
  return attempt.checkProof(AUTH_MESSAGE, Buffer.from(proof, "base64"));
}

async function fail(setting: Setting, user: string, address: string, times: number): Promise<void> {
  for (let time = 0; time < times; time++) {
    (await begin(setting, user, address)).checkSecret("wrong");
  }
}

async function outcome(setting: Setting, user: string, address: string): Promise<string> {
  const attempt = await setting.authentication.begin(user, address);
  return isDenial(attempt) ? attempt.code : "looked at";
}

describe("a token", () => {
  test("is known by its proof and in clear, and tells which it is", async () => {
    const [first, second] = [newTokenId(), newTokenId()];
    const tenant = tenantWith({ tokens: [tokenOf("one", first), tokenOf("two", second)] });
    const setting = settingWith(tenant);
    const byProof = prove(await begin(setting, tenant.orgId), "two");
    expect(!isDenial(byProof) && byProof.tokenId).toBe(second);
    const inClear = (await begin(setting, tenant.orgId)).checkSecret("one");
    expect(!isDenial(inClear) && inClear.tokenId).toBe(first);
  });

  test("is answered with a signature that proves the verifier behind it", async () => {
    const tenant = tenantWith({ tokens: [tokenOf("one")] });
    const attempt = await begin(settingWith(tenant), tenant.orgId);
    const expected = clientProof(saltPassword("one", attempt.scram), AUTH_MESSAGE);
    const known = prove(attempt, "one");
    expect(!isDenial(known) && known.serverSignature).toBe(expected.serverSignature);
  });

  test("of another org, and one of none, are refused alike", async () => {
    const tenant = tenantWith({ tokens: [tokenOf("one")] });
    const setting = settingWith(tenant, tenantWith({ tokens: [tokenOf("theirs")] }));
    const nobody = newOrgId();
    const wrong = prove(await begin(setting, tenant.orgId), "theirs");
    const unknown = prove(await begin(setting, nobody), "theirs");
    if (!isDenial(wrong) || !isDenial(unknown)) throw new Error("let in");
    expect({ ...unknown, message: unknown.message.replace(nobody, "…") }).toEqual({
      ...wrong,
      message: wrong.message.replace(tenant.orgId, "…"),
    });
  });

  test("of an org without any is refused", async () => {
    const tenant = tenantWith();
    const setting = settingWith(tenant);
    expect(isDenial(prove(await begin(setting, tenant.orgId), ""))).toBe(true);
    expect(isDenial((await begin(setting, tenant.orgId)).checkSecret(""))).toBe(true);
  });
});

test("the salt of an org that is not there is stable, its own, and as long as a real one", async () => {
  const setting = settingWith();
  const [one, other] = [newOrgId(), newOrgId()];
  const first = await begin(setting, one);
  expect(first.scram.salt.length).toBe(16);
  expect(first.scram.iterations).toBe(4_096);
  expect((await begin(setting, one)).scram).toEqual(first.scram);
  expect((await begin(setting, other)).scram.salt).not.toEqual(first.scram.salt);
});

test("a directory that cannot be asked is not taken for an unknown org", async () => {
  const authentication = createAuthentication({
    findTenant: () => Promise.reject(new Error("away")),
    mockKey: new Uint8Array(32),
    nowMs: () => 0,
  });
  const attempt = await authentication.begin(newOrgId(), "10.0.0.1");
  expect(isDenial(attempt) && attempt.code).toBe("directory_unavailable");
});

describe("failures", () => {
  test("block an address after ten, for the rest of two and a half minutes", async () => {
    const tenant = tenantWith({ tokens: [tokenOf("one")] });
    const setting = settingWith(tenant);
    await fail(setting, tenant.orgId, "10.0.0.1", 9);
    expect(await outcome(setting, tenant.orgId, "10.0.0.1")).toBe("looked at");
    await fail(setting, tenant.orgId, "10.0.0.1", 1);
    expect(await outcome(setting, tenant.orgId, "10.0.0.1")).toBe("authentication_blocked");
    expect(await outcome(setting, tenant.orgId, "10.0.0.2")).toBe("looked at");
    setting.clock.advance(149_999);
    expect(await outcome(setting, tenant.orgId, "10.0.0.1")).toBe("authentication_blocked");
    setting.clock.advance(1);
    expect(await outcome(setting, tenant.orgId, "10.0.0.1")).toBe("looked at");
  });

  test("count together for all addresses of an IPv6 subnet, which one party has", async () => {
    const tenant = tenantWith({ tokens: [tokenOf("one")] });
    const setting = settingWith(tenant);
    for (let n = 1; n <= 10; n++) await fail(setting, tenant.orgId, `2001:db8:1:2::${n}`, 1);
    expect(await outcome(setting, tenant.orgId, "2001:db8:1:2:ffff::1")).toBe(
      "authentication_blocked",
    );
    expect(await outcome(setting, tenant.orgId, "2001:db8:1:3::1")).toBe("looked at");
  });

  test("are forgotten by a success", async () => {
    const tenant = tenantWith({ tokens: [tokenOf("one")] });
    const setting = settingWith(tenant);
    await fail(setting, tenant.orgId, "10.0.0.1", 9);
    (await begin(setting, tenant.orgId)).checkSecret("one");
    await fail(setting, tenant.orgId, "10.0.0.1", 9);
    expect(await outcome(setting, tenant.orgId, "10.0.0.1")).toBe("looked at");
  });

  test("from many addresses block the org, but for addresses that it has logged in from", async () => {
    const tenant = tenantWith({ tokens: [tokenOf("one")] });
    const setting = settingWith(tenant);
    (await begin(setting, tenant.orgId, "10.0.0.1")).checkSecret("one");
    for (let n = 0; n < 200; n++) await fail(setting, tenant.orgId, `10.1.0.${n}`, 1);
    expect(await outcome(setting, tenant.orgId, "10.2.0.1")).toBe("authentication_blocked");
    expect(await outcome(setting, tenant.orgId, "10.0.0.1")).toBe("looked at");
  });

  test("count alike for an org that is not there", async () => {
    const setting = settingWith();
    const nobody = newOrgId();
    await fail(setting, nobody, "10.0.0.1", 10);
    expect(await outcome(setting, nobody, "10.0.0.1")).toBe("authentication_blocked");
  });

  test("are also logins that stop before their proof", async () => {
    const tenant = tenantWith({ tokens: [tokenOf("one")] });
    const setting = settingWith(tenant);
    for (let time = 0; time < 10; time++) (await begin(setting, tenant.orgId)).abandon();
    expect(await outcome(setting, tenant.orgId, "10.0.0.1")).toBe("authentication_blocked");
  });
});
