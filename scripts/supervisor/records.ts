/**
 * What the supervisor writes down about itself: for commands to read, and for the next start after
 * a crash.
 */
import { existsSync, readdirSync, rmSync } from "node:fs";
import path from "node:path";
import { readIfThere, writeFileWhole } from "../../computes/files.ts";
import { adoptServer, stopServer } from "../../computes/postgres/server.ts";
import { reapComputes } from "../../computes/reap.ts";
import { isRunning, type ProcessIdentity, signalProcess } from "../../platform/process-identity.ts";

export type ComponentRecord = {
  readonly state: "waiting" | "starting" | "running" | "restarting" | "stopping" | "stopped";
  readonly pid: number | null;
  readonly startMark: string | null;
  readonly restarts: number;
  readonly startedAt: string | null;
  /** How its last process ended, in words. */
  readonly lastExit: string | null;
};

export type SupervisorRecord = {
  readonly pid: number;
  /** Whether everything has been up, and the demo made. */
  readonly ready: boolean;
  readonly components: Readonly<Record<string, ComponentRecord>>;
};

const FILE = "supervisor.json";

export function writeRecord(stateDirectory: string, record: SupervisorRecord): void {
  writeFileWhole(path.join(stateDirectory, FILE), JSON.stringify(record));
}

export function readRecord(stateDirectory: string): SupervisorRecord | null {
  const text = readIfThere(path.join(stateDirectory, FILE));
  if (text === null) return null;
  try {
    const record = JSON.parse(text) as Partial<SupervisorRecord>;
    if (typeof record.pid !== "number" || typeof record.components !== "object") return null;
    return { pid: record.pid, ready: record.ready === true, components: record.components };
  } catch {
    return null; // A record is only a help; the data directories tell as well.
  }
}

export function removeRecord(stateDirectory: string): void {
  rmSync(path.join(stateDirectory, FILE), { force: true });
}

const PATIENCE_MS = 15_000;

/**
 * Ends what a killed supervisor of this directory left running, and nothing else: each process is
 * told by its pid and start, each database server by the directory it serves. Returns the names of
 * what was ended. Hold the directory's lock.
 */
export async function reapLeftovers(stateDirectory: string): Promise<readonly string[]> {
  const ended: string[] = [];
  const components = Object.entries(readRecord(stateDirectory)?.components ?? {});
  for (const [name, { pid, startMark }] of components.reverse()) {
    if (pid === null || startMark === null) continue;
    // Servers are ended below, in the way that suits them.
    if (existsSync(path.join(stateDirectory, name, "data"))) continue;
    if (await endProcess({ pid, startMark })) ended.push(name);
  }
  // Computes end before what they depend on.
  if ((await reapComputes(path.join(stateDirectory, "computes"))) > 0) ended.push("databases");
  for (const name of readdirSync(stateDirectory)) {
    const server = adoptServer(path.join(stateDirectory, name, "data"));
    if (server === null) continue;
    await stopServer(server, { fastMs: 10_000, immediateMs: 10_000 });
    ended.push(name);
  }
  removeRecord(stateDirectory);
  return ended;
}

async function endProcess(identity: ProcessIdentity): Promise<boolean> {
  if (!signalProcess(identity, "SIGTERM")) return false;
  const deadline = performance.now() + PATIENCE_MS;
  while (isRunning(identity)) {
    if (performance.now() > deadline) signalProcess(identity, "SIGKILL");
    await Bun.sleep(10);
  }
  return true;
}
