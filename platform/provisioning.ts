/**
 * Making and removing databases: from the control plane's row, through the engine, to the
 * outcome. Any step may be cut off by a kill; repeating the request, or the sweep, goes on from
 * there.
 */
import type { Sql, TransactionSql } from "postgres";
import type { Actor } from "./control/audit.ts";
import {
  type DatabaseRecord,
  enterDatabase,
  enterDrop,
  findDatabase,
  listDatabases,
  listUnfinished,
  recordDropFailure,
  recordDropped,
  recordPlacement,
  recordProvisioned,
} from "./control/databases.ts";
import { PlatformError } from "./control/errors.ts";
import { orgLimits } from "./control/org-record.ts";
import { getOrg } from "./control/orgs.ts";
import type { DatabaseKind } from "./databases.ts";
import { EngineError, type PlacedDatabase } from "./engines/engine.ts";
import { type Engines, engineOf } from "./engines/registry.ts";
import { errorCode } from "./engines/shared-server.ts";
import type { DatabaseId, OrgId } from "./ids.ts";
import type { Log } from "./log.ts";
import type { TierLimits } from "./tiers.ts";

export type ProvisioningParts = {
  readonly sql: Sql;
  /** Connections that only hold locks, apart from `sql`: neither waits for the other. */
  readonly locks: Sql;
  readonly engines: Engines;
  readonly log: Log;
};

/** How long one request waits for another that works on the same database. */
const LOCK_WAIT_MS = 60_000;

/**
 * Creates a database and returns when it can be connected to. The same request may be repeated:
 * it goes on where an earlier one was cut off, and answers with the database where it is there
 * already.
 *
 * Throws what `enterDatabase` throws, `kind_unavailable`, and `provisioning_failed` with the
 * reason.
 */
export async function createDatabase(
  parts: ProvisioningParts,
  request: { readonly orgId: OrgId; readonly name: string; readonly kind: DatabaseKind },
  actor: Actor,
): Promise<DatabaseRecord> {
  engineOf(parts.engines, request.kind);
  const entered = await enterDatabase(parts.sql, request, actor);
  if (entered.status === "ready") return entered;
  await alone(parts, entered.databaseId, () => provision(parts, entered.databaseId));
  const database = await findDatabase(parts.sql, entered.databaseId);
  if (database?.status === "ready") return database;
  throw database?.status === "failed"
    ? new PlatformError(
        "provisioning_failed",
        `Database ${request.name} could not be made: ${database.failureReason} Try again.`,
      )
    : new PlatformError("database_busy", `Database ${request.name} is being dropped.`);
}

/**
 * Drops a database and returns when nothing of it is left. Throws what `enterDrop` throws, and
 * `unavailable`.
 */
export async function dropDatabase(
  parts: ProvisioningParts,
  request: { readonly orgId: OrgId; readonly address: string },
  actor: Actor,
): Promise<void> {
  const entered = await enterDrop(parts.sql, request, actor);
  await alone(parts, entered.databaseId, () => drop(parts, entered.databaseId));
  const database = await findDatabase(parts.sql, entered.databaseId);
  if (database === null) return;
  throw new PlatformError(
    "unavailable",
    `Database ${request.address} is closed, but could not be removed yet: ` +
      `${database.failureReason} The platform goes on trying.`,
  );
}

/**
 * Finishes what was cut off, leaving alone what somebody is working on. Returns how many are still
 * unfinished.
 */
export async function sweepDatabases(parts: ProvisioningParts): Promise<number> {
  for (const { databaseId, status } of await listUnfinished(parts.sql)) {
    try {
      await aloneOrNot(parts, databaseId, () =>
        status === "dropping" ? drop(parts, databaseId) : provision(parts, databaseId),
      );
    } catch (error) {
      parts.log.warn("sweep_failed", { databaseId, reason: String(error) });
    }
  }
  return (await listUnfinished(parts.sql)).length;
}

/** One attempt, whose outcome is in the database's row. To be called under the database's lock. */
async function provision(parts: ProvisioningParts, databaseId: DatabaseId): Promise<void> {
  const database = await findDatabase(parts.sql, databaseId);
  if (database?.status !== "provisioning") return;
  try {
    const engine = engineOf(parts.engines, database.kind);
    const endpoint =
      database.endpoint ??
      (await recordPlacement(parts.sql, databaseId, await engine.place(database)));
    await engine.provision(await placed(parts.sql, { ...database, endpoint }));
    await recordProvisioned(parts.sql, databaseId, { status: "ready" });
    parts.log.info("database_provisioned", { databaseId, kind: database.kind });
  } catch (error) {
    const reason = reasonOf(error);
    if (reason === null) throw error;
    await recordProvisioned(parts.sql, databaseId, { status: "failed", reason });
    parts.log.warn("database_failed", { databaseId, kind: database.kind, reason });
  }
}

