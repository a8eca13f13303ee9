/** Shapes of what the API takes and gives, for validation and for its OpenAPI document. */
import { t } from "elysia";
import { DATABASE_KINDS } from "../../platform/databases.ts";
import { DATABASE_NAME_RULE, ORG_NAME_RULE } from "../../platform/ids.ts";
import { NETWORK_RULE, NETWORKS_MAX } from "../../platform/networks.ts";
import { TIERS } from "../../platform/tiers.ts";

/**
 * Bounds only what is looked at: the rules of names are checked, and explained, where names are
 * used.
 */
const text = (description: string, extra: Record<string, unknown> = {}) =>
  t.String({ maxLength: 200, description, ...extra });
const time = (description: string) => t.String({ format: "date-time", description });
const nullable = <T extends Parameters<typeof t.Union>[0][number]>(schema: T) =>
  t.Union([schema, t.Null()]);

export const tierField = text("The tier.", { enum: [...TIERS] });
export const kindField = text("The kind of database.", { enum: [...DATABASE_KINDS] });
export const orgNameField = text(ORG_NAME_RULE);
export const databaseNameField = text(DATABASE_NAME_RULE);

export const orgParams = t.Object({ orgId: text("The org's id, `org_…`.") });
export const tokenParams = t.Object({
  orgId: text("The org's id, `org_…`."),
  tokenId: text("The token's id, `tok_…`."),
});
export const databaseParams = t.Object({
  orgId: text("The org's id, `org_…`."),
  name: text("The database's name, or `name@branch`."),
});

export const problemSchema = t.Object(
  {
    error: t.Object({
      code: t.String({ description: "Stable; programs may depend on it." }),
      message: t.String({ description: "What happened and what to do, for people." }),
      requestId: t.String({ description: "To be quoted to operators; also in `x-request-id`." }),
    }),
  },
  { description: "A refusal." },
);

/** The answers of a route: its own for a success, and the refusals that any route may give. */
export function answers<Status extends number, Success>(status: Status, success: Success) {
  const refusals = {
    400: problemSchema,
    401: problemSchema,
    404: problemSchema,
    409: problemSchema,
    413: problemSchema,
    422: problemSchema,
    500: problemSchema,
    502: problemSchema,
    503: problemSchema,
  } as const;
  return { ...refusals, [status]: success } as typeof refusals & Record<Status, Success>;
}

export const orgSchema = t.Object({
  orgId: t.String(),
  name: t.String(),
  tier: t.String(),
  status: t.String({ description: "`active` or `suspended`." }),
  limits: t.Object(
    {
      connections: t.Number(),
      limitQps: t.Number({ description: "Queries per second." }),
      databases: t.Number(),
      statementTimeoutMs: t.Number(),
      idleInTransactionTimeoutMs: t.Number(),
      workMemBytes: t.Number(),
      tempFileLimitBytes: t.Number({ description: "Temporary files of one session." }),
      queryCostMax: nullable(
        t.Number({ description: "By the planner's estimate; null where there is no bound." }),
      ),
      computeIdleMs: t.Number(),
    },
    { description: "In force: the tier's, as the contract changed them." },
  ),
  overrides: t.Object(
    { connections: nullable(t.Number()), limitQps: nullable(t.Number()) },
    { description: "What the contract changed; null where the tier's limit is in force." },
  ),
  createdAt: time("When the org was created."),
});

export const newTokenSchema = t.Object({
  tokenId: t.String(),
  token: t.String({ description: "The secret. It is shown here and never again." }),
});

export const newOrgSchema = t.Composite([orgSchema, newTokenSchema]);

export const orgPageSchema = t.Object({
  orgs: t.Array(orgSchema),
  next: nullable(t.String({ description: "Pass it as `after` for the next page." })),
});

export const tokenSchema = t.Object({
  tokenId: t.String(),
  prefix: t.String({ description: "The first characters of the secret." }),
  createdAt: time("When the token was created."),
  revokedAt: nullable(time("When the token was revoked.")),
});

export const tokenListSchema = t.Object({ tokens: t.Array(tokenSchema) });

export const databaseSchema = t.Object({
  databaseId: t.String(),
  orgId: t.String(),
  name: t.String(),
  branch: nullable(t.String()),
  kind: t.String(),
  status: t.String({ description: "`provisioning`, `ready`, `failed` or `dropping`." }),
  failureReason: nullable(t.String({ description: "What went wrong last." })),
  allowedNetworks: t.Array(t.String(), {
    description: "From where clients may come, in CIDR notation; empty: from everywhere.",
  }),
  connectionString: t.String({
    description: "Without a password: the client passes a token as its password.",
  }),
  createdAt: time("When the database was created."),
});

export const networksField = t.Array(text(NETWORK_RULE), {
  maxItems: NETWORKS_MAX,
  description: "Empty lets clients come from everywhere.",
});

export const databaseListSchema = t.Object({ databases: t.Array(databaseSchema) });

export const computeSchema = t.Object({
  databaseId: t.String(),
  name: t.String(),
  state: t.String({ description: "`running` or `stopped`." }),
});

const figures = {
  queries: t.Number(),
  rows: t.Number(),
  bytesIn: t.Number(),
  bytesOut: t.Number(),
  busyMs: t.Number({ description: "Execution time without the client's own stalls." }),
  computeSeconds: t.Number({ description: "Life of scale-to-zero processes." }),
};

export const usageSchema = t.Object({
  orgId: t.String(),
  period: t.String({ description: "A month in UTC, e.g. `2026-11`." }),
  complete: t.Boolean({
    description: "False when a part of the platform that counts did not answer in time.",
  }),
  quantities: t.Object(figures),
  byDatabase: t.Array(
    t.Object({
      databaseId: t.String(),
      name: nullable(t.String({ description: "Null once it has been dropped." })),
      ...figures,
    }),
  ),
});
