/**
 * The platform's data path on servers that are already there: the control plane's schema, a
 * prepared shared server, O7s and, where asked for, a compute host, all real. Orgs and databases
 * are made by the platform's own code, as Studio does it.
 */
import { randomBytes } from "node:crypto";
import path from "node:path";
import type { Sql } from "postgres";
import type { ComputeHost } from "../../platform/compute-host.ts";
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
import { type Service, startService } from "./service.ts";

export type StageOrg = { readonly orgId: OrgId; readonly token: string };

export type Stage = {
  /** The control plane. */
  readonly sql: Sql;
  /** The newest O7s; `restartProxy` replaces it. */
  readonly proxy: Service;
  readonly postgresPort: number;
  readonly httpPort: number;
  /** What O7s was started with; `OGEL_MASTER_KEY` among it. */
  readonly environment: Readonly<Record<string, string>>;
  /** Set where it was asked for. */
  readonly computes: { readonly host: ComputeHost; readonly service: Service } | null;
  restartProxy(changes?: Readonly<Record<string, string>>): Promise<void>;
  createOrg(tier: Tier, limits?: LimitOverrides): Promise<StageOrg>;
  createDatabase(org: StageOrg, name: string, kind?: DatabaseKind): Promise<DatabaseId>;
  /** A connection string with the token in it. */
  url(org: StageOrg, database: string, query?: string): string;
};

export type StageOptions = {
  /** Holds the services' data. */
  readonly home: string;
  /** Servers in the form that `parseAdminServer` reads. */
  readonly controlUrl: string;
  readonly sharedUrl: string;
  readonly computes: boolean;
  /** In addition, for O7s. */
  readonly environment?: Readonly<Record<string, string>>;
  /** Given the end of each part as soon as it is there; to be called last to first. */
  readonly defer: (end: () => Promise<void>) => void;
};

const ACTOR = { name: "stage", requestId: null };

/**
 * Rejects with what a service wrote where one does not come up. The servers stay whoever's who
 * brought them.
 */
export async function startStage(options: StageOptions): Promise<Stage> {
  const { defer } = options;
  const sql = openPostgres(required(parseAdminServer(options.controlUrl)), {
    applicationName: "ogel-stage",
    connectionsMax: 4,
  });
  defer(() => sql.end({ timeout: 1 }));
  await migrate(sql);
  const computes = options.computes ? await startComputeHost(options) : null;
  const masterKey = randomBytes(32).toString("hex");
  const environment: Record<string, string> = {
    DATABASE_URL: options.controlUrl,
    SHARED_POSTGRES_URLS: `main=${options.sharedUrl}`,
    OGEL_MASTER_KEY: masterKey,
    O7S_DATA_DIR: path.join(options.home, "o7s"),
    O7S_POSTGRES_PORT: "0",
    O7S_HTTP_PORT: "0",
    O7S_WORKERS: "1",
    O7S_DRAIN_MS: "1000",
    ...computes?.environment,
    ...options.environment,
  };
  const sharedServers = required(parseAdminServers(`main=${options.sharedUrl}`)).map(
    openSharedServer,
  );
  for (const server of sharedServers) {
    defer(() => server.close());
    await prepareServer(server);
  }
  const engines = createEngines({
    masterKey: required(parseMasterKey(masterKey)),
    sharedServers,
    computeHosts: computes === null ? new Map() : new Map([[computes.name, computes.host]]),
  });
  const provisioning = { sql, locks: sql, engines, log: silentLog };
  let proxy = await startService("proxy/main.ts", environment, "started");
  defer(() => proxy.kill());

  return {
    sql,
    environment,
    computes,
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
      const { org, token } = await createOrg(sql, { name: "stage", tier }, ACTOR);
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
  };
}

type StartedComputes = {
  readonly name: string;
  readonly host: ComputeHost;
  readonly service: Service;
  /** By which O7s finds it. */
  readonly environment: Readonly<Record<string, string>>;
};

async function startComputeHost(options: StageOptions): Promise<StartedComputes> {
  const secret = randomBytes(16).toString("hex");
  const socket = path.join(options.home, "computes.sock");
  const service = await startService(
    "computes/main.ts",
    {
      COMPUTE_DATA_DIR: path.join(options.home, "computes"),
      COMPUTE_LISTEN: `unix:${socket}`,
      COMPUTE_HOST_SECRET: secret,
      DATABASE_URL: options.controlUrl,
    },
    "listening",
  );
  options.defer(() => service.stop());
  const addresses = required(parseComputeHosts(`local=unix:${socket}`));
  const address = required(addresses[0] ?? null);
  return {
    name: address.name,
    host: createComputeHostClient({ address, secret }),
    service,
    environment: { COMPUTE_HOST_URLS: `local=unix:${socket}`, COMPUTE_HOST_SECRET: secret },
  };
}

function required<T>(value: T | null): T {
  if (value === null) throw new Error("The stage was given a malformed address.");
  return value;
}
