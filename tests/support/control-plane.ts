/**
 * A control plane and a shared server, both real, for tests: a database of each on a throw-away
 * server.
 */
import { randomBytes } from "node:crypto";
import postgres, { type Sql } from "postgres";
import type { ComputeHost } from "../../platform/compute-host.ts";
import { migrate } from "../../platform/control/migrate.ts";
import { createOrg } from "../../platform/control/orgs.ts";
import { type AdminServer, parseAdminServer } from "../../platform/endpoints.ts";
import { createEngines } from "../../platform/engines/registry.ts";
import { openSharedServer, type SharedServer } from "../../platform/engines/shared-server.ts";
import type { OrgId } from "../../platform/ids.ts";
import { silentLog } from "../../platform/log.ts";
import { openControlPlane } from "../../platform/postgres-client.ts";
import type { ProvisioningParts } from "../../platform/provisioning.ts";
import type { Tier } from "../../platform/tiers.ts";
import {
  type MasterKey,
  parseMasterKey,
  upstreamPassword,
} from "../../platform/upstream-credentials.ts";

export const TEST_ACTOR = { name: "test", requestId: null } as const;
export const TEST_MASTER_KEY = parseMasterKey("5a".repeat(32)) as MasterKey;

export type TestControlPlane = {
  readonly url: string;
  readonly sql: Sql;
  [Symbol.asyncDispose](): Promise<void>;
};

/** A migrated control plane in a database of its own on the server at `adminUrl`. */
export async function createControlPlane(
  adminUrl: string,
  options: { readonly migrated?: boolean } = {},
): Promise<TestControlPlane> {
  const name = `control_${randomBytes(6).toString("hex")}`;
  const admin = openControlPlane(adminUrl, { applicationName: "test", connectionsMax: 1 });
  await admin.unsafe(`CREATE DATABASE ${name} STRATEGY wal_log`);
  const url = adminUrl.replace("@/postgres?", `@/${name}?`);
  const sql = openControlPlane(url, { applicationName: "test", connectionsMax: 8 });
  if (options.migrated !== false) await migrate(sql);
  return {
    url,
    sql,
    async [Symbol.asyncDispose]() {
      await sql.end({ timeout: 1 });
      await admin.unsafe(`DROP DATABASE ${name} WITH (FORCE)`);
      await admin.end();
    },
  };
}

export type TestProvisioning = ProvisioningParts & {
  readonly shared: SharedServer;
  [Symbol.asyncDispose](): Promise<void>;
};

/**
 * Provisioning on the given control plane, with the server at `adminUrl` as the only shared one.
 */
export function createProvisioning(
  controlPlane: TestControlPlane,
  adminUrl: string,
  computeHosts: ReadonlyMap<string, ComputeHost> = new Map(),
): TestProvisioning {
  const shared = openSharedServer(adminServer(adminUrl));
  const locks = openControlPlane(controlPlane.url, { applicationName: "test-locks" });
  const engines = createEngines({
    masterKey: TEST_MASTER_KEY,
    sharedServers: [shared],
    computeHosts,
  });
  return {
    sql: controlPlane.sql,
    locks,
    engines,
    log: silentLog,
    shared,
    async [Symbol.asyncDispose]() {
      await Promise.all([shared.close(), locks.end({ timeout: 1 })]);
    },
  };
}

export function adminServer(adminUrl: string, name = "main"): AdminServer {
  const server = parseAdminServer(`${name}=${adminUrl}`);
  if (server === null) throw new Error("The test server's URL is malformed.");
  return server;
}

export async function newOrg(sql: Sql, tier: Tier = "PRO"): Promise<OrgId> {
  const { org } = await createOrg(sql, { name: "Test & Sons", tier }, TEST_ACTOR);
  return org.orgId;
}

/** A connection straight to a shared server as the role of an org, as O7s would log in. */
export function connectAsTenant(
  adminUrl: string,
  orgId: OrgId,
  database: string,
  generation = 1,
): Sql {
  const { address } = adminServer(adminUrl);
  if (address.transport !== "unix") throw new Error("Test servers listen on unix sockets.");
  return postgres({
    path: `${address.directory}/.s.PGSQL.${address.port}`,
    user: orgId,
    password: upstreamPassword(TEST_MASTER_KEY, orgId, generation),
    database,
    max: 1,
    fetch_types: false,
    onnotice: () => {},
    connect_timeout: 5,
  });
}

/** The SQLSTATE, or the driver's code, with which `act` fails; "no error" where it does not. */
export async function failureCode(act: PromiseLike<unknown>): Promise<string> {
  try {
    await act;
    return "no error";
  } catch (error) {
    return String((error as { code?: unknown }).code);
  }
}