async function drop(parts: ProvisioningParts, databaseId: DatabaseId): Promise<void> {
  const database = await findDatabase(parts.sql, databaseId);
  if (database?.status !== "dropping") return;
  try {
    const { endpoint } = database;
    // Without an endpoint it was never placed, so nothing was ever made of it.
    if (endpoint !== null) {
      const engine = engineOf(parts.engines, database.kind);
      await engine.drop(await placed(parts.sql, { ...database, endpoint }));
    }
    await recordDropped(parts.sql, databaseId);
    parts.log.info("database_dropped", { databaseId, kind: database.kind });
  } catch (error) {
    const reason = reasonOf(error);
    if (reason === null) throw error;
    await recordDropFailure(parts.sql, databaseId, reason);
    parts.log.warn("database_drop_failed", { databaseId, kind: database.kind, reason });
  }
}

/** What an engine is told of a database that has been placed. */
export async function placed(
  sql: Sql,
  database: DatabaseRecord & { readonly endpoint: NonNullable<DatabaseRecord["endpoint"]> },
): Promise<PlacedDatabase> {
  const org = await getOrg(sql, database.orgId);
  const { credentialGeneration } = org;
  return { ...database, credentialGeneration, ...engineLimits(orgLimits(org)) };
}

/** Of a tenant's limits, those that engines keep. */
export function engineLimits(limits: TierLimits): Pick<PlacedDatabase, "tempFileLimitBytes"> {
  return { tempFileLimitBytes: limits.tempFileLimitBytes };
}

/**
 * Holds the roles of an org to the limits of its tier, wherever it has databases; to be called when
 * the tier has changed. A server that is away is left as it was and logged: provisioning, repairs
 * and the next change set it right.
 */
export async function applyOrgLimits(parts: ProvisioningParts, orgId: OrgId): Promise<void> {
  const done = new Set<string>();
  for (const database of await listDatabases(parts.sql, orgId)) {
    const { databaseId, endpoint, kind, status } = database;
    if (endpoint?.via !== "shared" || status !== "ready") continue;
    const role = `${endpoint.server} ${endpoint.roleName}`;
    if (done.has(role)) continue;
    try {
      const engine = engineOf(parts.engines, kind);
      await engine.applyLimits(await placed(parts.sql, { ...database, endpoint }));
      done.add(role);
    } catch (error) {
      const reason = reasonOf(error);
      if (reason === null) throw error;
      parts.log.warn("limits_not_applied", { databaseId, reason });
    }
  }
}

function reasonOf(error: unknown): string | null {
  return error instanceof EngineError || error instanceof PlatformError ? error.message : null;
}

/** Runs `act` while no other process works on the database, waiting for one that does. */
async function alone(
  parts: ProvisioningParts,
  databaseId: DatabaseId,
  act: () => Promise<void>,
): Promise<void> {
  await parts.locks.begin(async (tx) => {
    await tx.unsafe(`SET LOCAL lock_timeout = ${LOCK_WAIT_MS}`);
    await tx`SELECT pg_advisory_xact_lock(${lockKey(tx, databaseId)})`.catch(refuseBusy);
    await act();
  });
}

function refuseBusy(error: unknown): never {
  if (errorCode(error) !== "55P03") throw error;
  throw new PlatformError("database_busy", "The database is being worked on. Try again shortly.");
}

/** Runs `act` unless another process works on the database. */
async function aloneOrNot(
  parts: ProvisioningParts,
  databaseId: DatabaseId,
  act: () => Promise<void>,
): Promise<void> {
  await parts.locks.begin(async (tx) => {
    const [lock] = await tx<{ taken: boolean }[]>`
      SELECT pg_try_advisory_xact_lock(${lockKey(tx, databaseId)}) AS taken`;
    if (lock?.taken === true) await act();
  });
}

function lockKey(tx: TransactionSql, databaseId: DatabaseId) {
  return tx`hashtextextended(${`ogel database ${databaseId}`}, 0)`;
}
