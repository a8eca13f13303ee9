/**
 * Finding the platform: what its supervisor left in the data directory, or what the environment
 * says.
 */
import { readFileSync } from "node:fs";
import path from "node:path";
import { CommandError } from "./command.ts";
import { START_HINT, type StudioAccess } from "./studio-client.ts";

export type PlatformFile = {
  readonly studioUrl: string;
  readonly operatorKey: string;
  readonly ports: Readonly<Record<string, number>>;
};

export type SupervisorFile = {
  readonly pid: number;
  readonly ready?: boolean;
  readonly components: Readonly<Record<string, ComponentState>>;
};

export type ComponentState = {
  readonly state: string;
  readonly pid?: number | null;
  readonly restarts?: number;
  readonly startedAt?: string | null;
  readonly lastExit?: unknown;
};

type Environment = Readonly<Record<string, string | undefined>>;

/** The repository, whatever the current directory. */
export const REPOSITORY = path.resolve(import.meta.dirname, "../..");

export function dataDirectory(environment: Environment): string {
  return path.resolve(environment["OGEL_DATA_DIR"] || path.join(REPOSITORY, ".ogel"));
}

/**
 * Null where no platform was ever started. Throws a `CommandError` where the file cannot be used.
 */
export function readPlatformFile(environment: Environment): PlatformFile | null {
  return readJson(path.join(dataDirectory(environment), "platform.json")) as PlatformFile | null;
}

/** Null where no supervisor runs. */
export function readSupervisorFile(environment: Environment): SupervisorFile | null {
  const file = readJson(path.join(dataDirectory(environment), "supervisor.json"));
  const supervisor = file as SupervisorFile | null;
  return supervisor !== null && isAlive(supervisor.pid) ? supervisor : null;
}

/** The environment comes first: it is how another machine's platform is reached. */
export function findStudio(environment: Environment): StudioAccess {
  const url = environment["OGEL_API_URL"];
  if (url !== undefined && url !== "") {
    const operatorKey = environment["OGEL_OPERATOR_KEY"] ?? "";
    if (!/^https?:\/\/[^/]/.test(url)) {
      throw new CommandError("OGEL_API_URL must be a URL like http://127.0.0.1:5444.");
    }
    if (operatorKey === "") {
      throw new CommandError("OGEL_API_URL is set, and OGEL_OPERATOR_KEY is not: set both.");
    }
    return { url: url.replace(/\/+$/, ""), operatorKey };
  }
  const platform = readPlatformFile(environment);
  if (platform === null) throw new CommandError(`The platform is not running. ${START_HINT}`);
  return { url: platform.studioUrl, operatorKey: platform.operatorKey };
}

function readJson(file: string): unknown {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    const code = (error as { code?: unknown }).code;
    if (code === "ENOENT" || code === "ENOTDIR") return null;
    throw new CommandError(`${file} cannot be read (${String(code)}). Is it another user's?`);
  }
  try {
    return JSON.parse(text);
  } catch {
    throw new CommandError(`${file} is damaged. Remove it and start the platform again.`);
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as { code?: unknown }).code === "EPERM"; // Alive, and another user's.
  }
}
