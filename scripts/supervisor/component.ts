/**
 * A component of the platform as the supervisor sees it: something that is started, watched, and
 * ended.
 */
import { closeSync } from "node:fs";
import { describeExit, type ServerExit } from "../../computes/postgres/server.ts";
import {
  identifyProcess,
  type ProcessIdentity,
  signalProcess,
} from "../../platform/process-identity.ts";
import type { LogFiles } from "./log-files.ts";
import { REPOSITORY } from "./settings.ts";

export type Component = {
  /** As in files and commands. */
  readonly name: string;
  /** As in sentences. */
  readonly title: string;
  /** Those of one stage start side by side, once all of the stages before are up. */
  readonly stage: number;
  readonly logFile: string;
  /**
   * Resolves when it is healthy; tells of its process as soon as there is one. Rejects where it did
   * not come up.
   */
  start(onSpawn: (identity: ProcessIdentity) => void): Promise<RunningComponent>;
};

export type RunningComponent = {
  readonly identity: ProcessIdentity;
  readonly exited: Promise<ServerExit>;
  /** Ends it in good order, or at once when hurried. Resolves when it is gone. */
  stop(options: { readonly hurry: boolean }): Promise<void>;
};

export type ServiceOptions = {
  readonly name: string;
  readonly title: string;
  readonly stage: number;
  /** The module that is run, from the repository's root. */
  readonly entry: string;
  readonly environment: Readonly<Record<string, string>>;
  readonly logs: LogFiles;
  /** Asked again and again while it starts. */
  readonly isHealthy: () => Promise<boolean>;
};

const START_DEADLINE_MS = 120_000;
const HEALTH_POLL_MS = 25;
const STOP_PATIENCE_MS = 30_000;
const HURRIED_PATIENCE_MS = 500;

/** A service of ours: a TypeScript module on the Bun that runs the supervisor. */
export function createService(options: ServiceOptions): Component {
  const { name, title, stage, logs } = options;
  return {
    name,
    title,
    stage,
    logFile: logs.fileOf(name),
    async start(onSpawn) {
      const service = spawnService(options);
      onSpawn(service.identity);
      try {
        await untilHealthy(options, service.exited);
        return service;
      } catch (error) {
        await service.stop({ hurry: true });
        throw error;
      }
    },
  };
}

function spawnService({ entry, environment, logs, name }: ServiceOptions): RunningComponent {
  const log = logs.open(name);
  try {
    const child = Bun.spawn([process.execPath, entry], {
      cwd: REPOSITORY,
      env: environment,
      stdin: "ignore",
      stdout: log,
      stderr: log,
      // A session of its own: Ctrl-C is the supervisor's to act on, in order.
      detached: true,
    });
    const identity = identifyProcess(child.pid) ?? { pid: child.pid, startMark: "ended" };
    const exited = child.exited.then(() => ({
      exitCode: child.exitCode,
      signal: child.signalCode === null ? null : String(child.signalCode),
    }));
    return {
      identity,
      exited,
      async stop({ hurry }) {
        signalProcess(identity, "SIGTERM");
        const patience = Bun.sleep(hurry ? HURRIED_PATIENCE_MS : STOP_PATIENCE_MS);
        await Promise.race([exited, patience]);
        signalProcess(identity, "SIGKILL");
        await exited;
      },
    };
  } finally {
    closeSync(log);
  }
}

async function untilHealthy(options: ServiceOptions, exited: Promise<ServerExit>): Promise<void> {
  const deadline = performance.now() + START_DEADLINE_MS;
  const ended = exited.then((exit) => {
    throw new Error(`ended while starting (${describeExit(exit)})`);
  });
  ended.catch(() => {});
  while (!(await Promise.race([options.isHealthy(), ended]))) {
    if (performance.now() > deadline) {
      throw new Error(`did not become healthy within ${START_DEADLINE_MS / 1_000} seconds`);
    }
    await Promise.race([Bun.sleep(HEALTH_POLL_MS), ended]);
  }
}

/** Whether a health route answers; `unix` is a socket's path where the service has no port. */
export async function answers(url: string, unix?: string): Promise<boolean> {
  try {
    const options = { signal: AbortSignal.timeout(2_000), ...(unix === undefined ? {} : { unix }) };
    const response = await fetch(url, options);
    await response.body?.cancel();
    return response.ok;
  } catch {
    return false;
  }
}
