/**
 * The compute host: all computes of one directory, made, woken, suspended and dropped.
 */
import { mkdirSync, rmSync } from "node:fs";
import path from "node:path";
import {
  type ComputeHost,
  ComputeHostError,
  type ComputeLease,
  type ComputeStatus,
  type NewCompute,
} from "../platform/compute-host.ts";
import { type DatabaseId, type OrgId, parseOrgId } from "../platform/ids.ts";
import type { Log } from "../platform/log.ts";
import { Capacity } from "./capacity.ts";
import { Compute, type WakeRequest } from "./compute.ts";
import { HOST_HOLDER } from "./leases.ts";
import { checkNewCompute, type LoginTarget, nameOwner, restoreLogin } from "./login.ts";
import type { Meter } from "./meter.ts";
import type { Histogram } from "./metrics.ts";
import type { PostgresBinaries } from "./postgres/binaries.ts";
import { findServerStart } from "./postgres/data-directory.ts";
import { rotateLog } from "./postgres/log-tail.ts";
import { adoptServer, stopServer } from "./postgres/server.ts";
import { giveTo, type ServerUser } from "./postgres/server-user.ts";
import { StorageSampler } from "./storage.ts";
import { type ComputeStore, lastSignOfLifeMs, type StoredCompute } from "./store.ts";

export type HostParts = {
  readonly log: Log;
  readonly binaries: PostgresBinaries;
  readonly user: ServerUser | null;
  readonly store: ComputeStore;
  readonly meter: Meter;
  readonly wakeMillis: Histogram;
  /** Holds the sockets; its path is short, because a socket's is limited. */
  readonly runDirectory: string;
  readonly superuserPassword: string;
  readonly computesMax: number;
  /** Called when a compute is gone for good and its last usage can be reported. */
  readonly onDropped: (computeId: DatabaseId) => void;
};

/** How long a compute stays up after the host itself needed it: a first query usually follows. */
const GRACE_MS = 2_000;
const OWN_START_DEADLINE_MS = 60_000;

export class LocalComputeHost implements ComputeHost {
  readonly #parts: HostParts;
  readonly #capacity: Capacity;
  readonly #storage: StorageSampler;
  readonly #computes = new Map<DatabaseId, Compute>();
  /** Jobs that change a compute follow one another; the last one of each. */
  readonly #jobs = new Map<DatabaseId, Promise<unknown>>();
  #closed = false;

  constructor(parts: HostParts) {
    this.#parts = parts;
    this.#capacity = new Capacity(parts.computesMax, () => this.#makeRoom());
    this.#storage = new StorageSampler((computeId) => parts.store.dataDirectoryOf(computeId));
  }

  get running(): number {
    return this.#capacity.used;
  }

  get waiting(): number {
    return this.#capacity.waiting;
  }

  get known(): number {
    return this.#computes.size;
  }

  /**
   * Takes stock of what an earlier host left, running processes included. To be called once, before
   * anything else.
   */
  async recover(): Promise<void> {
    for (const stored of this.#parts.store.list()) {
      this.#parts.meter.open(stored.computeId, stored.roleName);
      await this.#recoverOne(this.#register(stored.computeId));
    }
    for (const computeId of this.#parts.meter.ids()) {
      if (!this.#computes.has(computeId)) this.#parts.onDropped(computeId);
    }
  }

  async #recoverOne(compute: Compute): Promise<void> {
    const { meter, log } = this.#parts;
    const { computeId, dataDirectory } = compute.place;
    const life = meter.openLife(computeId);
    const server = adoptServer(dataDirectory);
    if (server !== null && life?.startMark === server.identity.startMark) {
      compute.adopt(server, life.generation, Math.max(life.leaseMsMax, GRACE_MS));
      log.info("compute_adopted", { computeId, pid: server.identity.pid });
      return;
    }
    if (life !== null) {
      meter.ended(computeId, lastSignOfLifeMs(dataDirectory, meter.lastSeenMs(computeId)));
    }
    if (server === null) return;
    // The earlier host ended between starting it and noting that: nobody can hold a lease on it.
    meter.started(computeId, server.identity, findServerStart(dataDirectory));
    await stopServer(server, { fastMs: 10_000, immediateMs: 10_000 });
    meter.ended(computeId);
    log.info("compute_orphan_stopped", { computeId, pid: server.identity.pid });
  }

