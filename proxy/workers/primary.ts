/**
 * The primary of several workers: processes that listen on the same ports. It starts them, starts
 * again one that dies, owns the limits that they share, collects their reports, and passes cancel
 * requests on. No client's byte comes through it.
 */
import type { Subprocess } from "bun";
import type { Environment } from "../../platform/environment.ts";
import type { Log } from "../../platform/log.ts";
import { LimitLedger } from "../limits/ledger.ts";
import {
  type FromWorker,
  type Ports,
  type ReportKind,
  type ToWorker,
  WORKER_SHIFT,
  type WorkerReport,
} from "./messages.ts";

export type PrimaryOptions = {
  readonly workers: number;
  /** Runs a worker, given its environment. */
  readonly command: readonly string[];
  readonly environment: Environment;
  readonly log: Log;
  /** Monotonic. */
  readonly nowMs: () => number;
};

type Worker = {
  readonly number: number;
  /** Who it is in the books: each life of a worker is another member. */
  readonly member: string;
  readonly child: Subprocess;
  ports: Ports | null;
};

type Collection = {
  readonly waiting: Set<number>;
  readonly reports: WorkerReport[];
  readonly done: () => void;
};

const RESTART_MS_MIN = 100;
const RESTART_MS_MAX = 5_000;
/** A worker that has run for so long begins anew with short pauses. */
const SETTLED_MS = 10_000;
const SWEEP_MS = 5_000;
const REPORT_DEADLINE_MS = 1_500;

/**
 * Throws where somebody listens already. Workers share their ports, so they would share them with
 * another platform's workers, too, and each would get some of the other's clients.
 */
export function refuseTakenPorts(hostname: string, ports: readonly number[]): void {
  for (const port of ports) {
    const listener = Bun.listen({ hostname, port, socket: { data() {} } });
    listener.stop(true);
  }
}

export class Primary {
  readonly #options: PrimaryOptions;
  readonly #ledger: LimitLedger;
  readonly #workers = new Map<number, Worker>();
  readonly #collections = new Map<number, Collection>();
  readonly #restarts = new Map<number, Timer>();
  readonly #sweep: Timer;
  #ports: Ports | null = null;
  #lastId = 0;
  #stopping = false;

  private constructor(options: PrimaryOptions) {
    this.#options = options;
    this.#ledger = new LimitLedger(options.nowMs, { spentBefore: false });
    this.#sweep = setInterval(() => this.#ledger.sweep(), SWEEP_MS);
  }

