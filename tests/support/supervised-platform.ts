/**
 * A platform under its supervisor, as `scripts/up` starts it, in a directory and on ports of its
 * own.
 */
import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { readRecord, type SupervisorRecord } from "../../scripts/supervisor/records.ts";
import { until } from "./until.ts";

const MAIN = new URL("../../scripts/supervisor/main.ts", import.meta.url).pathname;
const START_DEADLINE_MS = 90_000;

export type Run = {
  readonly pid: number;
  /** Standard output and error so far. */
  output(): string;
  readonly exited: Promise<number>;
  signal(signal: NodeJS.Signals): void;
};

export type PlatformPlace = {
  readonly directory: string;
  readonly environment: Readonly<Record<string, string>>;
  /** Runs a command of the supervisor. */
  run(args: readonly string[], environment?: Readonly<Record<string, string>>): Run;
  /** `up` in the foreground, up to its banner. */
  up(): Promise<Run>;
  record(): SupervisorRecord | null;
  /** Runs `down` and removes everything. */
  [Symbol.asyncDispose](): Promise<void>;
};

export function newPlace(): PlatformPlace {
  const home = mkdtempSync(path.join(tmpdir(), "ogel-up-"));
  chmodSync(home, 0o711); // The servers' user has to get to its own directories in it.
  const directory = path.join(home, "state");
  const ports = freePorts(5);
  const environment = {
    PATH: process.env["PATH"] ?? "",
    HOME: "",
    BUN_RUNTIME_TRANSPILER_CACHE_PATH: "0",
    OGEL_DATA_DIR: directory,
    O7S_POSTGRES_PORT: String(ports[0]),
    O7S_REDIS_PORT: String(ports[1]),
    O7S_MONGODB_PORT: String(ports[2]),
    O7S_HTTP_PORT: String(ports[3]),
    STUDIO_PORT: String(ports[4]),
  };
  const run: PlatformPlace["run"] = (args, more = {}) => start(args, { ...environment, ...more });
  return {
    directory,
    environment,
    run,
    async up() {
      const platform = run(["up"]);
      let ended = false;
      void platform.exited.then(() => {
        ended = true;
      });
      await until(
        "the banner",
        () => {
          if (ended) throw new Error(`up ended:\n${platform.output()}`);
          return platform.output().includes("Ogel Cloud is running.");
        },
        START_DEADLINE_MS,
      );
      return platform;
    },
    record: () => readRecord(directory),
    async [Symbol.asyncDispose]() {
      await run(["down"]).exited;
      rmSync(home, { recursive: true, force: true });
    },
  };
}

function start(args: readonly string[], environment: Readonly<Record<string, string>>): Run {
  let text = "";
  const child = Bun.spawn([process.execPath, MAIN, ...args], {
    env: environment,
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const collect = async (stream: ReadableStream<Uint8Array>): Promise<void> => {
    const decoder = new TextDecoder();
    for await (const chunk of stream) text += decoder.decode(chunk, { stream: true });
  };
  const collected = [collect(child.stdout), collect(child.stderr)];
  const exited = child.exited.then(async (code) => {
    await Promise.all(collected);
    return code;
  });
  return { pid: child.pid, output: () => text, exited, signal: (signal) => child.kill(signal) };
}

/** Ports that nobody listens on at this moment, all different. */
function freePorts(count: number): readonly number[] {
  const listeners = Array.from({ length: count }, () =>
    Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } }),
  );
  const ports = listeners.map((listener) => listener.port);
  for (const listener of listeners) listener.stop(true);
  return ports;
}
