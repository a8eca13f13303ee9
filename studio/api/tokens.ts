/** Routes for the tokens of an org. */
import { Elysia } from "elysia";
import { createToken, listTokens, revokeToken } from "../../platform/control/tokens.ts";
import type { ApiParts } from "./parts.ts";
import { orgIdOf, tokenIdOf } from "./requests.ts";
import { answers, newTokenSchema, orgParams, tokenListSchema, tokenParams } from "./schemas.ts";
import { session } from "./session.ts";

export function tokenRoutes({ sql, operatorKey }: ApiParts) {
  return new Elysia({ prefix: "/orgs/:orgId/tokens", tags: ["tokens"] })
    .use(session(operatorKey))
    .post(
      "",
      async ({ params, actor, status }) => {
        const { tokenId, secret } = await createToken(sql, orgIdOf(params.orgId), actor);
        return status(201, { tokenId, token: secret });
      },
      {
        params: orgParams,
        response: answers(201, newTokenSchema),
        detail: { summary: "Create a token; those that exist stay valid" },
      },
    )
    .get(
      "",
      async ({ params }) => {
        const tokens = await listTokens(sql, orgIdOf(params.orgId));
        return {
          tokens: tokens.map((token) => ({
            tokenId: token.tokenId,
            prefix: token.prefix,
            createdAt: token.createdAt.toISOString(),
            revokedAt: token.revokedAt?.toISOString() ?? null,
          })),
        };
      },
      {
        params: orgParams,
        response: answers(200, tokenListSchema),
        detail: { summary: "List the tokens of an org, revoked ones included" },
      },
    )
    .delete(
      "/:tokenId",
      async ({ params, actor, set }) => {
        await revokeToken(sql, orgIdOf(params.orgId), tokenIdOf(params.tokenId), actor);
        set.status = 204;
      },
      {
        params: tokenParams,
        detail: {
          summary: "Revoke a token, for open sessions too",
          responses: { 204: { description: "Revoked." } },
        },
      },
    );
}
