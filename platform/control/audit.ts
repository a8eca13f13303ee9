/** The audit log: who did what. It is written in the transaction of the act itself. */
import type { TransactionSql } from "postgres";
import type { OrgId } from "../ids.ts";

export type Actor = {
  /** Who acts, e.g. `operator`. */
  readonly name: string;
  /** The request by which, to be found again in the logs; null for the platform's own work. */
  readonly requestId: string | null;
};

export type AuditEntry = {
  /** What was done, e.g. `org.suspend`. */
  readonly action: string;
  readonly orgId: OrgId;
  /** The id of what it was done to: the org's own, a token's, a database's. */
  readonly subject: string;
  /** Never a secret. */
  readonly details?: Readonly<Record<string, string | number | null>>;
};

export async function writeAudit(
  tx: TransactionSql,
  actor: Actor,
  entry: AuditEntry,
): Promise<void> {
  await tx`
    INSERT INTO audit_log (actor, request_id, action, org_id, subject, details)
    VALUES (${actor.name}, ${actor.requestId}, ${entry.action}, ${entry.orgId}, ${entry.subject},
      ${tx.json(entry.details ?? {})})`;
}
