/** Tokens in the control plane: what is kept of a secret, never the secret. */
import type { Sql, TransactionSql } from "postgres";
import { newTokenId, type OrgId, type TokenId } from "../ids.ts";
import { deriveKeys, type ScramParameters } from "../scram.ts";
import { newTokenSecret, tokenPrefix, tokenSha256 } from "../tokens.ts";
import { type Actor, writeAudit } from "./audit.ts";
import { PlatformError } from "./errors.ts";
import { lockOrg, orgNotFound } from "./org-record.ts";

/**
 * Each login's proof is checked against every valid token of the org, so their number has a bound.
 */
export const TOKENS_MAX = 20;

export type Token = {
  readonly tokenId: TokenId;
  readonly prefix: string;
  readonly createdAt: Date;
  readonly revokedAt: Date | null;
};

export type NewToken = {
  readonly tokenId: TokenId;
  /** Shown once: it cannot be found out again. */
  readonly secret: string;
};

/** Throws `org_not_found`, and `token_limit` when the org has as many valid tokens as it may. */
export async function createToken(sql: Sql, orgId: OrgId, actor: Actor): Promise<NewToken> {
  return await sql.begin(async (tx) => {
    const { scram } = await lockOrg(tx, orgId);
    const [valid] = await tx<{ count: number }[]>`
      SELECT count(*)::int AS count FROM token WHERE org_id = ${orgId} AND revoked_at IS NULL`;
    if ((valid?.count ?? 0) >= TOKENS_MAX) {
      throw new PlatformError(
        "token_limit",
        `An org has at most ${TOKENS_MAX} valid tokens. Revoke one that is no longer used.`,
      );
    }
    return await insertToken(tx, { orgId, scram }, actor);
  });
}

/** Makes a token and records it. The caller holds the org's row lock, or has just created it. */
export async function insertToken(
  tx: TransactionSql,
  org: { readonly orgId: OrgId; readonly scram: ScramParameters },
  actor: Actor,
): Promise<NewToken> {
  const tokenId = newTokenId();
  const secret = newTokenSecret();
  const keys = deriveKeys(secret, org.scram);
  await tx`
    INSERT INTO token (token_id, org_id, prefix, sha256, stored_key, server_key)
    VALUES (${tokenId}, ${org.orgId}, ${tokenPrefix(secret)}, ${tokenSha256(secret)},
      ${keys.storedKey}, ${keys.serverKey})`;
  await writeAudit(tx, actor, { action: "token.create", orgId: org.orgId, subject: tokenId });
  return { tokenId, secret };
}

/** All tokens of an org, revoked ones included, oldest first. Throws `org_not_found`. */
export async function listTokens(sql: Sql, orgId: OrgId): Promise<readonly Token[]> {
  const rows = await sql<
    {
      token_id: string | null;
      prefix: string;
      created_at: Date;
      revoked_at: Date | null;
    }[]
  >`
    SELECT t.token_id, t.prefix, t.created_at, t.revoked_at
    FROM org LEFT JOIN token t USING (org_id)
    WHERE org_id = ${orgId} ORDER BY t.created_at, t.token_id`;
  if (rows.length === 0) throw orgNotFound(orgId);
  return rows.flatMap((row) =>
    row.token_id === null
      ? []
      : [
          {
            tokenId: row.token_id as TokenId,
            prefix: row.prefix,
            createdAt: row.created_at,
            revokedAt: row.revoked_at,
          },
        ],
  );
}

/**
 * Ends a token, for open sessions too. Revoking it again changes nothing. Throws
 * `token_not_found`.
 */
export async function revokeToken(
  sql: Sql,
  orgId: OrgId,
  tokenId: TokenId,
  actor: Actor,
): Promise<void> {
  await sql.begin(async (tx) => {
    const [token] = await tx<{ revoked_at: Date | null }[]>`
      SELECT revoked_at FROM token WHERE token_id = ${tokenId} AND org_id = ${orgId} FOR UPDATE`;
    if (token === undefined) {
      throw new PlatformError("token_not_found", `Org ${orgId} has no token ${tokenId}.`);
    }
    if (token.revoked_at !== null) return;
    await tx`UPDATE token SET revoked_at = now() WHERE token_id = ${tokenId}`;
    await writeAudit(tx, actor, { action: "token.revoke", orgId, subject: tokenId });
  });
}
