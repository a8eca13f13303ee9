/**
 * A service of the platform as a child process, as the supervisor would run it: up once its log
 * says so.
 */
import type { Subprocess } from "bun";

export type Service = {
  readonly pid: number;
  /** The fields of the log line that said it is up. */
  readonly started: Readonly<Record<string, unknown>>;
  /** Every line it has logged so far. */
  lines(): readonly string[];
  /** How it ended, such as "exit code 1" or "SIGKILL"; null while it runs. */
  ending(): string | null;
  /** Resolves with the first log line, past or to come, for which `matches` holds. */
  logged(matches: (line: string) => boolean): Promise<string>;
  /** SIGTERM, and waits for its end. */
  stop(): Promise<void>;
  /** SIGKILL, and waits for its end. */
  kill(): Promise<void>;
};

const START_DEADLINE_MS = 30_000;
const STOP_DEADLINE_MS = 15_000;

/**
 * Starts `entry` (from the repository's root) with Bun and waits until it logs the event that says
 * it is up. Rejects with what it wrote when it ends before, or is not up in time; nothing is left
 * running then.
 */
export async function startService(
  entry: string,
  environment: Readonly<Record<string, string>>,
  startedEvent: string,
): Promise<Service> {
  const lines: string[] = [];
  const waiters = new Set<{ matches: (line: string) => boolean; found: (line: string) => void }>();
  const child = Bun.spawn([process.execPath, new URL(`../../${entry}`, import.meta.url).pathname], {
    env: { PATH: process.env["PATH"] ?? "", HOME: process.env["HOME"] ?? "", ...environment },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const take = (line: string): void => {
    lines.push(line);
    for (const waiter of waiters) {
      if (!waiter.matches(line)) continue;
      waiters.delete(waiter);
      waiter.found(line);
    }
  };
  const reading = [readLines(child.stdout, take), readLines(child.stderr, take)];
  const logged = (matches: (line: string) => boolean): Promise<string> => {
    const past = lines.find(matches);
    if (past !== undefined) return Promise.resolve(past);
    return new Promise((found) => waiters.add({ matches, found }));
  };
  let late = false;
  const deadline = setTimeout(() => {
    late = true;
    child.kill("SIGKILL");
  }, START_DEADLINE_MS);
  const up = await Promise.race([
    logged((line) => line.includes(`"event":"${startedEvent}"`)),
    child.exited.then(async () => {
      await Promise.all(reading);
      const fault = late ? "was not up in time" : "ended before it was up";
      throw new Error(`${entry} ${fault}:\n${lines.join("\n")}`);
    }),
  ]).finally(() => clearTimeout(deadline));
  return {
    pid: child.pid,
    started: JSON.parse(up) as Record<string, unknown>,
    lines: () => lines,
    logged,
    ending: () => endingOf(child),
    stop: () => endProcess(child),
    kill: () => endProcess(child, "SIGKILL"),
  };
}

function endingOf({ signalCode, exitCode }: Subprocess): string | null {
  if (signalCode !== null) return String(signalCode);
  return exitCode === null ? null : `exit code ${exitCode}`;
}

/** Ends a child and waits for it; one that does not heed `signal` in time is killed. */
export async function endProcess(
  child: Subprocess,
  signal: NodeJS.Signals = "SIGTERM",
): Promise<void> {
  child.kill(signal);
  const killing = setTimeout(() => child.kill("SIGKILL"), STOP_DEADLINE_MS);
  await child.exited;
  clearTimeout(killing);
}

/** Calls `take` with each line of a child's output that is not empty. */
export async function readLines(
  stream: ReadableStream<Uint8Array>,
  take: (line: string) => void,
): Promise<void> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of stream) {
    const parts = (rest + decoder.decode(chunk, { stream: true })).split("\n");
    rest = parts.pop() ?? "";
    for (const line of parts) if (line !== "") take(line);
  }
  if (rest !== "") take(rest);
}
