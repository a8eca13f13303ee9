/**
 * Cuts a byte stream into typed messages, without sockets. Whoever receives them decides about each
 * message when its header is here; neighbours that are forwarded leave as one run of bytes, without
 * a copy.
 *
 * Invariant: every byte pushed is forwarded, discarded, or kept, exactly once and in order. What is
 * kept is at most a header, a message that is wanted whole, or what came after a message that has
 * to wait.
 */
import { byteAt, copyOf, uint32At } from "../../bytes.ts";

/** What becomes of a message. */
export const FATE = {
  forward: 0,
  discard: 1,
  /**
   * Forward it and all before it now, then say so: something else comes next in the same direction.
   */
  forwardNow: 2,
  /** Keep it and all after it until `resume`. */
  wait: 3,
  /**
   * Forward it without its first `rewrittenBytes`, which the receiver writes anew at the boundary.
   */
  rewrite: 4,
} as const;

export type FrameReceiver = {
  /** How much of a message's beginning `FATE.rewrite` replaces; it must be here. */
  readonly rewrittenBytes: number;
  /**
   * Decides about the message at `at`, of which `available` of `total` bytes are here (its header
   * always is).
   */
  message(type: number, bytes: Uint8Array, at: number, available: number, total: number): number;
  /** Takes `bytes[start, end)`; they are only valid during the call. */
  forward(bytes: Uint8Array, start: number, end: number): void;
  /** Everything before this point has left, after every fate but `forward` and `wait`. */
  boundary(): void;
  /** A length that no message has; nothing more is read. */
  malformed(): void;
};

/**
 * Types whose messages are wanted whole, up to a length; a longer one is decided about when
 * `beginningBytes` of it are here.
 */
export type WholeMessages = {
  /** 1 at each type. */
  readonly types: Uint8Array;
  readonly bytesMax: number;
  readonly beginningBytes: number;
};

export function typeSet(types: readonly number[]): Uint8Array {
  const set = new Uint8Array(256);
  for (const type of types) set[type] = 1;
  return set;
}

/** PostgreSQL's own bound on a message (`PQ_LARGE_MESSAGE_LIMIT`). */
const MESSAGE_BYTES_MAX = 0x3fff_ffff;
const HEADER_BYTES = 5;

export class FrameReader {
  readonly #receiver: FrameReceiver;
  readonly #whole: WholeMessages;
  #kept: Uint8Array | null = null;
  #waiting = false;
  #stopped = false;
  /** Bytes of the current message's body that are still to come, and whether they are forwarded. */
  #bodyLeft = 0;
  #bodyForwarded = true;

  constructor(receiver: FrameReceiver, whole: WholeMessages) {
    this.#receiver = receiver;
    this.#whole = whole;
  }

  /** Whether a message has been begun and not ended: nothing may be put in between. */
  get midMessage(): boolean {
    return this.#bodyLeft > 0;
  }

  /** Whether nothing is under way: neither a message that has begun nor one that waits. */
  get atRest(): boolean {
    return this.#bodyLeft === 0 && this.#kept === null && !this.#waiting;
  }

  get waiting(): boolean {
    return this.#waiting;
  }

  push(bytes: Uint8Array): void {
    if (this.#stopped) return;
    if (this.#kept === null) {
      this.#read(bytes, true);
      return;
    }
    const joined = Buffer.concat([this.#kept, bytes]);
    this.#kept = this.#waiting ? joined : null;
    if (!this.#waiting) this.#read(joined, false);
  }

  /** Looks again at the message that had to wait, and goes on. */
  resume(): void {
    this.#waiting = false;
    const kept = this.#kept;
    this.#kept = null;
    if (kept !== null && !this.#stopped) this.#read(kept, false);
  }

  /**
   * The message that had to wait is not to be forwarded: `decide` is told its type, it is
   * discarded, and `resume` goes on behind it.
   */
  refuse(decide: (type: number) => void): void {
    const kept = this.#kept;
    if (kept === null || !this.#waiting) return;
    const total = uint32At(kept, 1) + 1;
    decide(byteAt(kept, 0));
    this.#bodyLeft = Math.max(0, total - kept.length);
    this.#bodyForwarded = false;
    this.#kept = kept.length > total ? kept.subarray(total) : null;
  }

  /** Nothing more is read. */
  stop(): void {
    this.#stopped = true;
    this.#kept = null;
  }

  /** A new stream begins. */
  reset(): void {
    this.#kept = null;
    this.#waiting = false;
    this.#bodyLeft = 0;
  }

  /**
   * `borrowed` says that the bytes are another's after this call, so that what is kept must be
   * copied.
   */
  #read(bytes: Uint8Array, borrowed: boolean): void {
    const receiver = this.#receiver;
    const end = bytes.length;
    let runStart = 0;
    let at = 0;
    if (this.#bodyLeft > 0) {
      at = Math.min(this.#bodyLeft, end);
      this.#bodyLeft -= at;
      if (!this.#bodyForwarded) runStart = at;
    }
    while (end - at >= HEADER_BYTES) {
      const type = byteAt(bytes, at);
      const total = uint32At(bytes, at + 1) + 1;
      if (total < HEADER_BYTES || total > MESSAGE_BYTES_MAX) {
        this.#stopped = true;
        receiver.malformed();
        return;
      }
      const available = Math.min(total, end - at);
      if (available < total && this.#whole.types[type] === 1) {
        const { bytesMax, beginningBytes } = this.#whole;
        if (total <= bytesMax || available < beginningBytes) break;
      }
      const fate = receiver.message(type, bytes, at, available, total);
      if (this.#stopped) return;
      if (fate === FATE.wait) {
        this.#waiting = true;
        break;
      }
      const next = at + available;
      this.#bodyLeft = total - available;
      this.#bodyForwarded = fate !== FATE.discard;
      if (fate !== FATE.forward) {
        const runEnd = fate === FATE.forwardNow ? next : at;
        if (runStart < runEnd) receiver.forward(bytes, runStart, runEnd);
        runStart = fate === FATE.rewrite ? at + receiver.rewrittenBytes : next;
        receiver.boundary();
        if (this.#stopped) return;
      }
      at = next;
    }
    if (runStart < at) receiver.forward(bytes, runStart, at);
    if (at < end && !this.#stopped) {
      this.#kept = borrowed ? copyOf(bytes, at) : bytes.subarray(at);
    }
  }
}
