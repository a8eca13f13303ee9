/**
 * One compute: a data directory, and the process that serves it while somebody needs it.
 *
 * It is stopped, starting, running or stopping. Starts and stops are single flight: whoever comes
 * while one is under way waits for it and then looks again. It stops by itself when the last lease
 * has run out.
 */
import {
  ComputeHostError,
  type ComputeLease,
  type ComputeState,
} from "../platform/compute-host.ts";
import type { DatabaseId } from "../platform/ids.ts";
import type { Log } from "../platform/log.ts";
import type { Capacity } from "./capacity.ts";
import { HOST_HOLDER, Leases } from "./leases.ts";
import type { Meter } from "./meter.ts";
import type { PostgresBinaries } from "./postgres/binaries.ts";
import { readLogTail } from "./postgres/log-tail.ts";
import {
  describeExit,
  type PostgresServer,
  type ServerExit,
  startServer,
  stopServer,
} from "./postgres/server.ts";
import type { ServerUser } from "./postgres/server-user.ts";
import { COMPUTE_PORT } from "./template.ts";

export type ComputeParts = {
  readonly binaries: PostgresBinaries;
  readonly user: ServerUser | null;
  readonly capacity: Capacity;
  readonly meter: Meter;
  readonly log: Log;
  /** Told of each start, with how long it took. */
  readonly onStarted: (tookMs: number) => void;
};

export type ComputePlace = {
  readonly computeId: DatabaseId;
  readonly dataDirectory: string;
  readonly logFile: string;
  /** Made before each start. */
  readonly socketDirectory: string;
};

/** Recovery after a crash may take long, and cutting it short would only have it start over. */
const START_DEADLINE_MS = 600_000;
const STOP_PATIENCE = { fastMs: 20_000, immediateMs: 10_000 } as const;
/** When nobody waits for the data: it is about to be removed. */
const DROP_PATIENCE = { fastMs: 1_000, immediateMs: 5_000 } as const;

export type WakeRequest = {
  readonly holder: string;
  readonly leaseMs: number;
  readonly deadlineMs: number;
};

export class Compute {
  readonly place: ComputePlace;
  readonly #parts: ComputeParts;
  readonly #prepareRun: () => void;
  readonly #leases = new Leases();
  #state: ComputeState = "stopped";
  #server: PostgresServer | null = null;
  #generation = 0;
  /** The start or stop that is under way. */
  #transition: { readonly kind: "start" | "stop"; readonly done: Promise<void> } | null = null;
  #idleTimer: NodeJS.Timeout | null = null;
  /** How many wait for a start; the compute is not stopped under them. */
  #waiting = 0;
  #lastUsedMs = 0;

  constructor(parts: ComputeParts, place: ComputePlace, prepareRun: () => void) {
    this.#parts = parts;
    this.place = place;
    this.#prepareRun = prepareRun;
  }

  get state(): ComputeState {
    return this.#state;
  }

  get lastUsedMs(): number {
    return this.#lastUsedMs;
  }

  /** Whether it runs and nobody but the host itself wants it to. */
  isIdle(): boolean {
    return (
      this.#state === "running" && this.#waiting === 0 && !this.#leases.isHeld(performance.now())
    );
  }

  /**
   * The lease of `holder`, after a start where one is needed.
   * @throws ComputeHostError `deadline`, `capacity`, `start_failed`.
   */
  async wake(request: WakeRequest): Promise<ComputeLease> {
    const deadlineMs = performance.now() + request.deadlineMs;
    this.#waiting += 1;
    try {
      await this.#untilRunning(deadlineMs);
      return this.#grant(request.holder, request.leaseMs);
    } finally {
      this.#waiting -= 1;
    }
  }

  /**
   * Takes over a process that an earlier host started; no lease of that time can be longer than
   * `leaseMs`.
   */
  adopt(server: PostgresServer, generation: number, leaseMs: number): void {
    this.#parts.capacity.take();
    this.#serve(server, generation);
    this.#grant(ADOPTED_HOLDER, leaseMs);
  }

