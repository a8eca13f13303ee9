/**
 * The supervisor: starts components in order, restarts what crashes, stops them in the reverse
 * order.
 */

import { readLogTail } from "../../computes/postgres/log-tail.ts";
import { describeExit, type ServerExit } from "../../computes/postgres/server.ts";
import { signalProcess } from "../../platform/process-identity.ts";
import type { Component, RunningComponent } from "./component.ts";
import { diskFullProblem, Problem } from "./problem.ts";
import { type ComponentRecord, removeRecord, writeRecord } from "./records.ts";
import type { Terminal } from "./terminal.ts";

export type SupervisorOptions = {
  readonly stateDirectory: string;
  readonly components: readonly Component[];
  readonly terminal: Terminal;
};

const BACKOFF_MS_MIN = 250;
const BACKOFF_MS_MAX = 30_000;
/** Who lived this long has recovered: the next crash is a new story. */
const SETTLED_MS = 30_000;

type Watched = {
  readonly component: Component;
  running: RunningComponent | null;
  record: ComponentRecord;
  backoffMs: number;
  restart: NodeJS.Timeout | null;
};

export class Supervisor {
  readonly #options: SupervisorOptions;
  readonly #watched: readonly Watched[];
  #ready = false;
  #stopping: Promise<void> | null = null;
  #hurry = false;
  /** Starts that are under way; a stop waits for them. */
  readonly #starting = new Set<Promise<unknown>>();

  constructor(options: SupervisorOptions) {
    this.#options = options;
    this.#watched = options.components.map((component) => ({
      component,
      running: null,
      record: {
        state: "waiting",
        pid: null,
        startMark: null,
        restarts: 0,
        startedAt: null,
        lastExit: null,
      },
      backoffMs: BACKOFF_MS_MIN,
      restart: null,
    }));
  }

  get isStopping(): boolean {
    return this.#stopping !== null;
  }

  /**
   * Starts everything. @throws Problem naming the component that did not come up; the rest is then
   * still to be stopped.
   */
  async start(): Promise<void> {
    this.#save();
    const stages = [...new Set(this.#watched.map(({ component }) => component.stage))];
    for (const stage of stages.sort((a, b) => a - b)) {
      if (this.isStopping) return;
      const members = this.#watched.filter(({ component }) => component.stage === stage);
      const starts = await Promise.allSettled(members.map((watched) => this.#startOne(watched)));
      for (const start of starts) if (start.status === "rejected") throw start.reason;
    }
  }

  async #startOne(watched: Watched): Promise<void> {
    const { component } = watched;
    try {
      await this.#options.terminal.during(`Starting the ${component.title}`, () =>
        this.#launch(watched),
      );
    } catch (error) {
      // While stopping, its process was ended on purpose.
      if (!this.isStopping) throw this.#startProblem(component, error);
    }
  }

  /** To be called once the platform can be used. */
  markReady(): void {
    this.#ready = true;
    this.#save();
  }

  /** Stops everything, last started first. A second call, with `hurry`, makes it quick. */
  stop(options: { hurry?: boolean } = {}): Promise<void> {
    if (options.hurry === true && !this.#hurry) {
      this.#hurry = true;
      for (const { running } of this.#watched) void running?.stop({ hurry: true }).catch(() => {});
      this.#signalStarting("SIGQUIT");
    }
    this.#stopping ??= this.#stopAll();
    return this.#stopping;
  }

  async #launch(watched: Watched): Promise<void> {
    const { component } = watched;
    this.#note(watched, { state: watched.record.restarts > 0 ? "restarting" : "starting" });
    const start = component.start(({ pid, startMark }) => {
      this.#note(watched, { pid, startMark, startedAt: new Date().toISOString() });
    });
    this.#starting.add(start);
    try {
      const running = await start;
      watched.running = running;
      this.#note(watched, { state: "running" });
      const startedMs = performance.now();
      void running.exited.then((exit) => this.#onExit(watched, exit, startedMs));
    } finally {
      this.#starting.delete(start);
    }
  }

  #onExit(watched: Watched, exit: ServerExit, startedMs: number): void {
    watched.running = null;
    const lastExit = `${describeExit(exit)} at ${new Date().toISOString()}`;
    this.#note(watched, { state: "stopped", pid: null, startMark: null, lastExit });
    if (this.isStopping) return;
    if (performance.now() - startedMs > SETTLED_MS) watched.backoffMs = BACKOFF_MS_MIN;
    const { title, logFile } = watched.component;
    this.#scheduleRestart(watched, `The ${title} ended (${describeExit(exit)})`, logFile);
  }

  #scheduleRestart(watched: Watched, what: string, logFile: string): void {
    const waitMs = watched.backoffMs;
    watched.backoffMs = Math.min(waitMs * 2, BACKOFF_MS_MAX);
    this.#options.terminal.say(
      `${what}; starting it again in ${waitMs / 1_000} s. Log: ${logFile}`,
    );
    this.#note(watched, { state: "restarting", restarts: watched.record.restarts + 1 });
    watched.restart = setTimeout(() => {
      watched.restart = null;
      this.#restart(watched).catch((error: unknown) => {
        if (this.isStopping) return;
        const reason = error instanceof Error ? error.message : String(error);
        this.#scheduleRestart(watched, `The ${watched.component.title} ${reason}`, logFile);
      });
    }, waitMs);
  }

  async #restart(watched: Watched): Promise<void> {
    await this.#launch(watched);
    this.#options.terminal.say(`The ${watched.component.title} runs again.`);
  }

  async #stopAll(): Promise<void> {
    for (const watched of this.#watched) {
      if (watched.restart !== null) clearTimeout(watched.restart);
    }
    this.#signalStarting("SIGTERM");
    await Promise.allSettled(this.#starting);
    for (const watched of [...this.#watched].reverse()) {
      const { running, component } = watched;
      if (running === null) continue;
      this.#note(watched, { state: "stopping" });
      await this.#options.terminal.during(`Stopping the ${component.title}`, () =>
        running.stop({ hurry: this.#hurry }),
      );
      this.#note(watched, { state: "stopped", pid: null, startMark: null });
    }
    removeRecord(this.#options.stateDirectory);
  }

  /** Whatever is not up yet need not get there. */
  #signalStarting(signal: NodeJS.Signals): void {
    for (const { running, record } of this.#watched) {
      if (running !== null || record.pid === null || record.startMark === null) continue;
      signalProcess({ pid: record.pid, startMark: record.startMark }, signal);
    }
  }

  #startProblem(component: Component, error: unknown): unknown {
    if (error instanceof Problem) return error;
    const reason = error instanceof Error ? error.message : String(error);
    const tail = readLogTail(component.logFile).split("\n").slice(-6).join("\n  ");
    const full = diskFullProblem(`${reason}\n${tail}`, this.#options.stateDirectory);
    if (full !== null) return full;
    const log = tail === "" ? "" : `\nIts log, ${component.logFile}, ends with:\n  ${tail}`;
    return new Problem(`The ${component.title} did not start: ${reason}${log}`);
  }

  #note(watched: Watched, change: Partial<ComponentRecord>): void {
    watched.record = { ...watched.record, ...change };
    this.#save();
  }

  #save(): void {
    const components = Object.fromEntries(
      this.#watched.map(({ component, record }) => [component.name, record]),
    );
    writeRecord(this.#options.stateDirectory, {
      pid: process.pid,
      ready: this.#ready,
      components,
    });
  }
}
