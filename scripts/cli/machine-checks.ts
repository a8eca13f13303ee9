/** Looking at this machine: programs, users, disk and ports. */
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { statfs } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { findPostgres } from "../../computes/postgres/binaries.ts";
import { chooseServerUser } from "../../computes/postgres/server-user.ts";
import {
  dataDirectory,
  REPOSITORY,
  readPlatformFile,
  readSupervisorFile,
} from "./platform-file.ts";

export type Check = {
  readonly name: string;
  readonly ok: boolean;
  /** `required` to start the platform, `optional` for something that can be done without. */
  readonly need: "required" | "optional";
  /** A version, a size, or what went wrong. */
  readonly found: string;
  /** What it is for. */
  readonly why: string;
  /** The one line that brings it. */
  readonly remedy: string;
};

type Environment = Readonly<Record<string, string | undefined>>;
type Program = Omit<Check, "ok" | "found"> & { readonly commands: readonly string[] };

const PROGRAM_DEADLINE_MS = 10_000;
const GB = 1_000_000_000;
const FREE_BYTES_MIN = 2 * GB;

/** The ports of the platform, with the variables that move them. */
const PORTS = [
  { key: "postgres", variable: "O7S_POSTGRES_PORT", port: 5_440, serves: "PostgreSQL clients" },
  { key: "redis", variable: "O7S_REDIS_PORT", port: 5_441, serves: "Redis clients" },
  { key: "mongodb", variable: "O7S_MONGODB_PORT", port: 5_442, serves: "MongoDB clients" },
  { key: "http", variable: "O7S_HTTP_PORT", port: 5_443, serves: "O7s over HTTP" },
  { key: "studio", variable: "STUDIO_PORT", port: 5_444, serves: "Studio and its API" },
] as const;

const INSTALL = "bun install --frozen-lockfile (./scripts/up does it)";
const apt = (packages: string): string =>
  process.platform === "darwin" ? `brew install ${packages}` : `apt-get install -y ${packages}`;

const PROGRAMS: readonly Program[] = [
  {
    name: "deno",
    commands: [path.join(REPOSITORY, "node_modules/deno/deno"), "deno"],
    need: "required",
    why: "edge functions run on it, and checks and tests use it",
    remedy: INSTALL,
  },
  {
    name: "psql",
    commands: ["psql"],
    need: "optional",
    why: "to try the connection strings by hand; any PostgreSQL driver does as well",
    remedy: apt("postgresql-client"),
  },
  {
    name: "pgbench",
    commands: ["pgbench"],
    need: "optional",
    why: "ogel bench proxy measures with it",
    remedy: apt("postgresql-contrib"),
  },
  {
    name: "pgbouncer",
    commands: ["pgbouncer"],
    need: "optional",
    why: "ogel bench proxy compares with it",
    remedy: apt("pgbouncer"),
  },
  {
    name: "redis-server",
    commands: ["redis-server", "valkey-server"],
    need: "optional",
    why: "the tests need it, as will databases of kind redis; several O7s share their limits through one",
    remedy: apt("redis-server"),
  },
];

/** All checks, in the order in which they are shown. */
export async function checkMachine(environment: Environment): Promise<readonly Check[]> {
  const programs = await Promise.all(PROGRAMS.map(checkProgram));
  const [disk, ports] = await Promise.all([checkDisk(environment), checkPorts(environment)]);
  return [checkBun(), ...checkPostgres(environment), ...programs, disk, ...ports];
}

function checkBun(): Check {
  const version = process.versions["bun"];
  return {
    name: "bun",
    ok: version !== undefined,
    need: "required",
    found: version ?? "not what runs this",
    why: "everything runs on it",
    remedy: "./scripts/up",
  };
}

/**
 * The user first: PostgreSQL refuses to run as root, and its files must be within that user's
 * reach.
 */
function checkPostgres(environment: Environment): readonly Check[] {
  const about = {
    name: "postgresql",
    need: "required",
    why: "the control plane and the databases are kept by it",
    remedy: INSTALL,
  } as const;
  const user = attempt(() => chooseServerUser(environment["OGEL_SERVER_USER"] ?? null));
  if ("fault" in user) {
    const found = user.fault;
    const why = "PostgreSQL refuses to run as root";
    const remedy = "useradd --system --no-create-home postgres, or run as an ordinary user";
    return [{ name: "server user", ok: false, need: "required", found, why, remedy }];
  }
  const scratch = mkdtempSync(path.join(tmpdir(), "ogel-doctor-"));
  try {
    const found = attempt(() => findPostgres({ user: user.value, copiesDirectory: scratch }));
    const server: Check =
      "fault" in found
        ? { ...about, ok: false, found: found.fault }
        : { ...about, ok: true, found: found.value.version };
    if (user.value === null) return [server];
    const why = "PostgreSQL refuses to run as root";
    const as = { name: "server user", ok: true, found: user.value.name, why, remedy: "" } as const;
    return [{ ...as, need: "required" }, server];
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

function attempt<T>(act: () => T): { readonly value: T } | { readonly fault: string } {
  try {
    return { value: act() };
  } catch (error) {
    return { fault: error instanceof Error ? error.message : String(error) };
  }
}

async function checkProgram({ commands, ...about }: Program): Promise<Check> {
  for (const command of commands) {
    const version = await versionOf(command);
    if (version !== null) return { ...about, ok: true, found: version };
  }
  return { ...about, ok: false, found: "not found" };
}

/** The first line that `command --version` prints, or null where it cannot be run. */
function versionOf(command: string): Promise<string | null> {
  return new Promise((resolve) => {
    const child = spawn(command, ["--version"], {
      stdio: ["ignore", "pipe", "ignore"],
      timeout: PROGRAM_DEADLINE_MS,
    });
    let text = "";
    child.stdout.setEncoding("utf8");
    child.stdout.on("data", (chunk: string) => {
      text += chunk;
    });
    child.on("error", () => resolve(null));
    child.on("close", (code) => resolve(code === 0 ? (text.trim().split("\n")[0] ?? "") : null));
  });
}

async function checkDisk(environment: Environment): Promise<Check> {
  let directory = dataDirectory(environment);
  while (!existsSync(directory)) directory = path.dirname(directory);
  const { bavail, bsize } = await statfs(directory);
  const freeBytes = bavail * bsize;
  return {
    name: "disk",
    ok: freeBytes >= FREE_BYTES_MIN,
    need: "required",
    found: `${(freeBytes / GB).toFixed(1)} GB free at ${directory}`,
    why: "databases, their logs and their copies live there",
    remedy: "Make room, or set OGEL_DATA_DIR to a directory on another disk.",
  };
}

/** A platform of this data directory may hold its own ports. */
async function checkPorts(environment: Environment): Promise<readonly Check[]> {
  const running = readSupervisorFile(environment) !== null;
  const inUse = running ? (readPlatformFile(environment)?.ports ?? {}) : {};
  return await Promise.all(
    PORTS.map(async ({ key, variable, port, serves }): Promise<Check> => {
      const chosen = inUse[key] ?? Number(environment[variable] || port);
      const free = await isFree(chosen);
      return {
        name: `port ${chosen}`,
        ok: free || running,
        need: "required",
        found: free ? "free" : running ? "in use, the platform is running" : "taken",
        why: `it serves ${serves}`,
        remedy: `Stop what uses it, or set ${variable} to another port.`,
      };
    }),
  );
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen({ port, host: "127.0.0.1", exclusive: true }, () => {
      server.close(() => resolve(true));
    });
  });
}
