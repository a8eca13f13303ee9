/**
 * The platform's data path for tests: a control plane, a shared server, a compute host and O7s, all real and of their own.
 * Orgs and databases are made by the platform's own code, as Studio does it.
 */
import { randomBytes } from "node:crypto";
import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import type { Sql } from "postgres";
import { createComputeHostClient } from "../../platform/compute-host-client.ts";
import { migrate } from "../../platform/control/migrate.ts";
import { createOrg, setLimits } from "../../platform/control/orgs.ts";
import type { DatabaseKind } from "../../platform/databases.ts";
import {
  parseAdminServer,
  parseAdminServers,
  parseComputeHosts,
} from "../../platform/endpoints.ts";
import { createEngines } from "../../platform/engines/registry.ts";
import { prepareServer } from "../../platform/engines/server-preparation.ts";
import { openSharedServer } from "../../platform/engines/shared-server.ts";
import type { DatabaseId, OrgId } from "../../platform/ids.ts";
import { silentLog } from "../../platform/log.ts";
import { openPostgres } from "../../platform/postgres-client.ts";
import { createDatabase } from "../../platform/provisioning.ts";
import type { LimitOverrides, Tier } from "../../platform/tiers.ts";
import { parseMasterKey } from "../../platform/upstream-credentials.ts";
import { startPostgres, type TestPostgres } from "./postgres-server.ts";
import { type Service, startService } from "./service.ts";

export type TestOrg = { readonly orgId: OrgId; readonly token: string };

export type TestPlatform = {
  readonly sql: Sql;
  readonly shared: TestPostgres;
  readonly control: TestPostgres;
  /** The newest O7s; `restartProxy` replaces it. */
  readonly proxy: Service;
  readonly postgresPort: number;
  readonly httpPort: number;
  readonly environment: Readonly<Record<string, string>>;
  restartProxy(environment?: Readonly<Record<string, string>>): Promise<void>;
  createOrg(tier: Tier, limits?: LimitOverrides): Promise<TestOrg>;
  createDatabase(org: TestOrg, name: string, kind?: DatabaseKind): Promise<DatabaseId>;
  /** A connection string with the token in it. */
  url(org: TestOrg, database: string, query?: string): string;
  [Symbol.asyncDispose](): Promise<void>;
};

const ACTOR = { name: "tests", requestId: null };

export async function startPlatform(
  options: {
    readonly computes?: boolean;
    readonly environment?: Readonly<Record<string, string>>;
  } = {},
): Promise<TestPlatform> {
  const home = mkdtempSync(path.join(tmpdir(), "ogel-t-"));
  chmodSync(home, 0o711); // The servers' user has to get to its own directories in it.
  const [control, shared] = await Promise.all([startPostgres(), startPostgres()]);
  const masterKey = randomBytes(32).toString("hex");
  const computeHost = options.computes === true ? await startComputeHost(home, control) : null;
  const environment: Record<string, string> = {
    DATABASE_URL: control.adminUrl,
    SHARED_POSTGRES_URLS: `main=${shared.adminUrl}`,
    OGEL_MASTER_KEY: masterKey,
    O7S_DATA_DIR: path.join(home, "o7s"),
    O7S_POSTGRES_PORT: "0",
    O7S_HTTP_PORT: "0",
    ...computeHost?.environment,
    ...options.environment,
  };
  const sql = openPostgres(required(parseAdminServer(control.adminUrl)), {
    applicationName: "tests",
    connectionsMax: 4,
  });
  await migrate(sql);
  const sharedServers = required(parseAdminServers(environment["SHARED_POSTGRES_URLS"] ?? "")).map(
    openSharedServer,
  );
  for (const server of sharedServers) await prepareServer(server);
  const hosts = parseComputeHosts(environment["COMPUTE_HOST_URLS"] ?? "") ?? [];
  const secret = environment["COMPUTE_HOST_SECRET"] ?? "";
  const engines = createEngines({
    masterKey: required(parseMasterKey(masterKey)),
    sharedServers,
    computeHosts: new Map(
      hosts.map((address) => [address.name, createComputeHostClient({ address, secret })]),
    ),
  });
  const provisioning = { sql, locks: sql, engines, log: silentLog };
  let proxy = await startService("proxy/main.ts", environment, "started");

  return {
    sql,
    shared,
    control,
    environment,
    get proxy() {
      return proxy;
    },
    get postgresPort() {
      return Number(proxy.started["postgresPort"]);
    },
    get httpPort() {
      return Number(proxy.started["httpPort"]);
    },
    async restartProxy(changes = {}) {
      proxy = await startService("proxy/main.ts", { ...environment, ...changes }, "started");
    },
    async createOrg(tier, limits) {
      const { org, token } = await createOrg(sql, { name: "test", tier }, ACTOR);
      if (limits !== undefined) await setLimits(sql, org.orgId, limits, ACTOR);
      return { orgId: org.orgId, token: token.secret };
    },
    async createDatabase(org, name, kind = "postgres") {
      const request = { orgId: org.orgId, name, kind };
      return (await createDatabase(provisioning, request, ACTOR)).databaseId;
    },
    url(org, database, query = "") {
      const port = Number(proxy.started["postgresPort"]);
      return `postgresql://${org.orgId}:${org.token}@127.0.0.1:${port}/${database}${query}`;
    },
    async [Symbol.asyncDispose]() {
      await proxy.kill();
      await computeHost?.service.stop();
      await sql.end({ timeout: 1 });
      for (const server of sharedServers) await server.close();
      await Promise.all([control.stop(), shared.stop()]);
      rmSync(home, { recursive: true, force: true });
    },
  };
}

async function startComputeHost(
  home: string,
  control: TestPostgres,
): Promise<{ service: Service; environment: Readonly<Record<string, string>> }> {
  const secret = randomBytes(16).toString("hex");
  const socket = path.join(home, "computes.sock");
  const service = await startService(
    "computes/main.ts",
    {
      COMPUTE_DATA_DIR: path.join(home, "computes"),
      COMPUTE_LISTEN: `unix:${socket}`,
      COMPUTE_HOST_SECRET: secret,
      DATABASE_URL: control.adminUrl,
    },
    "listening",
  );
  const environment = {
    COMPUTE_HOST_URLS: `local=unix:${socket}`,
    COMPUTE_HOST_SECRET: secret,
  };
  return { service, environment };
}

function required<T>(value: T | null): T {
  if (value === null) throw new Error("malformed test configuration");
  return value;
}
