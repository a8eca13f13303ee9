/** A service of the platform as a child process, as the supervisor would run it, for tests. */
import type { Subprocess } from "bun";

export type Service = {
  readonly pid: number;
  /** The fields of the log line that said it is up. */
  readonly started: Readonly<Record<string, unknown>>;
  /** Every line it has logged so far. */
  lines(): readonly string[];
  /** Resolves with the first log line, past or to come, for which `matches` holds. */
  logged(matches: (line: string) => boolean): Promise<string>;
  /** SIGTERM, and waits for its end. */
  stop(): Promise<void>;
  /** SIGKILL, and waits for its end. */
  kill(): Promise<void>;
};

const START_DEADLINE_MS = 30_000;

/**
 * Starts `entry` with Bun and waits until it logs the event that says it is up. Rejects with what it wrote when it ends
 * before.
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
  const up = await Promise.race([
    logged((line) => line.includes(`"event":"${startedEvent}"`)),
    child.exited.then(async () => {
      await Promise.all(reading);
      throw new Error(`${entry} ended before it was up:\n${lines.join("\n")}`);
    }),
    Bun.sleep(START_DEADLINE_MS).then(() => {
      throw new Error(`${entry} was not up in time:\n${lines.join("\n")}`);
    }),
  ]);
  return {
    pid: child.pid,
    started: JSON.parse(up) as Record<string, unknown>,
    lines: () => lines,
    logged,
    stop: () => endWith(child, "SIGTERM"),
    kill: () => endWith(child, "SIGKILL"),
  };
}

async function endWith(child: Subprocess, signal: NodeJS.Signals): Promise<void> {
  child.kill(signal);
  await child.exited;
}

async function readLines(
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
