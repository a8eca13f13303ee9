import { expect, test } from "bun:test";
import fc from "fast-check";
import { createLocalConnectionGate, type GateSlot } from "../../../proxy/layers/connection-gate.ts";
import { isDenial } from "../../../proxy/pipeline.ts";
import { seed } from "../../support/seed.ts";
import { tenantWith } from "../../support/tenants.ts";

test("the limit is met exactly, and a slot that is released admits one more", async () => {
  const gate = createLocalConnectionGate();
  const tenant = tenantWith();
  const slots: GateSlot[] = [];
  for (let n = 0; n < 5; n++) {
    const slot = await gate.admit(tenant);
    if (isDenial(slot)) throw new Error("refused too early");
    slots.push(slot);
  }
  const refused = await gate.admit(tenant);
  expect(isDenial(refused) && refused.code).toBe("connection_limit");
  slots[3]?.release();
  expect(gate.held(tenant.orgId)).toBe(4);
  expect(isDenial(await gate.admit(tenant))).toBe(false);
  expect(isDenial(await gate.admit(tenant))).toBe(true);
});

test("a slot released twice counts once", async () => {
  const gate = createLocalConnectionGate();
  const tenant = tenantWith();
  const [first] = [await gate.admit(tenant), await gate.admit(tenant)];
  if (first === undefined || isDenial(first)) throw new Error("refused");
  first.release();
  first.release();
  expect(gate.held(tenant.orgId)).toBe(1);
});

test("orgs do not count towards each other", async () => {
  const gate = createLocalConnectionGate();
  const full = tenantWith();
  for (let n = 0; n < 5; n++) await gate.admit(full);
  expect(isDenial(await gate.admit(tenantWith()))).toBe(false);
});

test("however slots come and go, there are never more than the limit and never fewer than could be", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.boolean(), { maxLength: 200 }), async (acts) => {
      const gate = createLocalConnectionGate();
      const tenant = tenantWith();
      const held: GateSlot[] = [];
      for (const connect of acts) {
        if (!connect) {
          held.shift()?.release();
        } else {
          const slot = await gate.admit(tenant);
          expect(isDenial(slot)).toBe(held.length === 5);
          if (!isDenial(slot)) held.push(slot);
        }
        expect(gate.held(tenant.orgId)).toBe(held.length);
      }
    }),
    { seed },
  );
});
