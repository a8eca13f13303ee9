/**
 * The port to whoever runs scale-to-zero databases. `computes/` is the platform's own host, reached
 * over HTTP; Neon's API is to be the second implementation.
 *
 * A compute may be used by several proxies. Each holds a **lease** while it has traffic for it: the
 * host never stops a compute on which a lease runs, and a proxy never sends a query without one. So
 * a query cannot meet a stopping server.
 */
import type { ServerAddress } from "./endpoints.ts";
import type { DatabaseId } from "./ids.ts";

export type ComputeState = "stopped" | "starting" | "running" | "stopping";

export type ComputeStatus = {
  readonly computeId: DatabaseId;
  readonly state: ComputeState;
  /** Bytes on disk, as of the last look. */
  readonly storageBytes: number;
  /** Life of its processes so far, in seconds, the running one included. */
  readonly computeSeconds: number;
  readonly wakes: number;
};

export type NewCompute = {
  readonly computeId: DatabaseId;
  /** Names inside the compute; the database belongs to the role. */
  readonly databaseName: string;
  readonly roleName: string;
  /** What `ALTER ROLE … PASSWORD` is given: a SCRAM verifier. */
  readonly passwordVerifier: string;
};

export type ComputeLease = {
  readonly address: ServerAddress;
  /** Changes with each start of the process: a connection of another generation is dead. */
  readonly generation: number;
  /** How long from the answer's arrival the compute is sure to be up. */
  readonly leaseMs: number;
};

export class ComputeHostError extends Error {
  /**
   * Stable: `not_found`, `start_failed`, `deadline`, `capacity`, `conflict`, `unreachable`,
   * `invalid`.
   */
  readonly code: string;

  constructor(code: string, message: string) {
    super(message);
    this.name = "ComputeHostError";
    this.code = code;
  }
}

export type ComputeHost = {
  /**
   * Idempotent by `computeId`: goes on where an earlier call was cut off. Leaves the compute
   * stopped or running.
   */
  create(compute: NewCompute): Promise<void>;
  /** Starts the compute if it sleeps and takes or extends the lease of `holder` on it. */
  wake(
    computeId: DatabaseId,
    lease: { readonly holder: string; readonly leaseMs: number; readonly deadlineMs: number },
  ): Promise<ComputeLease>;
  /** Stops the compute now, whatever leases run: for operators. */
  suspend(computeId: DatabaseId): Promise<void>;
  /**
   * Sets the role's verifier again, and lifts what the tenant may have set that keeps it from
   * logging in.
   */
  repairLogin(compute: NewCompute): Promise<void>;
  /** Stops the compute and removes its data. Idempotent. */
  drop(computeId: DatabaseId): Promise<void>;
  status(computeId: DatabaseId): Promise<ComputeStatus | null>;
  list(): Promise<readonly ComputeStatus[]>;
};
