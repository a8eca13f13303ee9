/** What the API is built from. */
import type { Sql } from "postgres";
import type { ComputeHost } from "../../platform/compute-host.ts";
import type { Log } from "../../platform/log.ts";
import type { ProvisioningParts } from "../../platform/provisioning.ts";
import type { OperatorKey } from "./session.ts";

export type ApiParts = {
  readonly sql: Sql;
  readonly provisioning: ProvisioningParts;
  readonly computeHosts: ReadonlyMap<string, ComputeHost>;
  readonly operatorKey: OperatorKey;
  readonly log: Log;
  /** Where clients reach O7s, for connection strings. */
  readonly proxy: { readonly host: string; readonly postgresPort: number };
  /** In milliseconds since the epoch. */
  readonly now: () => number;
};