  /** Stops it, whatever leases run. Resolves when the process is gone. */
  async stop(options: { discard?: boolean } = {}): Promise<void> {
    while (this.#state !== "stopped") {
      if (this.#transition === null) this.#beginStop(options.discard === true);
      await this.#transition?.done.catch(() => {}); // Whoever began it is told.
    }
  }

  async #untilRunning(deadlineMs: number): Promise<void> {
    for (;;) {
      if (this.#state === "running" && this.#server?.isRunning() === true) return;
      const leftMs = deadlineMs - performance.now();
      if (leftMs <= 0) throw deadlineError();
      if (this.#state === "running") {
        // The process has ended and the event is still to come.
        await within(this.#server?.exited ?? Promise.resolve(), leftMs);
        continue;
      }
      const joined = this.#transition !== null;
      if (!joined) this.#beginStart(leftMs);
      await this.#follow(joined, leftMs);
    }
  }

  /**
   * Waits for what is under way. What went wrong with a start counts for this caller too, unless it
   * was just late.
   */
  async #follow(joined: boolean, leftMs: number): Promise<void> {
    const transition = this.#transition;
    if (transition === null) return;
    try {
      await within(transition.done, leftMs);
    } catch (error) {
      const code = error instanceof ComputeHostError ? error.code : null;
      // A stop that failed is begun again; a start that gave up waiting for room had less time than
      // this caller.
      if (transition.kind === "stop" && code !== "deadline") return;
      if (joined && code === "capacity") return;
      throw error;
    }
  }

  #beginStart(leftMs: number): void {
    if (this.#state === "stopping") this.#beginStop(false);
    else this.#begin("start", () => this.#start(leftMs));
  }

  #begin(kind: "start" | "stop", work: () => Promise<void>): void {
    this.#state = kind === "start" ? "starting" : "stopping";
    const done = work().finally(() => {
      if (this.#transition?.done === done) this.#transition = null;
    });
    // Nobody may be waiting any more when it fails.
    done.catch(() => {});
    this.#transition = { kind, done };
  }

  async #start(deadlineMs: number): Promise<void> {
    const { capacity, log, meter, binaries, user } = this.#parts;
    const { computeId, dataDirectory, logFile, socketDirectory } = this.place;
    try {
      await capacity.acquire(deadlineMs);
    } catch (error) {
      this.#state = "stopped";
      throw error;
    }
    const beganMs = performance.now();
    let generation = 0;
    try {
      this.#prepareRun();
      const server = await startServer({
        binaries,
        user,
        dataDirectory,
        socketDirectory,
        port: COMPUTE_PORT,
        settings: {},
        logFile,
        deadlineMs: START_DEADLINE_MS,
        onSpawn: (identity) => {
          meter.ended(computeId); // Of an attempt that has to be repeated.
          generation = meter.started(computeId, identity);
        },
      });
      this.#serve(server, generation);
      this.#parts.onStarted(performance.now() - beganMs);
    } catch (error) {
      if (generation > 0) meter.ended(computeId);
      this.#state = "stopped";
      capacity.release();
      log.error("compute_start_failed", {
        computeId,
        reason: String(error),
        serverLog: readLogTail(logFile),
      });
      throw new ComputeHostError("start_failed", "The database could not be started.");
    }
  }

  #serve(server: PostgresServer, generation: number): void {
    this.#server = server;
    this.#generation = generation;
    this.#state = "running";
    void server.exited.then((exit) => this.#ended(server, exit));
  }

  /** The process is gone, as asked or not. */
  #ended(server: PostgresServer, exit: ServerExit): void {
    if (this.#server !== server) return;
    const { capacity, log, meter } = this.#parts;
    const { computeId, logFile } = this.place;
    if (this.#state === "running") {
      log.warn("compute_ended", {
        computeId,
        reason: describeExit(exit),
        serverLog: readLogTail(logFile),
      });
    }
    this.#server = null;
    this.#state = "stopped";
    this.#leases.clear();
    this.#disarm();
    meter.ended(computeId);
    capacity.release();
  }

  #beginStop(discard: boolean): void {
    const server = this.#server;
    if (server === null) return;
    this.#disarm();
    const patience = discard ? DROP_PATIENCE : STOP_PATIENCE;
    this.#begin("stop", async () => {
      await stopServer(server, patience);
      // Gone, though its event may come later; what it changes must not wait.
      this.#ended(server, { exitCode: 0, signal: null });
    });
  }

  #grant(holder: string, leaseMs: number): ComputeLease {
    const nowMs = performance.now();
    this.#lastUsedMs = nowMs;
    if (!this.#leases.grant(holder, nowMs + leaseMs)) {
      throw new ComputeHostError("capacity", "Too many holders of leases on this compute.");
    }
    if (holder !== HOST_HOLDER) this.#parts.meter.noteLease(this.place.computeId, leaseMs);
    this.#armIdleTimer();
    return {
      address: {
        transport: "unix",
        directory: this.place.socketDirectory,
        port: COMPUTE_PORT,
      },
      generation: this.#generation,
      leaseMs,
    };
  }

  /**
   * One timer, which on firing looks whether leases were extended: granting is much more frequent
   * than stopping.
   */
  #armIdleTimer(): void {
    if (this.#idleTimer !== null) return;
    const leftMs = Math.max(0, this.#leases.lastUntilMs() - performance.now());
    this.#idleTimer = setTimeout(() => {
      this.#idleTimer = null;
      if (this.#state !== "running" || this.#transition !== null) return;
      if (this.#waiting > 0 || this.#leases.lastUntilMs() > performance.now()) {
        this.#armIdleTimer();
        return;
      }
      this.#beginStop(false);
    }, Math.ceil(leftMs));
  }

  #disarm(): void {
    if (this.#idleTimer !== null) clearTimeout(this.#idleTimer);
    this.#idleTimer = null;
  }
}

/** Stands for all who held leases when an earlier host ended. */
const ADOPTED_HOLDER = "before-restart";

function deadlineError(): ComputeHostError {
  return new ComputeHostError("deadline", "The database did not start in time. Try again shortly.");
}

async function within(work: Promise<unknown> | null | undefined, leftMs: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(deadlineError()), leftMs);
  });
  try {
    await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
