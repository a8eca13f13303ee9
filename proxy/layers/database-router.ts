/**
 * Layer 5, database router: from a database's name to the server behind it, waking it if it sleeps.
 * A route is found once per connection; whether it is open is asked before each query, without
 * waiting where it is.
 */
import type { Database, DatabaseKind } from "../../platform/databases.ts";
import type { AdminServer, ServerAddress } from "../../platform/endpoints.ts";
import { type DatabaseId, parseDatabaseId } from "../../platform/ids.ts";
import { networksAllow, plainAddress } from "../../platform/networks.ts";
import type { Tenant } from "../../platform/tenants.ts";
import { type MasterKey, upstreamPassword } from "../../platform/upstream-credentials.ts";
import type { ComputeLease, ComputeLeases } from "../compute-leases.ts";
import {
  type Denial,
  databaseNotReady,
  networkNotAllowed,
  unknownDatabase,
  upstreamUnavailable,
  wrongKind,
} from "../denial.ts";

/** Where to connect, and as whom. */
export type UpstreamTarget = {
  readonly address: ServerAddress;
  readonly databaseName: string;
  readonly roleName: string;
  readonly password: string;
  /**
   * Which life of the server this is; connections to an earlier one are dead. Always 0 on shared
   * servers.
   */
  readonly generation: number;
};

export type Route = {
  readonly database: Database;
  /** Set where the database is a compute, which sleeps. */
  readonly lease: ComputeLease | null;
  /** The target, if a query may be sent to it now. */
  open(nowMs: number): UpstreamTarget | null;
  /** The target once it is up. */
  wake(): Promise<UpstreamTarget | Denial>;
};

export type RouteClient = {
  readonly address: string;
  readonly kinds: readonly DatabaseKind[];
};

export type DatabaseRouter = {
  /** `client` is who asks: its address, and the kinds of database that its protocol can serve. */
  resolve(tenant: Tenant, name: string, client: RouteClient): Route | Denial;
};

export type DatabaseRouterOptions = {
  readonly servers: readonly AdminServer[];
  readonly leases: ComputeLeases;
  readonly masterKey: MasterKey;
};

export function createDatabaseRouter(options: DatabaseRouterOptions): DatabaseRouter {
  return {
    resolve(tenant, name, { address, kinds }) {
      const database = tenant.databases.get(name);
      if (database === undefined) return unknownDatabase(name);
      const refused = verifyNetwork(database, address);
      if (refused !== null) return refused;
      if (!kinds.includes(database.kind)) return wrongKind(database);
      if (database.status !== "ready" || database.endpoint === null) {
        return databaseNotReady(database);
      }
      const { endpoint } = database;
      const login = {
        databaseName: endpoint.databaseName,
        roleName: endpoint.roleName,
        password: upstreamPassword(
          options.masterKey,
          endpoint.roleName,
          tenant.credentialGeneration,
        ),
      };
      if (endpoint.via === "compute") {
        const computeId = parseDatabaseId(endpoint.computeId);
        return computeId === null
          ? upstreamUnavailable(`malformed compute id ${endpoint.computeId}`)
          : computeRoute(options.leases, database, endpoint.host, computeId, tenant, login);
      }
      const server = options.servers.find((candidate) => candidate.name === endpoint.server);
      if (server === undefined) {
        return upstreamUnavailable(`server ${endpoint.server} is not in SHARED_POSTGRES_URLS`);
      }
      const target = { ...login, address: server.address, generation: 0 };
      return { database, lease: null, open: () => target, wake: () => Promise.resolve(target) };
    },
  };
}

/**
 * Null when a client with this address may use the database: asked at login, and again whenever
 * that changes.
 */
export function verifyNetwork(database: Database, address: string): Denial | null {
  return networksAllow(database.allowedNetworks, address)
    ? null
    : networkNotAllowed(plainAddress(address), database);
}

function computeRoute(
  leases: ComputeLeases,
  database: Database,
  host: string,
  computeId: DatabaseId,
  tenant: Tenant,
  login: Pick<UpstreamTarget, "databaseName" | "roleName" | "password">,
): Route | Denial {
  // Looked up each time: a lease that nobody used has been forgotten, and there is one for all
  // sessions.
  const find = (): ComputeLease | null => leases.lease(host, computeId);
  const first = find();
  if (first === null) return upstreamUnavailable(`host ${host} is not in COMPUTE_HOST_URLS`);
  first.idleMs = tenant.limits.computeIdleMs;
  const current = (): ComputeLease => {
    const lease = find() ?? first;
    if (lease !== first) lease.idleMs = first.idleMs;
    return lease;
  };
  let target: UpstreamTarget | null = null;
  const targetOf = (running: { address: ServerAddress; generation: number }): UpstreamTarget => {
    if (target === null || target.generation !== running.generation) {
      target = { ...login, ...running };
    }
    return target;
  };
  return {
    database,
    get lease() {
      return current();
    },
    open(nowMs) {
      const running = current().use(nowMs);
      return running === null ? null : targetOf(running);
    },
    async wake() {
      const running = await current().wake();
      return "code" in running ? running : targetOf(running);
    },
  };
}
