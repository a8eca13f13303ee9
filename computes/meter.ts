/**
 * The meter: how long each compute's processes have lived, to the millisecond, whatever ends the
 * host. It is a small file per compute, written when a process starts and ends. While one runs the
 * file's time is moved on every second, so that a life of which nobody saw the end is counted to
 * when it was last seen.
 */
import { mkdirSync, readdirSync, rmSync, statSync, utimesSync } from "node:fs";
import path from "node:path";
import type { DatabaseId, OrgId } from "../platform/ids.ts";
import { parseDatabaseId, parseOrgId } from "../platform/ids.ts";
import type { Log } from "../platform/log.ts";
import type { ProcessIdentity } from "../platform/process-identity.ts";
import { readIfThere, writeFileWhole } from "./files.ts";

type Life = ProcessIdentity & { readonly startedAtMs: number };

type MeterRecord = {
  readonly orgId: OrgId;
  /** Of all processes that have ended. */
  millis: number;
  /** How many processes there have been; a process's number is its generation. */
  starts: number;
  life: Life | null;
  /**
   * The longest lease that was granted on the running process: none can run longer than this after
   * a crash.
   */
  leaseMsMax: number;
  /** When the running process started, on the monotonic clock. */
  startedMonotonicMs: number;
};

export class Meter {
  readonly #directory: string;
  readonly #log: Log;
  readonly #records = new Map<DatabaseId, MeterRecord>();

  constructor(directory: string, log: Log) {
    this.#directory = directory;
    this.#log = log;
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    for (const entry of readdirSync(directory)) this.#load(entry);
  }

  ids(): readonly DatabaseId[] {
    return [...this.#records.keys()];
  }

  /** Begins to meter a compute; its meter goes on where it stood if there is one. */
  open(computeId: DatabaseId, orgId: OrgId): void {
    if (this.#records.has(computeId)) return;
    const record: MeterRecord = {
      orgId,
      millis: 0,
      starts: 0,
      life: null,
      leaseMsMax: 0,
      startedMonotonicMs: 0,
    };
    this.#records.set(computeId, record);
  }

  /** A process has started, at this moment unless another is given. Returns its generation. */
  started(computeId: DatabaseId, identity: ProcessIdentity, startedAtMs = Date.now()): number {
    const record = this.#require(computeId);
    record.starts += 1;
    record.leaseMsMax = 0;
    record.life = { pid: identity.pid, startMark: identity.startMark, startedAtMs };
    record.startedMonotonicMs = monotonicOf(startedAtMs);
    this.#save(computeId, record);
    return record.starts;
  }

  /** The process has ended, at this moment unless another is given. */
  ended(computeId: DatabaseId, endedAtMs?: number): void {
    const record = this.#require(computeId);
    if (record.life === null) return;
    record.millis +=
      endedAtMs === undefined
        ? lived(record)
        : Math.max(0, Math.round(endedAtMs - record.life.startedAtMs));
    record.life = null;
    this.#save(computeId, record);
  }

  /** The life that the meter holds for open, with its generation, if any. */
  openLife(computeId: DatabaseId): (Life & { generation: number; leaseMsMax: number }) | null {
    const record = this.#records.get(computeId);
    if (record?.life == null) return null;
    return { ...record.life, generation: record.starts, leaseMsMax: record.leaseMsMax };
  }

  noteLease(computeId: DatabaseId, leaseMs: number): void {
    const record = this.#require(computeId);
    if (leaseMs <= record.leaseMsMax) return;
    record.leaseMsMax = leaseMs;
    this.#save(computeId, record);
  }

  /** Moves on the last sight of all that run; to be called every second. */
  touchRunning(): void {
    const now = new Date();
    for (const [computeId, record] of this.#records) {
      if (record.life === null) continue;
      try {
        utimesSync(this.#file(computeId), now, now);
      } catch (error) {
        this.#log.warn("meter_not_touched", { computeId, reason: String(error) });
      }
    }
  }

  /** When the running process was last seen by a host, in milliseconds since the epoch. */
  lastSeenMs(computeId: DatabaseId): number {
    return statSync(this.#file(computeId)).mtimeMs;
  }

  read(computeId: DatabaseId): { orgId: OrgId; millis: number; starts: number } | null {
    const record = this.#records.get(computeId);
    if (record === undefined) return null;
    return { orgId: record.orgId, millis: record.millis + lived(record), starts: record.starts };
  }

  /** Forgets a compute; what it has used must have been reported. */
  close(computeId: DatabaseId): void {
    this.#records.delete(computeId);
    rmSync(this.#file(computeId), { force: true });
  }

  #require(computeId: DatabaseId): MeterRecord {
    const record = this.#records.get(computeId);
    if (record === undefined) throw new Error(`${computeId} has no meter.`);
    return record;
  }

  #file(computeId: DatabaseId): string {
    return path.join(this.#directory, `${computeId}.json`);
  }

  #save(computeId: DatabaseId, record: MeterRecord): void {
    const { orgId, millis, starts, life, leaseMsMax } = record;
    writeFileWhole(
      this.#file(computeId),
      JSON.stringify({ orgId, millis, starts, life, leaseMsMax }),
    );
  }

  #load(entry: string): void {
    const computeId = parseDatabaseId(entry.replace(/\.json$/, ""));
    if (computeId === null) {
      // Half of a write that was cut off.
      rmSync(path.join(this.#directory, entry), { force: true });
      return;
    }
    const record = parseRecord(readIfThere(this.#file(computeId)) ?? "");
    if (record === null) throw new Error(`${this.#file(computeId)} is damaged; restore it.`);
    this.#records.set(computeId, record);
  }
}

function lived(record: MeterRecord): number {
  return record.life === null ? 0 : Math.round(performance.now() - record.startedMonotonicMs);
}

function monotonicOf(epochMs: number): number {
  return performance.now() - Math.max(0, Date.now() - epochMs);
}

function parseRecord(text: string): MeterRecord | null {
  try {
    const value = JSON.parse(text) as Partial<MeterRecord>;
    const orgId = parseOrgId(String(value.orgId));
    const { millis, starts, life = null, leaseMsMax = 0 } = value;
    if (orgId === null || typeof millis !== "number" || typeof starts !== "number") return null;
    const startedMonotonicMs = life === null ? 0 : monotonicOf(life.startedAtMs);
    return { orgId, millis, starts, life, leaseMsMax, startedMonotonicMs };
  } catch {
    return null;
  }
}
