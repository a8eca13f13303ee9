import { expect, test } from "bun:test";
import { newOrgId, type OrgId } from "../../platform/ids.ts";
import { silentLog } from "../../platform/log.ts";
import type { Tenant, TenantDirectory } from "../../platform/tenants.ts";
import { TenantCache } from "../../proxy/tenant-cache.ts";
import { tenantWith } from "../support/tenants.ts";
import { until } from "../support/until.ts";

/** A directory whose answers come when they are told to. */
class Directory implements TenantDirectory {
  readonly tenants = new Map<OrgId, Tenant>();
  loads = 0;
  away = false;
  /** Set to hold loads back until it resolves; each has read its answer by then. */
  held: Promise<void> | null = null;
  announce: (orgId: OrgId) => void = () => {};
  reset: () => void = () => {};

  async load(orgId: OrgId): Promise<Tenant | null> {
    this.loads += 1;
    const { away } = this;
    const found = this.tenants.get(orgId) ?? null;
    await this.held;
    if (away) throw new Error("the control plane is away");
    return found;
  }

  subscribe(changed: (orgId: OrgId) => void, reset: () => void) {
    this.announce = changed;
    this.reset = reset;
    return Promise.resolve({ close: () => Promise.resolve() });
  }
}

async function setting(live: readonly OrgId[] = []) {
  const directory = new Directory();
  const changes: (readonly [OrgId, Tenant | null])[] = [];
  const cache = new TenantCache({
    directory,
    log: silentLog,
    changed: (orgId, tenant) => changes.push([orgId, tenant]),
    liveOrgs: { has: (orgId) => live.includes(orgId), keys: () => live },
  });
  await cache.start();
  const put = (tenant: Tenant): Tenant => {
    directory.tenants.set(tenant.orgId, tenant);
    return tenant;
  };
  return { directory, cache, changes, put };
}

test("a tenant is loaded once, also by those who ask at the same time", async () => {
  const { directory, cache, put } = await setting();
  const tenant = put(tenantWith());
  const found = await Promise.all([1, 2, 3].map(() => cache.find(tenant.orgId)));
  expect(found).toEqual([tenant, tenant, tenant]);
  expect(await cache.find(tenant.orgId)).toBe(tenant);
  expect(cache.peek(tenant.orgId)).toBe(tenant);
  expect(directory.loads).toBe(1);
});

test("that there is no such org is remembered too, until it is announced", async () => {
  const { directory, cache, put } = await setting();
  const orgId = newOrgId();
  expect(await cache.find(orgId)).toBeNull();
  expect(await cache.find(orgId)).toBeNull();
  expect(directory.loads).toBe(1);
  expect(cache.size).toBe(0);
  const tenant = put(tenantWith({ orgId }));
  directory.announce(orgId);
  await until("the news", () => cache.peek(orgId) !== null);
  expect(await cache.find(orgId)).toBe(tenant);
});

test("an announced change replaces what is known, and is passed on", async () => {
  const { directory, cache, changes, put } = await setting();
  const before = put(tenantWith());
  await cache.find(before.orgId);
  const after = put(tenantWith({ orgId: before.orgId, status: "suspended" }));
  directory.announce(before.orgId);
  await until("the change", () => changes.length > 0);
  expect(changes).toEqual([[before.orgId, after]]);
  expect(cache.peek(before.orgId)).toBe(after);
});

test("a change that is announced during a load is not missed", async () => {
  const { directory, cache, put } = await setting();
  const before = put(tenantWith());
  const gate = Promise.withResolvers<void>();
  directory.held = gate.promise;
  const finding = cache.find(before.orgId);
  const after = put(tenantWith({ orgId: before.orgId, status: "suspended" }));
  directory.announce(before.orgId);
  gate.resolve();
  expect(await finding).toBe(after);
  expect(cache.peek(before.orgId)).toBe(after);
});

test("a change to an org that nobody has asked for costs nothing", async () => {
  const { directory, put } = await setting();
  directory.announce(put(tenantWith()).orgId);
  expect(directory.loads).toBe(0);
});

test("a change to an org with open sessions is loaded though its entry is gone", async () => {
  const orgId = newOrgId();
  const { directory, changes, put } = await setting([orgId]);
  const tenant = put(tenantWith({ orgId }));
  directory.announce(orgId);
  await until("the change", () => changes.length > 0);
  expect(changes).toEqual([[orgId, tenant]]);
});

test("while the control plane is away the known go on, the unknown are not taken for absent", async () => {
  const { directory, cache, put } = await setting();
  const [known, unknown] = [put(tenantWith()), put(tenantWith())];
  await cache.find(known.orgId);
  directory.away = true;
  expect(await cache.find(known.orgId)).toBe(known);
  const asked = await cache.find(unknown.orgId).then(
    () => "answered",
    () => "rejected",
  );
  expect(asked).toBe("rejected");
  directory.away = false;
  expect(await cache.find(unknown.orgId)).toBe(unknown);
});

test("a change whose load fails is tried until the control plane is back", async () => {
  const { directory, cache, changes, put } = await setting();
  const before = put(tenantWith());
  await cache.find(before.orgId);
  directory.away = true;
  const after = put(tenantWith({ orgId: before.orgId, status: "suspended" }));
  directory.announce(before.orgId);
  await until("a failed load", () => directory.loads >= 2);
  expect(cache.peek(before.orgId)).toBe(before);
  directory.away = false;
  await until("the change", () => changes.length > 0);
  expect(cache.peek(before.orgId)).toBe(after);
});

test("after a gap in the announcements everything known is looked at again", async () => {
  const live = newOrgId();
  const { directory, cache, changes, put } = await setting([live]);
  const before = put(tenantWith());
  put(tenantWith({ orgId: live }));
  const appeared = newOrgId();
  await cache.find(before.orgId);
  await cache.find(appeared);
  const after = put(tenantWith({ orgId: before.orgId, tier: "PRO" }));
  const there = put(tenantWith({ orgId: appeared }));
  directory.reset();
  await until("all three", () => changes.length === 3);
  expect(cache.peek(before.orgId)).toBe(after);
  expect(cache.peek(appeared)).toBe(there);
});

test("what may just have been made is looked for past the cache, and past loads that began before", async () => {
  const { directory, cache, put } = await setting();
  const before = put(tenantWith());
  await cache.find(before.orgId);
  const after = put(tenantWith({ orgId: before.orgId, tier: "PRO" }));
  expect(await cache.reload(before.orgId)).toBe(after);
  expect(cache.peek(before.orgId)).toBe(after);

  const gate = Promise.withResolvers<void>();
  directory.held = gate.promise;
  const early = cache.reload(before.orgId);
  const newest = put(tenantWith({ orgId: before.orgId, tier: "STARTER" }));
  const late = cache.reload(before.orgId);
  gate.resolve();
  expect(await late).toBe(newest);
  expect(await early).toBe(newest);
});

test("a tenant that has gone is told as gone", async () => {
  const { directory, cache, changes, put } = await setting();
  const tenant = put(tenantWith());
  await cache.find(tenant.orgId);
  directory.tenants.clear();
  directory.announce(tenant.orgId);
  await until("the change", () => changes.length > 0);
  expect(changes).toEqual([[tenant.orgId, null]]);
  expect(await cache.find(tenant.orgId)).toBeNull();
});
