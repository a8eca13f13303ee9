/** Routes for orgs. */
import { Elysia, t } from "elysia";
import { type Org, orgLimits } from "../../platform/control/org-record.ts";
import {
  createOrg,
  getOrg,
  listOrgs,
  setLimits,
  setOrgStatus,
  setTier,
} from "../../platform/control/orgs.ts";
import { applyOrgLimits } from "../../platform/provisioning.ts";
import type { ApiParts } from "./parts.ts";
import { orgIdOf, pageLimitOf, tierOf } from "./requests.ts";
import {
  answers,
  newOrgSchema,
  orgNameField,
  orgPageSchema,
  orgParams,
  orgSchema,
  tierField,
} from "./schemas.ts";
import { session } from "./session.ts";

const PAGE_MAX = 500;

export function orgRoutes({ sql, operatorKey, provisioning }: ApiParts) {
  return new Elysia({ prefix: "/orgs", tags: ["orgs"] })
    .use(session(operatorKey))
    .post(
      "",
      async ({ body, actor, status }) => {
        const request = { name: body.name, tier: tierOf(body.tier) };
        const { org, token } = await createOrg(sql, request, actor);
        return status(201, { ...shown(org), tokenId: token.tokenId, token: token.secret });
      },
      {
        parse: "json",
        body: t.Object({ name: orgNameField, tier: tierField }),
        response: answers(201, newOrgSchema),
        detail: { summary: "Create an org, with a first token" },
      },
    )
    .get(
      "",
      async ({ query }) => {
        const limit = query.limit === undefined ? PAGE_MAX : pageLimitOf(query.limit, PAGE_MAX);
        const after = query.after === undefined ? null : orgIdOf(query.after);
        const orgs = await listOrgs(sql, { after, limit });
        const last = orgs.length === limit ? orgs.at(-1) : undefined;
        return { orgs: orgs.map(shown), next: last?.orgId ?? null };
      },
      {
        query: t.Object({
          after: t.Optional(t.String({ maxLength: 200 })),
          limit: t.Optional(
            t.String({
              maxLength: 20,
              description: `From 1 to ${PAGE_MAX}, which is the default.`,
            }),
          ),
        }),
        response: answers(200, orgPageSchema),
        detail: { summary: "List orgs, oldest first" },
      },
    )
    .get("/:orgId", async ({ params }) => shown(await getOrg(sql, orgIdOf(params.orgId))), {
      params: orgParams,
      response: answers(200, orgSchema),
      detail: { summary: "Show an org" },
    })
    .put(
      "/:orgId/tier",
      async ({ params, body, actor }) => {
        const org = await setTier(sql, orgIdOf(params.orgId), tierOf(body.tier), actor);
        await applyOrgLimits(provisioning, org.orgId);
        return shown(org);
      },
      {
        params: orgParams,
        parse: "json",
        body: t.Object({ tier: tierField }),
        response: answers(200, orgSchema),
        detail: { summary: "Move an org to another tier" },
      },
    )
    .use(contractRoutes({ sql, operatorKey }));
}

/** What only a contract or an operator's decision changes. */
function contractRoutes({ sql, operatorKey }: Pick<ApiParts, "sql" | "operatorKey">) {
  const limit = (description: string) =>
    t.Optional(t.Union([t.Integer({ description }), t.Null()]));
  return new Elysia()
    .use(session(operatorKey))
    .patch(
      "/:orgId/limits",
      async ({ params, body, actor }) =>
        shown(await setLimits(sql, orgIdOf(params.orgId), body, actor)),
      {
        params: orgParams,
        parse: "json",
        body: t.Object(
          { connections: limit("Connections at most."), limitQps: limit("Queries per second.") },
          { minProperties: 1, description: "Null gives the tier's own limit back." },
        ),
        response: answers(200, orgSchema),
        detail: { summary: "Change the limits of an org by contract" },
      },
    )
    .post(
      "/:orgId/suspend",
      async ({ params, actor }) =>
        shown(await setOrgStatus(sql, orgIdOf(params.orgId), "suspended", actor)),
      {
        params: orgParams,
        response: answers(200, orgSchema),
        detail: { summary: "Suspend an org: it can connect to nothing, and keeps everything" },
      },
    )
    .post(
      "/:orgId/resume",
      async ({ params, actor }) =>
        shown(await setOrgStatus(sql, orgIdOf(params.orgId), "active", actor)),
      {
        params: orgParams,
        response: answers(200, orgSchema),
        detail: { summary: "Let a suspended org connect again" },
      },
    );
}

function shown(org: Org): typeof orgSchema.static {
  const limits = orgLimits(org);
  return {
    orgId: org.orgId,
    name: org.name,
    tier: org.tier,
    status: org.status,
    limits: {
      connections: limits.connections,
      limitQps: limits.limitQps,
      databases: limits.databases,
      statementTimeoutMs: limits.statementTimeoutMs,
      idleInTransactionTimeoutMs: limits.idleInTransactionTimeoutMs,
      workMemBytes: limits.workMemBytes,
      tempFileLimitBytes: limits.tempFileLimitBytes,
      queryCostMax: limits.queryCostMax,
      computeIdleMs: limits.computeIdleMs,
    },
    overrides: {
      connections: org.overrides.connections ?? null,
      limitQps: org.overrides.limitQps ?? null,
    },
    createdAt: org.createdAt.toISOString(),
  };
}