  /**
   * Resolves when all workers serve. The first one is waited for: it makes what all use, and finds
   * the ports. Rejects when a worker ends before; it has said why on standard error.
   */
  static async start(options: PrimaryOptions): Promise<Primary> {
    const primary = new Primary(options);
    try {
      primary.#ports = await primary.#begin(1);
      const others = Array.from({ length: options.workers - 1 }, (_, n) => primary.#begin(n + 2));
      await Promise.all(others);
    } catch (error) {
      await primary.stop("SIGKILL");
      throw error;
    }
    return primary;
  }

  get ports(): Ports {
    return this.#ports ?? { postgresPort: 0, httpPort: 0 };
  }

  /** Passes the signal on to all workers and resolves when they have ended. May be called again. */
  async stop(signal: NodeJS.Signals): Promise<void> {
    this.#stopping = true;
    clearInterval(this.#sweep);
    for (const timer of this.#restarts.values()) clearTimeout(timer);
    const children = [...this.#workers.values()].map(({ child }) => child);
    for (const child of children) child.kill(signal);
    await Promise.all(children.map((child) => child.exited));
  }

  /** Starts a worker; resolves when it serves, rejects when it ends before. */
  #begin(number: number, pauseMs = RESTART_MS_MIN): Promise<Ports> {
    const { command, environment, nowMs, log } = this.#options;
    const startedMs = nowMs();
    const up = Promise.withResolvers<Ports>();
    const ports = this.#ports;
    const child = Bun.spawn([...command], {
      env: {
        ...environment,
        O7S_WORKER: String(number),
        ...(ports === null
          ? {}
          : {
              O7S_POSTGRES_PORT: String(ports.postgresPort),
              O7S_HTTP_PORT: String(ports.httpPort),
            }),
      },
      stdin: "ignore",
      stdout: "inherit",
      stderr: "inherit",
      serialization: "json",
      ipc: (message: FromWorker) => {
        if (message.type !== "started") return this.#received(worker, message);
        worker.ports = message;
        up.resolve(message);
      },
      onExit: (_child, code, signal) => {
        up.reject(new Error(`worker ${number} ended before it was up; see above.`));
        this.#ended(worker);
        if (this.#stopping || worker.ports === null) return;
        const ending = signal === null ? `exit code ${code}` : String(signal);
        log.error("worker_ended", { worker: number, ending });
        this.#beginAgain(number, nowMs() - startedMs > SETTLED_MS ? RESTART_MS_MIN : pauseMs);
      },
    });
    const member = `${number}.${child.pid}`;
    const worker: Worker = { number, member, child, ports: null };
    this.#workers.set(number, worker);
    return up.promise;
  }

  #beginAgain(number: number, pauseMs: number): void {
    const nextPauseMs = Math.min(pauseMs * 2, RESTART_MS_MAX);
    const timer = setTimeout(() => {
      this.#restarts.delete(number);
      this.#begin(number, nextPauseMs).catch(() => {
        if (!this.#stopping) this.#beginAgain(number, nextPauseMs);
      });
    }, pauseMs);
    this.#restarts.set(number, timer);
  }

  /** Its places are free, and nobody waits for its reports. */
  #ended(worker: Worker): void {
    this.#ledger.forget(worker.member);
    if (this.#workers.get(worker.number) === worker) this.#workers.delete(worker.number);
    for (const collection of this.#collections.values()) {
      collection.waiting.delete(worker.number);
      if (collection.waiting.size === 0) collection.done();
    }
  }

  #received(worker: Worker, message: Exclude<FromWorker, { type: "started" }>): void {
    switch (message.type) {
      case "turns": {
        const value = this.#ledger.turns(worker.member, message.orgId, message.ask);
        send(worker, { type: "answer", id: message.id, value });
        break;
      }
      case "places": {
        const value = this.#ledger.places(worker.member, message.orgId, message.claim);
        send(worker, { type: "answer", id: message.id, value });
        break;
      }
      case "collect":
        void this.#collect(message.kind).then((value) =>
          send(worker, { type: "answer", id: message.id, value }),
        );
        break;
      case "report": {
        const collection = this.#collections.get(message.id);
        if (collection === undefined || !collection.waiting.delete(worker.number)) break;
        collection.reports.push({ worker: worker.number, lines: message.lines });
        if (collection.waiting.size === 0) collection.done();
        break;
      }
      case "cancel": {
        const owner = this.#workers.get(message.pid >>> WORKER_SHIFT);
        if (owner !== undefined && owner !== worker) send(owner, message);
        break;
      }
    }
  }

  /**
   * What all workers that serve have to report, by number; one that does not answer in time is left
   * out.
   */
  async #collect(kind: ReportKind): Promise<readonly WorkerReport[]> {
    const id = ++this.#lastId;
    const serving = [...this.#workers.values()].filter(({ ports }) => ports !== null);
    const { promise, resolve } = Promise.withResolvers<void>();
    const waiting = new Set(serving.map(({ number }) => number));
    const collection: Collection = { waiting, reports: [], done: resolve };
    this.#collections.set(id, collection);
    for (const worker of serving) send(worker, { type: "report", id, kind });
    const timer = setTimeout(resolve, REPORT_DEADLINE_MS);
    await promise;
    clearTimeout(timer);
    this.#collections.delete(id);
    return collection.reports.sort((a, b) => a.worker - b.worker);
  }
}

/** A worker that is just ending takes nothing more. */
function send({ child }: Worker, message: ToWorker): void {
  try {
    child.send(message);
  } catch {
    // Its end is reported by its exit.
  }
}
