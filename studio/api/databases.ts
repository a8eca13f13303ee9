/** Routes for the databases of an org. */
import { Elysia, t } from "elysia";
import {
  type DatabaseRecord,
  getDatabase,
  listDatabases,
  setAllowedNetworks,
} from "../../platform/control/databases.ts";
import { orgLimits } from "../../platform/control/org-record.ts";
import { getOrg } from "../../platform/control/orgs.ts";
import { databaseAddress } from "../../platform/databases.ts";
import { createDatabase, dropDatabase } from "../../platform/provisioning.ts";
import type { ApiParts } from "./parts.ts";
import { ApiError } from "./problems.ts";
import { kindOf, orgIdOf } from "./requests.ts";
import {
  answers,
  computeSchema,
  databaseListSchema,
  databaseNameField,
  databaseParams,
  databaseSchema,
  kindField,
  networksField,
  orgParams,
} from "./schemas.ts";
import { session } from "./session.ts";

const WAKE_DEADLINE_MS = 30_000;

export function databaseRoutes(parts: ApiParts) {
  const { sql, proxy, operatorKey, provisioning } = parts;
  return new Elysia({ prefix: "/orgs/:orgId/databases", tags: ["databases"] })
    .use(session(operatorKey))
    .post(
      "",
      async ({ params, body, actor, status }) => {
        const orgId = orgIdOf(params.orgId);
        const request = { orgId, name: body.name, kind: kindOf(body.kind) };
        return status(201, shown(await createDatabase(provisioning, request, actor), proxy));
      },
      {
        params: orgParams,
        parse: "json",
        body: t.Object({ name: databaseNameField, kind: kindField }),
        response: answers(201, databaseSchema),
        detail: {
          summary: "Create a database; answers when it can be connected to",
          description: "May be repeated: the same name and kind answer with the same database.",
        },
      },
    )
    .get(
      "",
      async ({ params }) => {
        const databases = await listDatabases(sql, orgIdOf(params.orgId));
        return { databases: databases.map((database) => shown(database, proxy)) };
      },
      {
        params: orgParams,
        response: answers(200, databaseListSchema),
        detail: { summary: "List the databases of an org" },
      },
    )
    .get(
      "/:name",
      async ({ params }) =>
        shown(await getDatabase(sql, orgIdOf(params.orgId), params.name), proxy),
      {
        params: databaseParams,
        response: answers(200, databaseSchema),
        detail: { summary: "Show a database" },
      },
    )
    .delete(
      "/:name",
      async ({ params, actor, set }) => {
        const request = { orgId: orgIdOf(params.orgId), address: params.name };
        await dropDatabase(provisioning, request, actor);
        set.status = 204;
      },
      {
        params: databaseParams,
        detail: {
          summary: "Drop a database; answers when nothing of it is left",
          responses: { 204: { description: "Dropped." } },
        },
      },
    )
    .use(networkRoutes(parts))
    .use(computeRoutes(parts));
}

/** From where clients may come. */
function networkRoutes({ sql, proxy, operatorKey }: ApiParts) {
  return new Elysia().use(session(operatorKey)).put(
    "/:name/networks",
    async ({ params, body, actor }) => {
      const { networks } = body;
      const request = { orgId: orgIdOf(params.orgId), address: params.name, networks };
      return shown(await setAllowedNetworks(sql, request, actor), proxy);
    },
    {
      params: databaseParams,
      parse: "json",
      body: t.Object({ networks: networksField }),
      response: answers(200, databaseSchema),
      detail: { summary: "Say from which networks clients may come; sessions from others end" },
    },
  );
}

/** Sleeping and waking, of databases that can. */
function computeRoutes(parts: ApiParts) {
  const { sql, operatorKey } = parts;
  return new Elysia()
    .use(session(operatorKey))
    .post(
      "/:name/suspend",
      async ({ params }) => {
        const { database, host, endpoint } = await computeOf(parts, params);
        await host.suspend(endpoint.computeId);
        return { databaseId: database.databaseId, name: params.name, state: "stopped" };
      },
      {
        params: databaseParams,
        response: answers(200, computeSchema),
        detail: { summary: "Stop a scale-to-zero database now; the next query wakes it" },
      },
    )
    .post(
      "/:name/wake",
      async ({ params }) => {
        const { database, host, endpoint } = await computeOf(parts, params);
        // It stays up for as long as it would after a query.
        const { computeIdleMs } = orgLimits(await getOrg(sql, database.orgId));
        await host.wake(endpoint.computeId, {
          holder: "studio",
          leaseMs: computeIdleMs,
          deadlineMs: WAKE_DEADLINE_MS,
        });
        return { databaseId: database.databaseId, name: params.name, state: "running" };
      },
      {
        params: databaseParams,
        response: answers(200, computeSchema),
        detail: { summary: "Start a scale-to-zero database before its first query" },
      },
    );
}

async function computeOf(parts: ApiParts, params: { orgId: string; name: string }) {
  const database = await getDatabase(parts.sql, orgIdOf(params.orgId), params.name);
  const { endpoint } = database;
  if (database.kind !== "neon") {
    throw new ApiError(
      "not_applicable",
      `A database of kind ${database.kind} neither sleeps nor wakes: it is always up.`,
    );
  }
  if (database.status !== "ready" || endpoint?.via !== "compute") {
    throw new ApiError("database_busy", `Database ${params.name} is ${database.status}.`);
  }
  const host = parts.computeHosts.get(endpoint.host);
  if (host === undefined) {
    throw new ApiError("unavailable", "The database's compute host is not configured.");
  }
  return { database, host, endpoint: { computeId: database.databaseId } };
}

function shown(database: DatabaseRecord, proxy: ApiParts["proxy"]): typeof databaseSchema.static {
  const host = proxy.host.includes(":") ? `[${proxy.host}]` : proxy.host;
  const address = databaseAddress(database);
  return {
    databaseId: database.databaseId,
    orgId: database.orgId,
    name: database.name,
    branch: database.branch,
    kind: database.kind,
    status: database.status,
    failureReason: database.failureReason,
    allowedNetworks: [...database.allowedNetworks],
    connectionString: `postgresql://${database.orgId}@${host}:${proxy.postgresPort}/${address}`,
    createdAt: database.createdAt.toISOString(),
  };
}
