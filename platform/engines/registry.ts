/**
 * Which engine serves which kind of database. A new kind is one file beside this one and one line
 * below.
 */
import type { ComputeHost } from "../compute-host.ts";
import { PlatformError } from "../control/errors.ts";
import type { DatabaseKind } from "../databases.ts";
import type { MasterKey } from "../upstream-credentials.ts";
import type { Engine } from "./engine.ts";
import { createNeonEngine } from "./neon.ts";
import { createPostgresEngine } from "./postgres.ts";
import type { SharedServer } from "./shared-server.ts";

export type EngineParts = {
  readonly masterKey: MasterKey;
  readonly sharedServers: readonly SharedServer[];
  /** By the names in `COMPUTE_HOST_URLS`. */
  readonly computeHosts: ReadonlyMap<string, ComputeHost>;
};

/** The engine of each kind, or a sentence that says why the platform does not have it. */
export type Engines = Readonly<Record<DatabaseKind, Engine | string>>;

export function createEngines(parts: EngineParts): Engines {
  return {
    postgres: createPostgresEngine(parts),
    neon:
      parts.computeHosts.size > 0
        ? createNeonEngine(parts)
        : "No compute host is configured on this platform (COMPUTE_HOST_URLS).",
    redis: notYet("redis"),
    mongodb: notYet("mongodb"),
    convex: notYet("convex"),
  };
}

function notYet(kind: DatabaseKind): string {
  return `Databases of kind ${kind} are not available on this platform yet.`;
}

/** Throws `kind_unavailable` with the reason. */
export function engineOf(engines: Engines, kind: DatabaseKind): Engine {
  const engine = engines[kind];
  if (typeof engine === "string") throw new PlatformError("kind_unavailable", engine);
  return engine;
}
