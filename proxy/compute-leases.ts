/**
 * The leases that this proxy holds on computes. A query is only sent to a compute on which a lease
 * runs, so it cannot meet one that is stopping; a lease is renewed while there is traffic, so that
 * the compute stops once there has been none for the tier's idle time.
 */
import { type ComputeHost, ComputeHostError } from "../platform/compute-host.ts";
import type { ServerAddress } from "../platform/endpoints.ts";
import type { DatabaseId } from "../platform/ids.ts";
import type { Log } from "../platform/log.ts";
import { type Denial, upstreamUnavailable } from "./denial.ts";

/** A running compute: where it is, and which life of its process this is. */
export type RunningCompute = { readonly address: ServerAddress; readonly generation: number };

export type ComputeLeasesOptions = {
  readonly holder: string;
  readonly log: Log;
  /** Monotonic. */
  readonly nowMs: () => number;
  readonly wakeDeadlineMs: number;
};

/** How often leases are looked at; those with traffic since the last look are renewed. */
const RENEWAL_INTERVAL_MS = 500;
/**
 * A lease this close to its end may run out before it is renewed: it is not trusted with another
 * query.
 */
const MARGIN_MS = 2 * RENEWAL_INTERVAL_MS;

type Waking = Promise<RunningCompute | Denial>;

/** The lease on one compute, shared by all sessions of this proxy. */
export class ComputeLease {
  readonly computeId: DatabaseId;
  readonly #host: ComputeHost;
  readonly #options: ComputeLeasesOptions;
  /** Who uses it; the lease is forgotten when nobody does. */
  readonly users = new Set<ComputeUser>();
  /** The tier's idle time; whoever uses the lease sets it. */
  idleMs = 10_000;
  #running: RunningCompute | null = null;
  #validUntilMs = Number.NEGATIVE_INFINITY;
  #lastUseMs = Number.NEGATIVE_INFINITY;
  #lastRenewalMs = Number.NEGATIVE_INFINITY;
  #waking: Waking | null = null;
  /** A user has said since the last look that it needs the compute. */
  #touched = false;

  constructor(computeId: DatabaseId, host: ComputeHost, options: ComputeLeasesOptions) {
    this.computeId = computeId;
    this.#host = host;
    this.#options = options;
  }

  /** The compute, if a query may be sent to it now. */
  use(nowMs: number): RunningCompute | null {
    if (nowMs >= this.#validUntilMs - MARGIN_MS) return null;
    this.#lastUseMs = nowMs;
    return this.#running;
  }

  /** Starts the compute if it sleeps. Concurrent calls share one wake. */
  wake(): Waking {
    this.#lastUseMs = this.#options.nowMs();
    return this.#acquireOnce();
  }

  /**
   * Notes that the compute is in use without a query: an open transaction, session state, a running
   * statement.
   */
  touch(nowMs: number): void {
    this.#lastUseMs = nowMs;
    this.#touched = true;
  }

  /** Nobody uses it and the compute may sleep: a later session begins with a new one. */
  get forgettable(): boolean {
    return this.users.size === 0 && this.#running === null && this.#waking === null;
  }

  /**
   * Called on a timer. Renews the lease if there has been traffic, otherwise lets it run out and
   * tells the users.
   */
  keep(nowMs: number): void {
    this.#touched = false;
    for (const user of this.users) user.keepAwake(nowMs, this);
    if (this.#waking !== null) return;
    // Past queries renew the lease of a compute that runs; one that has gone is only brought back
    // for who needs it now.
    if (this.#touched || (this.#running !== null && this.#lastUseMs > this.#lastRenewalMs)) {
      this.#acquireOnce().catch(() => {}); // A failure is answered to whoever queries next.
    } else if (this.#running === null) {
      return;
    } else if (nowMs >= this.#validUntilMs - RENEWAL_INTERVAL_MS) {
      this.#running = null;
      for (const user of this.users) user.computeSleeps();
    }
  }

  /** The process is known to be gone: the next use wakes it. */
  lost(generation: number): void {
    if (this.#running?.generation !== generation) return;
    this.#running = null;
    this.#validUntilMs = Number.NEGATIVE_INFINITY;
  }

  #acquireOnce(): Waking {
    this.#waking ??= this.#acquire().finally(() => {
      this.#waking = null;
    });
    return this.#waking;
  }

  async #acquire(): Promise<RunningCompute | Denial> {
    const { holder, nowMs, log, wakeDeadlineMs } = this.#options;
    const askedMs = nowMs();
    this.#lastRenewalMs = askedMs;
    try {
      const lease = await this.#host.wake(this.computeId, {
        holder,
        leaseMs: Math.max(MARGIN_MS, Math.ceil(this.#lastUseMs + this.idleMs - askedMs)),
        deadlineMs: wakeDeadlineMs,
      });
      this.#running = { address: lease.address, generation: lease.generation };
      // The host counts from its answer; counting from the request errs towards asking again.
      this.#validUntilMs = askedMs + lease.leaseMs;
      return this.#running;
    } catch (error) {
      const reason = error instanceof ComputeHostError ? error.code : String(error);
      log.error("compute_wake_failed", { computeId: this.computeId, reason });
      return upstreamUnavailable(`compute ${this.computeId} did not wake: ${reason}`);
    }
  }
}

/** A session on a compute. */
export type ComputeUser = {
  /** Touches the lease when the session needs the compute awake though it sends nothing. */
  keepAwake(nowMs: number, lease: ComputeLease): void;
  /** The lease has run out: connections to the compute are about to be cut. */
  computeSleeps(): void;
};

export class ComputeLeases {
  readonly #hosts: ReadonlyMap<string, ComputeHost>;
  readonly #options: ComputeLeasesOptions;
  readonly #leases = new Map<DatabaseId, ComputeLease>();
  readonly #timer: Timer;

  constructor(hosts: ReadonlyMap<string, ComputeHost>, options: ComputeLeasesOptions) {
    this.#hosts = hosts;
    this.#options = options;
    this.#timer = setInterval(() => {
      const now = options.nowMs();
      for (const [computeId, lease] of this.#leases) {
        lease.keep(now);
        if (lease.forgettable) this.#leases.delete(computeId);
      }
    }, RENEWAL_INTERVAL_MS);
  }

  /**
   * The lease for a compute, made when it is first asked for; null when no such host is configured.
   */
  lease(host: string, computeId: DatabaseId): ComputeLease | null {
    let lease = this.#leases.get(computeId);
    if (lease === undefined) {
      const computeHost = this.#hosts.get(host);
      if (computeHost === undefined) return null;
      lease = new ComputeLease(computeId, computeHost, this.#options);
      this.#leases.set(computeId, lease);
    }
    return lease;
  }

  close(): void {
    clearInterval(this.#timer);
  }
}
