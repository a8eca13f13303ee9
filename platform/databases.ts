/** A database as the domain knows it: one database of one kind, named by its org. */
import type { Endpoint } from "./endpoints.ts";
import type { DatabaseId, OrgId } from "./ids.ts";

export const DATABASE_KINDS = ["postgres", "neon", "redis", "mongodb", "convex"] as const;
export type DatabaseKind = (typeof DATABASE_KINDS)[number];

/**
 * `provisioning` until it can be connected to; `failed` when a step was refused for good (a retry
 * of the same request goes on where it stopped); `dropping` until nothing of it is left.
 */
export type DatabaseStatus = "provisioning" | "ready" | "failed" | "dropping";

export type Database = {
  readonly databaseId: DatabaseId;
  readonly orgId: OrgId;
  readonly name: string;
  /** Set on a branch, which is addressed as `name@branch`. */
  readonly branch: string | null;
  readonly kind: DatabaseKind;
  readonly status: DatabaseStatus;
  /** Null until provisioning has placed it. */
  readonly endpoint: Endpoint | null;
  /** From where clients may come, in CIDR notation; from everywhere where none is listed. */
  readonly allowedNetworks: readonly string[];
};

export function parseDatabaseKind(text: string): DatabaseKind | null {
  return (DATABASE_KINDS as readonly string[]).includes(text) ? (text as DatabaseKind) : null;
}

/** How clients address it: `name`, or `name@branch`. */
export function databaseAddress(database: Pick<Database, "name" | "branch">): string {
  return database.branch === null ? database.name : `${database.name}@${database.branch}`;
}
