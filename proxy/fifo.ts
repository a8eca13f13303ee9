/** Places at the front that are tolerated before they are given up. */
const COMPACTED_AT = 1_024;

/**
 * A queue whose ends both cost the same however long it is; an array's `shift` moves all that is
 * behind.
 */
export class Fifo<T> {
  #entries: (T | undefined)[] = [];
  #head = 0;

  get length(): number {
    return this.#entries.length - this.#head;
  }

  push(entry: T): void {
    this.#entries.push(entry);
  }

  peek(): T | undefined {
    return this.#entries[this.#head];
  }

  shift(): T | undefined {
    if (this.#head === this.#entries.length) return undefined;
    const entry = this.#entries[this.#head];
    this.#entries[this.#head] = undefined;
    this.#head += 1;
    if (this.#head === this.#entries.length) this.clear();
    else if (this.#head >= COMPACTED_AT && this.#head * 2 >= this.#entries.length) this.#compact();
    return entry;
  }

  /** A queue that never runs empty must not keep the places of all that was ever in it. */
  #compact(): void {
    this.#entries = this.#entries.slice(this.#head);
    this.#head = 0;
  }

  clear(): void {
    this.#entries = [];
    this.#head = 0;
  }
}
