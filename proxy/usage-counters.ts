/**
 * The usage tracker's memory: counters in a file that is mapped into this process.
 *
 * An addition is a store into shared pages, so what was counted survives `kill -9` at no cost. Each
 * file has one writer and an id of its own; its totals only grow. A file that a dead worker left is
 * read, reported under its id, and removed.
 *
 * Layout: a header of 128 bytes (magic, then a line that names the writer's process), then slots of
 * 128 bytes: a length-prefixed key of at most 71 bytes ("org database") at offset 0, and at offset
 * 72 one float64 per quantity. A slot is taken by writing its key before its length, so that a kill
 * in between leaves it free.
 */
import {
  closeSync,
  fsyncSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  unlinkSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { type DatabaseId, type OrgId, parseDatabaseId, parseOrgId } from "../platform/ids.ts";
import { identifyProcess } from "../platform/process-identity.ts";
import { QUANTITIES, type UsageTotals, zeroQuantities } from "../platform/usage/quantities.ts";

const MAGIC = "ogelcnt1";
const HEADER_BYTES = 128;
const SLOT_BYTES = 128;
const COUNTERS_OFFSET = 72;
const KEY_BYTES_MAX = COUNTERS_OFFSET - 1;
const FLOATS_PER_SLOT = SLOT_BYTES / 8;
const SLOTS_PER_FILE = 4_096;
const FILE_BYTES = HEADER_BYTES + SLOTS_PER_FILE * SLOT_BYTES;
const FILE_SUFFIX = ".counters";

/** Where the quantities are, counted in float64s from a slot's base. */
export const COUNTER = {
  queries: 0,
  rows: 1,
  bytesIn: 2,
  bytesOut: 3,
  busyMicros: 4,
  computeMillis: 5,
} as const;

/** The counters of one database: add with `values[base + COUNTER.rows] += n`. */
export type CounterSlot = { readonly values: Float64Array; readonly base: number };

export class UsageCounters {
  readonly #directory: string;
  readonly #files: CounterFile[] = [];
  readonly #slots = new Map<string, CounterSlot>();

  /**
   * `directory` must exist; the first file is made at once, so that a full disk is noticed at the
   * start.
   */
  constructor(directory: string) {
    this.#directory = directory;
    this.#files.push(CounterFile.create(directory));
  }

  /** The slot of a database; its totals go on from where they are. */
  slot(orgId: OrgId, databaseId: DatabaseId): CounterSlot {
    const key = `${orgId} ${databaseId}`;
    const known = this.#slots.get(key);
    if (known !== undefined) return known;
    let file = this.#files[this.#files.length - 1];
    if (file === undefined || file.full) {
      file = CounterFile.create(this.#directory);
      this.#files.push(file);
    }
    const slot = file.take(key);
    this.#slots.set(key, slot);
    return slot;
  }

  /** One per file; a new file is a new writer. */
  get writers(): readonly CounterFile[] {
    return this.#files;
  }
}

/** What a file holds, whether its writer lives or not. */
export type CounterSnapshot = { readonly writerId: string; readonly rows: readonly UsageTotals[] };

export class CounterFile {
  readonly path: string;
  readonly writerId: string;
  readonly #bytes: Uint8Array;
  readonly #values: Float64Array;
  #taken = 0;

  private constructor(path: string, writerId: string, bytes: Uint8Array) {
    this.path = path;
    this.writerId = writerId;
    this.#bytes = bytes;
    this.#values = new Float64Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 8);
  }

  static create(directory: string): CounterFile {
    const writerId = `o7s-${crypto.randomUUID()}`;
    const path = join(directory, `${writerId}${FILE_SUFFIX}`);
    // Real blocks are written, not a hole: a store into a hole of a full disk would kill the
    // process.
    const blank = new Uint8Array(FILE_BYTES);
    blank.set(new TextEncoder().encode(`${MAGIC}${describe(process.pid)}\n`));
    const file = openSync(path, "wx", 0o600);
    try {
      for (let at = 0; at < blank.length; ) at += writeSync(file, blank, at);
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    return new CounterFile(path, writerId, Bun.mmap(path, { shared: true }));
  }

  get full(): boolean {
    return this.#taken === SLOTS_PER_FILE;
  }

  take(key: string): CounterSlot {
    const keyBytes = new TextEncoder().encode(key);
    if (keyBytes.length > KEY_BYTES_MAX) throw new Error(`counter key is too long: ${key}`);
    const at = HEADER_BYTES + this.#taken * SLOT_BYTES;
    this.#bytes.set(keyBytes, at + 1);
    this.#bytes[at] = keyBytes.length;
    this.#taken += 1;
    return { values: this.#values, base: (at + COUNTERS_OFFSET) / 8 };
  }

  snapshot(): CounterSnapshot {
    return { writerId: this.writerId, rows: readRows(this.#bytes) };
  }

  /** Removes the file; to be called when its totals have been applied for the last time. */
  remove(): void {
    unlinkSync(this.path);
  }
}

/** When its pages were last written back is the best that is known of when it was counted. */
export type LeftOverFile = CounterSnapshot & {
  readonly path: string;
  readonly modifiedAtMs: number;
};

/**
 * The files in `directory` whose writer is no more. One that cannot be read as ours is left alone.
 */
export function leftOverFiles(directory: string): readonly LeftOverFile[] {
  const found: LeftOverFile[] = [];
  for (const name of readdirSync(directory)) {
    if (!name.endsWith(FILE_SUFFIX)) continue;
    const path = join(directory, name);
    const bytes = readIfThere(path);
    if (bytes === null) continue; // Whoever started beside this one has reported it.
    const header = new TextDecoder().decode(bytes.subarray(0, HEADER_BYTES));
    const writer = header.slice(MAGIC.length, header.indexOf("\n"));
    if (!header.startsWith(MAGIC) || describe(Number.parseInt(writer, 10)) === writer) continue;
    found.push({
      path,
      modifiedAtMs: statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? Date.now(),
      writerId: name.slice(0, -FILE_SUFFIX.length),
      rows: readRows(bytes),
    });
  }
  return found;
}

/**
 * A living process as text, null where there is none: its number alone does not tell it from a
 * later one.
 */
function describe(pid: number): string | null {
  const identity = identifyProcess(pid);
  return identity === null ? null : `${identity.pid} ${identity.startMark}`;
}

function readIfThere(path: string): Uint8Array | null {
  try {
    return new Uint8Array(readFileSync(path));
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return null;
    throw error;
  }
}

function readRows(bytes: Uint8Array): UsageTotals[] {
  const values = new Float64Array(bytes.buffer, bytes.byteOffset, Math.floor(bytes.length / 8));
  const rows: UsageTotals[] = [];
  for (let at = HEADER_BYTES; at + SLOT_BYTES <= bytes.length; at += SLOT_BYTES) {
    const keyLength = bytes[at] ?? 0;
    if (keyLength === 0) break; // Slots are taken in order.
    const key = new TextDecoder().decode(bytes.subarray(at + 1, at + 1 + keyLength));
    const [orgText = "", databaseText = ""] = key.split(" ");
    const orgId = parseOrgId(orgText);
    const databaseId = parseDatabaseId(databaseText);
    if (orgId === null || databaseId === null) continue;
    const totals = zeroQuantities();
    const base = (at + COUNTERS_OFFSET) / 8;
    QUANTITIES.forEach((quantity) => {
      totals[quantity] = Math.floor(values[base + COUNTER[quantity]] ?? 0);
    });
    rows.push({ orgId, databaseId, totals });
  }
  return rows;
}

// A slot's counters must lie within it.
if (COUNTERS_OFFSET / 8 + QUANTITIES.length > FLOATS_PER_SLOT) throw new Error("slot too small");
