/**
 * Computes on disk. A compute's directory is made under another name and renamed when it is whole,
 * and renamed away before it is removed, so whatever bears a compute's name is all there.
 */
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
} from "node:fs";
import path from "node:path";
import { type DatabaseId, type OrgId, parseDatabaseId, parseOrgId } from "../platform/ids.ts";
import { readIfThere, writeFileWhole } from "./files.ts";
import { giveTo, type ServerUser } from "./postgres/server-user.ts";
import type { Spares } from "./spares.ts";

/** What the host knows of a compute; `ready` once role and database are as they should be. */
export type StoredCompute = {
  readonly computeId: DatabaseId;
  readonly databaseName: string;
  readonly roleName: OrgId;
  readonly ready: boolean;
};

export class ComputeStore {
  readonly #computes: string;
  /** What is being made or removed; nothing here is worth keeping after a crash. */
  readonly #half: string;
  readonly #user: ServerUser | null;
  readonly #spares: Spares;

  constructor(directory: string, user: ServerUser | null, spares: Spares) {
    this.#computes = path.join(directory, "computes");
    this.#half = path.join(directory, "half");
    this.#user = user;
    this.#spares = spares;
    mkdirSync(this.#computes, { recursive: true, mode: 0o711 });
    rmSync(this.#half, { recursive: true, force: true });
    mkdirSync(this.#half, { recursive: true, mode: 0o711 });
  }

  /** All computes, in no particular order. @throws where the description of one cannot be read. */
  list(): readonly StoredCompute[] {
    const found: StoredCompute[] = [];
    for (const entry of readdirSync(this.#computes)) {
      const computeId = parseDatabaseId(entry);
      const stored = computeId === null ? null : this.read(computeId);
      if (stored !== null) found.push(stored);
    }
    return found;
  }

  read(computeId: DatabaseId): StoredCompute | null {
    const file = this.#descriptionOf(computeId);
    const text = readIfThere(file);
    if (text === null) return null;
    const stored = parseStored(computeId, text);
    if (stored === null) throw new Error(`${file} is damaged; restore it from a backup.`);
    return stored;
  }

  /** Lays down a copy of the template for the compute. */
  async make(stored: StoredCompute): Promise<void> {
    const half = mkdtempSync(path.join(this.#half, `${stored.computeId}-`));
    try {
      await this.#spares.take(path.join(half, "data"));
      writeFileWhole(path.join(half, "compute.json"), describe(stored));
      giveTo(this.#user, half);
      renameSync(half, this.#directoryOf(stored.computeId));
    } catch (error) {
      rmSync(half, { recursive: true, force: true });
      throw error;
    }
  }

  update(stored: StoredCompute): void {
    writeFileWhole(this.#descriptionOf(stored.computeId), describe(stored));
  }

  /** Removes all of a compute; nothing where there is none. */
  remove(computeId: DatabaseId): void {
    const directory = this.#directoryOf(computeId);
    if (!existsSync(directory)) return;
    const half = path.join(mkdtempSync(path.join(this.#half, "removed-")), "compute");
    renameSync(directory, half);
    rmSync(path.dirname(half), { recursive: true, force: true });
  }

  dataDirectoryOf(computeId: DatabaseId): string {
    return path.join(this.#directoryOf(computeId), "data");
  }

  logFileOf(computeId: DatabaseId): string {
    return path.join(this.#directoryOf(computeId), "log");
  }

  #directoryOf(computeId: DatabaseId): string {
    return path.join(this.#computes, computeId);
  }

  #descriptionOf(computeId: DatabaseId): string {
    return path.join(this.#directoryOf(computeId), "compute.json");
  }
}

/**
 * When a process of which nobody saw the end was last known to live: a server that stops in good
 * order removes postmaster.pid, which leaves its time on the directory; otherwise it is when a host
 * last saw it.
 */
export function lastSignOfLifeMs(dataDirectory: string, lastSeenMs: number): number {
  if (existsSync(path.join(dataDirectory, "postmaster.pid"))) return lastSeenMs;
  const changedMs = statSync(dataDirectory, { throwIfNoEntry: false })?.mtimeMs ?? 0;
  return Math.max(lastSeenMs, changedMs);
}

function describe(stored: StoredCompute): string {
  return JSON.stringify(stored);
}

function parseStored(computeId: DatabaseId, text: string): StoredCompute | null {
  try {
    const value = JSON.parse(text) as Partial<StoredCompute>;
    const roleName = parseOrgId(String(value.roleName));
    if (typeof value.databaseName !== "string" || roleName === null) return null;
    return {
      computeId,
      databaseName: value.databaseName,
      roleName,
      ready: value.ready === true,
    };
  } catch {
    return null;
  }
}
