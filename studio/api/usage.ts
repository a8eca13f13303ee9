/** The route for an org's usage. */
import { Elysia, t } from "elysia";
import { getOrg } from "../../platform/control/orgs.ts";
import { flushUsage } from "../../platform/usage/flush.ts";
import { periodOf, readUsage } from "../../platform/usage/report.ts";
import type { ApiParts } from "./parts.ts";
import { orgIdOf, periodOfRequest } from "./requests.ts";
import { answers, orgParams, usageSchema } from "./schemas.ts";
import { session } from "./session.ts";

/** Long enough for a proxy that is just coming back to report for the one that was killed. */
const FLUSH_DEADLINE_MS = 5_000;

export function usageRoutes({ sql, operatorKey, now }: ApiParts) {
  return new Elysia({ prefix: "/orgs/:orgId/usage", tags: ["usage"] })
    .use(session(operatorKey))
    .get(
      "",
      async ({ params, query }) => {
        const { orgId } = await getOrg(sql, orgIdOf(params.orgId));
        const period = query.period === undefined ? periodOf(now()) : periodOfRequest(query.period);
        const { complete } = await flushUsage(sql, FLUSH_DEADLINE_MS);
        const report = await readUsage(sql, orgId, period);
        return { ...report, byDatabase: [...report.byDatabase], complete };
      },
      {
        params: orgParams,
        query: t.Object({ period: t.Optional(t.String({ maxLength: 20 })) }),
        response: answers(200, usageSchema),
        detail: { summary: "What an org has used in a period, up to this moment" },
      },
    );
}
