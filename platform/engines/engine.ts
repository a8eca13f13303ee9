/**
 * The port to one kind of database: how one is placed, made, repaired and removed. Every step may
 * be repeated, and goes on where it was cut off.
 */
import type { DatabaseKind } from "../databases.ts";
import type { Endpoint } from "../endpoints.ts";
import type { DatabaseId, OrgId } from "../ids.ts";

/** What an engine is told of a database. */
export type EngineDatabase = {
  readonly databaseId: DatabaseId;
  readonly orgId: OrgId;
  /** As the org calls it. */
  readonly name: string;
};

export type PlacedDatabase = EngineDatabase & {
  readonly endpoint: Endpoint;
  /** Which derivation of the role's password is in force. */
  readonly credentialGeneration: number;
  /**
   * Of the org's tier: what a session's temporary files may take, where its role can be held to it.
   */
  readonly tempFileLimitBytes: number;
};

/** A step that did not succeed. The message is for people and holds no secret. */
export class EngineError extends Error {
  override readonly name = "EngineError";
  /** `unreachable`: try again later; `refused`: somebody has to change something first. */
  readonly code: "unreachable" | "refused";

  constructor(code: "unreachable" | "refused", message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** All of these throw an `EngineError`. */
export type Engine = {
  readonly kind: DatabaseKind;
  /** Chooses where a new database goes, and makes nothing. */
  place(database: EngineDatabase): Promise<Endpoint>;
  /** Makes the database, so that its role can log in to it when this returns. */
  provision(database: PlacedDatabase): Promise<void>;
  /** Leaves nothing of it, whatever is connected to it. */
  drop(database: PlacedDatabase): Promise<void>;
  /** Lifts whatever its org did that keeps its role from logging in. */
  repairLogin(database: PlacedDatabase): Promise<void>;
  /** Gives its role the password of the generation in `database`. */
  rotateCredentials(database: PlacedDatabase): Promise<void>;
  /** Holds its role to the limits of the org's tier, as they are in `database`. */
  applyLimits(database: PlacedDatabase): Promise<void>;
  /** Bytes on disk. */
  sizeBytes(database: PlacedDatabase): Promise<number>;
};
