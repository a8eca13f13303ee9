/**
 * What the server still owes: one entry per message that it will answer, in order. From this alone
 * follow whether a session is idle, which reply belongs to whom, and which replies the client must
 * not see.
 *
 * Invariant: the head is the entry that the server's next reply answers. After an error inside an
 * extended-query batch the server answers nothing before the batch's Sync, so those entries are
 * dropped, and until the Sync has been sent `skipping` says that messages need not be sent at all.
 */

export const EXPECT = {
  none: 0,
  parse: 1,
  bind: 2,
  describe: 3,
  execute: 4,
  close: 5,
  sync: 6,
  query: 7,
  functionCall: 8,
  /** Sent by O7s itself: the replies are not the client's. */
  ownParse: 9,
  ownClose: 10,
  ownQuery: 12,
  ownBind: 14,
  /**
   * CopyDone or CopyFail: has no answer, but parts the Syncs that a COPY ignores from those that it
   * does not.
   */
  copyEnd: 13,
  /** Not sent at all: an answer of our own that the client gets in this place. */
  local: 11,
} as const;

const CAPACITY_START = 64;

export class ReplyQueue {
  #entries = new Uint8Array(CAPACITY_START);
  #head = 0;
  #length = 0;
  /** Entries after which ReadyForQuery comes: Sync, Query, FunctionCall. */
  #readies = 0;
  skipping = false;

  get length(): number {
    return this.#length;
  }

  get readies(): number {
    return this.#readies;
  }

  /** The kind at the head, or `EXPECT.none`. */
  get head(): number {
    return this.#length === 0 ? EXPECT.none : (this.#entries[this.#head] as number);
  }

  push(kind: number): void {
    if (this.#length === this.#entries.length) this.#grow();
    this.#entries[(this.#head + this.#length) & (this.#entries.length - 1)] = kind;
    this.#length += 1;
    if (endsWithReady(kind)) this.#readies += 1;
  }

  shift(): number {
    const kind = this.head;
    if (kind === EXPECT.none) return kind;
    this.#head = (this.#head + 1) & (this.#entries.length - 1);
    this.#length -= 1;
    if (endsWithReady(kind)) this.#readies -= 1;
    if (this.head === EXPECT.copyEnd) this.shift();
    return kind;
  }

  /**
   * The server has begun to take the rows of a COPY for the Execute at the head: it ignores each
   * Sync that was sent before the rows' end, and answers none of them.
   */
  ignoreSyncs(): void {
    if (this.head !== EXPECT.execute) return;
    const mask = this.#entries.length - 1;
    let kept = 0;
    let ended = false;
    for (let i = 0; i < this.#length; i++) {
      const kind = this.#entries[(this.#head + i) & mask] as number;
      ended ||= kind === EXPECT.copyEnd;
      if (kind === EXPECT.sync && !ended) {
        this.#readies -= 1;
        continue;
      }
      this.#entries[(this.#head + kept) & mask] = kind;
      kept += 1;
    }
    this.#length = kept;
  }

  /**
   * An error has come for the head: drops what the server will not answer, and tells `dropped` the
   * kind of each entry, the failed one first. Query and FunctionCall stay: their ReadyForQuery
   * follows.
   */
  fail(dropped: (kind: number) => void): void {
    const head = this.head;
    if (head === EXPECT.none || (endsWithReady(head) && head !== EXPECT.sync)) return;
    while (this.#length > 0 && this.head !== EXPECT.sync) {
      dropped(this.shift());
    }
    if (this.#length === 0) this.skipping = true;
  }

  clear(): void {
    this.#head = 0;
    this.#length = 0;
    this.#readies = 0;
    this.skipping = false;
  }

  #grow(): void {
    const entries = new Uint8Array(this.#entries.length * 2);
    for (let i = 0; i < this.#length; i++) {
      entries[i] = this.#entries[(this.#head + i) & (this.#entries.length - 1)] as number;
    }
    this.#entries = entries;
    this.#head = 0;
  }
}

function endsWithReady(kind: number): boolean {
  return (
    kind === EXPECT.sync ||
    kind === EXPECT.query ||
    kind === EXPECT.functionCall ||
    kind === EXPECT.ownQuery
  );
}