  create(newCompute: NewCompute): Promise<void> {
    const compute = checkNewCompute(newCompute);
    return this.#exclusively(compute.computeId, async () => {
      const { store, meter } = this.#parts;
      const { computeId, databaseName } = compute;
      const wanted = { computeId, databaseName, roleName: parseOrgId(compute.roleName) as OrgId };
      let stored = store.read(computeId);
      if (stored === null) {
        stored = { ...wanted, ready: false };
        await this.#reportingFailure(store.make(stored), computeId);
      }
      requireSame(stored, wanted);
      if (stored.ready) return;
      meter.open(computeId, wanted.roleName);
      this.#register(computeId);
      const named = this.#withLogin(computeId, (target) => nameOwner(target, compute));
      await this.#reportingFailure(named, computeId);
      store.update({ ...stored, ready: true });
    });
  }

  async wake(computeId: DatabaseId, request: WakeRequest): Promise<ComputeLease> {
    const compute = this.#computes.get(computeId);
    if (compute === undefined) throw notFound();
    if (this.#closed) throw new ComputeHostError("unreachable", "The compute host is stopping.");
    if (this.#jobs.has(computeId) && this.#parts.store.read(computeId)?.ready !== true) {
      throw new ComputeHostError("conflict", "The database is still being made.");
    }
    return await compute.wake(request);
  }

  async suspend(computeId: DatabaseId): Promise<void> {
    const compute = this.#computes.get(computeId);
    if (compute === undefined) throw notFound();
    await compute.stop();
  }

  repairLogin(newCompute: NewCompute): Promise<void> {
    const compute = checkNewCompute(newCompute);
    return this.#exclusively(compute.computeId, async () => {
      const stored = this.#parts.store.read(compute.computeId);
      if (stored === null) throw notFound();
      requireSame(stored, compute);
      await this.#reportingFailure(
        this.#withLogin(compute.computeId, (target) => restoreLogin(target, compute)),
        compute.computeId,
      );
    });
  }

  drop(computeId: DatabaseId): Promise<void> {
    return this.#exclusively(computeId, async () => {
      const compute = this.#computes.get(computeId);
      // Gone from the list first, so that nobody wakes it any more.
      this.#computes.delete(computeId);
      await compute?.stop({ discard: true });
      this.#parts.store.remove(computeId);
      this.#storage.forget(computeId);
      if (compute === undefined) return;
      rmSync(compute.place.socketDirectory, { recursive: true, force: true });
      this.#parts.onDropped(computeId);
    });
  }

  async status(computeId: DatabaseId): Promise<ComputeStatus | null> {
    if (!this.#computes.has(computeId)) return null;
    const storageBytes = await this.#storage.sample(computeId);
    return this.#describe(computeId, storageBytes);
  }

  /** Of all computes at once, however many, so what they store is as of the last look. */
  list(): Promise<readonly ComputeStatus[]> {
    const all: ComputeStatus[] = [];
    for (const computeId of this.#computes.keys()) {
      const status = this.#describe(computeId, this.#storage.lastKnown(computeId));
      if (status !== null) all.push(status);
    }
    return Promise.resolve(all);
  }

  #describe(computeId: DatabaseId, storageBytes: number): ComputeStatus | null {
    const compute = this.#computes.get(computeId);
    const metered = this.#parts.meter.read(computeId);
    if (compute === undefined || metered === null) return null;
    return {
      computeId,
      state: compute.state,
      storageBytes,
      computeSeconds: metered.millis / 1_000,
      wakes: metered.starts,
    };
  }

  /** Stops all computes; none can be woken from then on. */
  async close(): Promise<void> {
    this.#closed = true;
    await Promise.allSettled([...this.#computes.values()].map((compute) => compute.stop()));
  }

  #register(computeId: DatabaseId): Compute {
    const known = this.#computes.get(computeId);
    if (known !== undefined) return known;
    const { store, runDirectory, user, wakeMillis } = this.#parts;
    const place = {
      computeId,
      dataDirectory: store.dataDirectoryOf(computeId),
      logFile: store.logFileOf(computeId),
      socketDirectory: path.join(runDirectory, computeId),
    };
    const prepareRun = (): void => {
      mkdirSync(place.socketDirectory, { recursive: true, mode: 0o700 });
      giveTo(user, place.socketDirectory);
      rotateLog(place.logFile);
    };
    const onStarted = (tookMs: number): void => wakeMillis.observe(tookMs);
    const parts = { ...this.#parts, capacity: this.#capacity, onStarted };
    const compute = new Compute(parts, place, prepareRun);
    this.#computes.set(computeId, compute);
    return compute;
  }

  /** Wakes a compute for the host's own work inside it. */
  async #withLogin<T>(
    computeId: DatabaseId,
    work: (target: LoginTarget) => Promise<T>,
  ): Promise<T> {
    const compute = this.#computes.get(computeId);
    if (compute === undefined) throw notFound();
    await compute.wake({
      holder: HOST_HOLDER,
      leaseMs: GRACE_MS,
      deadlineMs: OWN_START_DEADLINE_MS,
    });
    const { socketDirectory } = compute.place;
    return await work({ socketDirectory, password: this.#parts.superuserPassword });
  }

  /** Puts the least recently used compute to sleep that nobody holds a lease on. */
  #makeRoom(): void {
    let oldest: Compute | null = null;
    for (const compute of this.#computes.values()) {
      if (compute.isIdle() && (oldest === null || compute.lastUsedMs < oldest.lastUsedMs)) {
        oldest = compute;
      }
    }
    void oldest?.stop();
  }

  #exclusively<T>(computeId: DatabaseId, job: () => Promise<T>): Promise<T> {
    const before = this.#jobs.get(computeId) ?? Promise.resolve();
    const result = before.then(job, job);
    const settled = result
      .catch(() => {})
      .then(() => {
        if (this.#jobs.get(computeId) === settled) this.#jobs.delete(computeId);
      });
    this.#jobs.set(computeId, settled);
    return result;
  }

  /** Details are for the operator; the caller learns that it failed. */
  async #reportingFailure<T>(work: Promise<T>, computeId: DatabaseId): Promise<T> {
    try {
      return await work;
    } catch (error) {
      if (error instanceof ComputeHostError) throw error;
      this.#parts.log.error("compute_job_failed", { computeId, reason: String(error) });
      throw new ComputeHostError("start_failed", "The database could not be set up.");
    }
  }
}

function requireSame(
  stored: StoredCompute,
  wanted: Pick<NewCompute, "databaseName" | "roleName">,
): void {
  if (stored.databaseName === wanted.databaseName && stored.roleName === wanted.roleName) return;
  throw new ComputeHostError("conflict", "A compute of this id exists with other names.");
}

function notFound(): ComputeHostError {
  return new ComputeHostError("not_found", "There is no such compute on this host.");
}
