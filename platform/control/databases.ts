/** Databases in the control plane: their rows, and the states that they go through. */
import type { Sql } from "postgres";
import {
  type Database,
  type DatabaseKind,
  type DatabaseStatus,
  databaseAddress,
} from "../databases.ts";
import type { Endpoint } from "../endpoints.ts";
import {
  DATABASE_NAME_RULE,
  type DatabaseId,
  isDatabaseName,
  newDatabaseId,
  type OrgId,
} from "../ids.ts";
import { NETWORK_RULE, NETWORKS_MAX, parseNetwork } from "../networks.ts";
import { type Actor, writeAudit } from "./audit.ts";
import { PlatformError } from "./errors.ts";
import { lockOrg, orgLimits, orgNotFound } from "./org-record.ts";

/** A database with what its org and its operators are told besides. */
export type DatabaseRecord = Database & {
  /** What went wrong last, for people. */
  readonly failureReason: string | null;
  readonly createdAt: Date;
};

type DatabaseRow = {
  database_id: string;
  org_id: string;
  name: string;
  branch: string | null;
  kind: string;
  status: string;
  endpoint: Endpoint | null;
  allowed_networks: readonly string[];
  failure_reason: string | null;
  created_at: Date;
};

const REASON_CHARS_MAX = 1_000;

/**
 * Enters a database to be provisioned, or takes up the one of the same name and kind where an
 * earlier request was cut off: the same request may be repeated until it is answered. Two that
 * run at once cannot exceed the tier's limit.
 *
 * Throws `invalid`, `org_not_found`, `org_suspended`, `database_exists` (same name, other kind),
 * `database_busy` (being dropped) and `database_limit`.
 */
export async function enterDatabase(
  sql: Sql,
  request: { readonly orgId: OrgId; readonly name: string; readonly kind: DatabaseKind },
  actor: Actor,
): Promise<DatabaseRecord> {
  const { orgId, name, kind } = request;
  if (!isDatabaseName(name)) throw new PlatformError("invalid", DATABASE_NAME_RULE);
  return await sql.begin(async (tx) => {
    const org = await lockOrg(tx, orgId);
    if (org.status === "suspended") {
      throw new PlatformError("org_suspended", "The org is suspended. Resume it first.");
    }
    const rows = await tx<DatabaseRow[]>`
      SELECT * FROM database WHERE org_id = ${orgId} AND dropped_at IS NULL`;
    const existing = rows.find((row) => row.name === name && row.branch === null);
    if (existing !== undefined) {
      refuseOther(existing, kind);
      if (existing.status === "ready") return toRecord(existing);
      const [row] = await tx<DatabaseRow[]>`
        UPDATE database SET status = 'provisioning' WHERE database_id = ${existing.database_id}
        RETURNING *`;
      return toRecord(row as DatabaseRow);
    }
    const max = orgLimits(org).databases;
    if (rows.length >= max) {
      throw new PlatformError(
        "database_limit",
        `The ${org.tier} tier has ${max} databases. Drop one, or choose a larger tier.`,
      );
    }
    const databaseId = newDatabaseId();
    const [row] = await tx<DatabaseRow[]>`
      INSERT INTO database (database_id, org_id, name, kind, status)
      VALUES (${databaseId}, ${orgId}, ${name}, ${kind}, 'provisioning') RETURNING *`;
    const details = { name, kind };
    await writeAudit(tx, actor, { action: "database.create", orgId, subject: databaseId, details });
    return toRecord(row as DatabaseRow);
  });
}

function refuseOther(existing: DatabaseRow, kind: DatabaseKind): void {
  const { name } = existing;
  if (existing.status === "dropping") {
    throw new PlatformError(
      "database_busy",
      `Database ${name} is being dropped. Create it again when it is gone.`,
    );
  }
  if (existing.kind === kind) return;
  throw new PlatformError(
    "database_exists",
    `There is a database ${name} of kind ${existing.kind}. Choose another name.`,
  );
}

/** Marks a database as being dropped. Repeating it changes nothing. Throws `database_not_found`. */
export async function enterDrop(
  sql: Sql,
  request: { readonly orgId: OrgId; readonly address: string },
  actor: Actor,
): Promise<DatabaseRecord> {
  const { orgId } = request;
  return await sql.begin(async (tx) => {
    await lockOrg(tx, orgId);
    const rows = await tx<DatabaseRow[]>`
      SELECT * FROM database WHERE org_id = ${orgId} AND dropped_at IS NULL`;
    const database = rows.map(toRecord).find((row) => databaseAddress(row) === request.address);
    if (database === undefined) throw databaseNotFound(orgId, request.address);
    if (database.status === "dropping") return database;
    const [row] = await tx<DatabaseRow[]>`
      UPDATE database SET status = 'dropping', failure_reason = NULL
      WHERE database_id = ${database.databaseId} RETURNING *`;
    await writeAudit(tx, actor, {
      action: "database.drop",
      orgId,
      subject: database.databaseId,
      details: { name: request.address, kind: database.kind },
    });
    return toRecord(row as DatabaseRow);
  });
}

/**
 * Lets clients reach a database from these networks only, or from everywhere where there are none.
 * Open sessions from elsewhere are ended within a second. Throws `invalid`, `org_not_found` and
 * `database_not_found`.
 */
