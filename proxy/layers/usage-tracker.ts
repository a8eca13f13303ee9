/**
 * Layer 6, usage tracker: counts what happened, from the protocol's own replies. It counts before
 * the reply is written to the client, into memory that survives the process: what a client has seen
 * is always counted.
 */
import { COUNTER, type CounterSlot } from "../usage-counters.ts";

/** Counts for one session into the slot of its database. Times are monotonic milliseconds. */
export class UsageMeter {
  readonly #values: Float64Array;
  readonly #base: number;
  /** When the database began to work for this session, or -1 while it does not. */
  #busySinceMs = -1;
  /** When the client's own slowness began to hold the database up, or -1. */
  #stalledSinceMs = -1;

  constructor(slot: CounterSlot) {
    this.#values = slot.values;
    this.#base = slot.base;
  }

  get busySinceMs(): number {
    return this.#busySinceMs;
  }

  statements(count: number): void {
    const at = this.#base + COUNTER.queries;
    this.#values[at] = (this.#values[at] as number) + count;
  }

  rows(count: number): void {
    const at = this.#base + COUNTER.rows;
    this.#values[at] = (this.#values[at] as number) + count;
  }

  bytesIn(count: number): void {
    const at = this.#base + COUNTER.bytesIn;
    this.#values[at] = (this.#values[at] as number) + count;
  }

  bytesOut(count: number): void {
    const at = this.#base + COUNTER.bytesOut;
    this.#values[at] = (this.#values[at] as number) + count;
  }

  /** The database has something to do for this session. */
  begin(nowMs: number): void {
    if (this.#busySinceMs < 0) this.#busySinceMs = nowMs;
  }

  /** It has nothing to do any more. */
  end(nowMs: number): void {
    if (this.#busySinceMs < 0) return;
    this.resume(nowMs);
    const at = this.#base + COUNTER.busyMicros;
    const micros = (nowMs - this.#busySinceMs) * 1_000;
    this.#values[at] = (this.#values[at] as number) + micros;
    this.#busySinceMs = -1;
  }

  /** The database waits for the client: to read its replies, or to send its rows. */
  stall(nowMs: number): void {
    if (this.#busySinceMs >= 0 && this.#stalledSinceMs < 0) this.#stalledSinceMs = nowMs;
  }

  resume(nowMs: number): void {
    if (this.#stalledSinceMs < 0) return;
    // Moving the start is the same as subtracting the stall, and needs no second sum.
    this.#busySinceMs += nowMs - this.#stalledSinceMs;
    this.#stalledSinceMs = -1;
  }
}
