/** A PostgreSQL server of the platform's own, as a component. */
import { randomBytes } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
} from "node:fs";
import path from "node:path";
import { keptFile } from "../../computes/files.ts";
import type { PostgresBinaries } from "../../computes/postgres/binaries.ts";
import { initializeDataDirectory, SUPERUSER } from "../../computes/postgres/data-directory.ts";
import { adoptServer, startServer, stopServer } from "../../computes/postgres/server.ts";
import { giveTo, type ServerUser } from "../../computes/postgres/server-user.ts";
import type { Component } from "./component.ts";
import { Problem } from "./problem.ts";

export type PostgresComponent = Component & {
  /** In the form that `parseAdminServer` reads. */
  readonly adminUrl: string;
  readonly dataDirectory: string;
};

export type PostgresComponentOptions = {
  readonly name: string;
  readonly title: string;
  readonly stage: number;
  /** Holds the data and the superuser's password. */
  readonly home: string;
  readonly socketDirectory: string;
  readonly settings: Readonly<Record<string, string | number>>;
  readonly binaries: PostgresBinaries;
  readonly user: ServerUser | null;
  readonly logFile: string;
};

const PORT = 5432;
/** Recovery after a crash may take its time. */
const START_DEADLINE_MS = 600_000;

export function createPostgres(options: PostgresComponentOptions): PostgresComponent {
  const { name, title, stage, home, socketDirectory, settings, binaries, user, logFile } = options;
  mkdirSync(home, { recursive: true, mode: 0o711 });
  const dataDirectory = path.join(home, "data");
  const passwordFile = path.join(home, "superuser");
  if (existsSync(dataDirectory) && !existsSync(passwordFile)) {
    throw new Problem(
      `${passwordFile} is missing, which belongs to the data beside it. Restore it.`,
    );
  }
  const password = keptFile(passwordFile, () => randomBytes(24).toString("hex")).trim();
  return {
    name,
    title,
    stage,
    logFile,
    dataDirectory,
    adminUrl: `postgres://${SUPERUSER}:${password}@/postgres?host=${encodeURIComponent(socketDirectory)}&port=${PORT}`,
    async start(onSpawn) {
      await ensureData(options, dataDirectory, password);
      // One that an earlier supervisor left has nobody to watch it: a new one takes its place.
      const left = adoptServer(dataDirectory);
      if (left !== null) await stopServer(left, { fastMs: 10_000, immediateMs: 10_000 });
      mkdirSync(socketDirectory, { recursive: true, mode: 0o700 });
      giveTo(user, socketDirectory);
      const server = await startServer({
        binaries,
        user,
        dataDirectory,
        socketDirectory,
        port: PORT,
        settings,
        logFile,
        deadlineMs: START_DEADLINE_MS,
        onSpawn,
      });
      return {
        identity: server.identity,
        exited: server.exited,
        stop: ({ hurry }) =>
          stopServer(
            server,
            hurry ? { fastMs: 500, immediateMs: 3_000 } : { fastMs: 30_000, immediateMs: 10_000 },
          ),
      };
    },
  };
}

/**
 * Makes the data directory under another name, so that half of one is never taken for a whole one.
 */
async function ensureData(
  options: PostgresComponentOptions,
  dataDirectory: string,
  superuserPassword: string,
): Promise<void> {
  const { home, binaries, user, title } = options;
  const version = path.join(dataDirectory, "PG_VERSION");
  if (existsSync(dataDirectory)) {
    const major = existsSync(version) ? readFileSync(version, "utf8").trim() : null;
    if (major === binaries.version.split(".")[0]) return;
    throw new Problem(
      major === null
        ? `${dataDirectory}, the data of the ${title}, is damaged: PG_VERSION is missing. ` +
            "Restore the directory from a backup."
        : `${dataDirectory} was made by PostgreSQL ${major}; this is ${binaries.version}. ` +
            "Upgrade the data, or go back to the version of the platform that made it.",
    );
  }
  for (const entry of readdirSync(home)) {
    if (entry.startsWith("half-")) rmSync(path.join(home, entry), { recursive: true, force: true });
  }
  const half = mkdtempSync(path.join(home, "half-"));
  giveTo(user, half);
  const made = path.join(half, "data");
  await initializeDataDirectory({ binaries, user, dataDirectory: made, superuserPassword });
  renameSync(made, dataDirectory);
  rmSync(half, { recursive: true, force: true });
}