export async function setAllowedNetworks(
  sql: Sql,
  request: {
    readonly orgId: OrgId;
    readonly address: string;
    readonly networks: readonly string[];
  },
  actor: Actor,
): Promise<DatabaseRecord> {
  const { orgId, address } = request;
  const networks = [...new Set(request.networks.map(checkedNetwork))];
  if (networks.length > NETWORKS_MAX) {
    throw new PlatformError("invalid", `A database has at most ${NETWORKS_MAX} networks.`);
  }
  return await sql.begin(async (tx) => {
    await lockOrg(tx, orgId);
    const rows = await tx<DatabaseRow[]>`
      SELECT * FROM database WHERE org_id = ${orgId} AND dropped_at IS NULL`;
    const database = rows.map(toRecord).find((row) => databaseAddress(row) === address);
    if (database === undefined) throw databaseNotFound(orgId, address);
    const [row] = await tx<DatabaseRow[]>`
      UPDATE database SET allowed_networks = ARRAY(
        SELECT DISTINCT network(n::inet) FROM unnest(${networks}::text[]) n ORDER BY 1)
      WHERE database_id = ${database.databaseId} RETURNING *`;
    await writeAudit(tx, actor, {
      action: "database.allow",
      orgId,
      subject: database.databaseId,
      details: { name: address, networks: networks.join(" ") || "everywhere" },
    });
    return toRecord(row as DatabaseRow);
  });
}

function checkedNetwork(text: string): string {
  const network = parseNetwork(text);
  if (network === null) throw new PlatformError("invalid", NETWORK_RULE);
  return network;
}

/** The databases of an org, oldest first. Throws `org_not_found`. */
export async function listDatabases(sql: Sql, orgId: OrgId): Promise<readonly DatabaseRecord[]> {
  const [org] = await sql`SELECT 1 FROM org WHERE org_id = ${orgId}`;
  if (org === undefined) throw orgNotFound(orgId);
  const rows = await sql<DatabaseRow[]>`
    SELECT * FROM database WHERE org_id = ${orgId} AND dropped_at IS NULL
    ORDER BY created_at, database_id`;
  return rows.map(toRecord);
}

/** By its address, `name` or `name@branch`. Throws `org_not_found` and `database_not_found`. */
export async function getDatabase(
  sql: Sql,
  orgId: OrgId,
  address: string,
): Promise<DatabaseRecord> {
  const databases = await listDatabases(sql, orgId);
  const database = databases.find((candidate) => databaseAddress(candidate) === address);
  if (database === undefined) throw databaseNotFound(orgId, address);
  return database;
}

/** As it stands now, or null once it has been dropped. */
export async function findDatabase(
  sql: Sql,
  databaseId: DatabaseId,
): Promise<DatabaseRecord | null> {
  const [row] = await sql<DatabaseRow[]>`
    SELECT * FROM database WHERE database_id = ${databaseId} AND dropped_at IS NULL`;
  return row === undefined ? null : toRecord(row);
}

/** Those whose provisioning or dropping somebody has to finish, oldest first. */
export async function listUnfinished(sql: Sql): Promise<readonly DatabaseRecord[]> {
  const rows = await sql<DatabaseRow[]>`
    SELECT * FROM database WHERE dropped_at IS NULL AND status IN ('provisioning', 'dropping')
    ORDER BY created_at LIMIT 1000`;
  return rows.map(toRecord);
}

/** Places a database. Only the first placement counts; the answer says which that was. */
export async function recordPlacement(
  sql: Sql,
  databaseId: DatabaseId,
  endpoint: Endpoint,
): Promise<Endpoint> {
  const [row] = await sql<{ endpoint: Endpoint }[]>`
    UPDATE database SET endpoint = coalesce(endpoint, ${sql.json(endpoint)})
    WHERE database_id = ${databaseId} RETURNING endpoint`;
  return row?.endpoint ?? endpoint;
}

/**
 * From `provisioning` to its outcome. A database that has meanwhile been told to go is left to go.
 */
export async function recordProvisioned(
  sql: Sql,
  databaseId: DatabaseId,
  outcome: { readonly status: "ready" } | { readonly status: "failed"; readonly reason: string },
): Promise<void> {
  const reason = outcome.status === "failed" ? outcome.reason.slice(0, REASON_CHARS_MAX) : null;
  await sql`
    UPDATE database SET status = ${outcome.status}, failure_reason = ${reason}
    WHERE database_id = ${databaseId} AND status = 'provisioning'`;
}

/** Nothing of it is left; its row stays, because usage refers to it. */
export async function recordDropped(sql: Sql, databaseId: DatabaseId): Promise<void> {
  await sql`
    UPDATE database SET dropped_at = now(), failure_reason = NULL
    WHERE database_id = ${databaseId} AND status = 'dropping' AND dropped_at IS NULL`;
}

export async function recordDropFailure(
  sql: Sql,
  databaseId: DatabaseId,
  reason: string,
): Promise<void> {
  await sql`
    UPDATE database SET failure_reason = ${reason.slice(0, REASON_CHARS_MAX)}
    WHERE database_id = ${databaseId} AND status = 'dropping' AND dropped_at IS NULL`;
}

function databaseNotFound(orgId: OrgId, address: string): PlatformError {
  // What was asked for is repeated only where it could be a name.
  const shown = /^[a-z0-9_@-]{1,81}$/.test(address) ? `named ${address}` : "of that name";
  return new PlatformError("database_not_found", `Org ${orgId} has no database ${shown}.`);
}

function toRecord(row: DatabaseRow): DatabaseRecord {
  return {
    databaseId: row.database_id as DatabaseId,
    orgId: row.org_id as OrgId,
    name: row.name,
    branch: row.branch,
    kind: row.kind as DatabaseKind,
    status: row.status as DatabaseStatus,
    endpoint: row.endpoint,
    allowedNetworks: row.allowed_networks,
    failureReason: row.failure_reason,
    createdAt: row.created_at,
  };
}
