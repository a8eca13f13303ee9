/**
 * A session's prepared statements by the client's names for them, kept in step with what the server
 * would have.
 *
 * A name changes when its Parse or Close is sent on, before it is known whether the server gets to
 * it: an error earlier in the batch makes it skip the rest. So each change can be undone, and a
 * message of a later batch that depends on a change whose fate is open must wait for it.
 */
import type { Statement } from "./prepared-statements.ts";

type Entry = {
  /** Null once the name has been closed. */
  readonly statement: Statement | null;
  /** The batch in which it changed. */
  readonly batch: number;
  /**
   * Whether the name stood for nothing before, and the statement for nothing on the server: then
   * the server itself refuses a use of it if the Parse fails.
   */
  readonly fresh: boolean;
  /** What it stood for before, as long as the change may have to be taken back. */
  before: Entry | undefined;
};

/** A change of a name, to be confirmed or taken back when its message has been answered. */
export type NameChange = { readonly name: string; readonly entry: Entry };

/** Where a session is in its stream of batches: each ends with a Sync, or is a Query by itself. */
export type BatchPosition = {
  /** The number of the batch at hand. */
  readonly batch: number;
  /** How many batches before it are unanswered. */
  readonly unanswered: number;
};

/**
 * Closed names are remembered while their fate is open, and cleared away when there are too many.
 */
const CLOSED_MAX = 1_000;

export class SessionStatements {
  readonly #entries = new Map<string, Entry>();
  #closed = 0;

  /** How many names stand for a statement. */
  get size(): number {
    return this.#entries.size - this.#closed;
  }

  get(name: string): Statement | null {
    return this.#entries.get(name)?.statement ?? null;
  }

  /** `isNew` says that the server is being sent the statement with this change. */
  set(
    name: string,
    statement: Statement | null,
    { batch }: BatchPosition,
    isNew = false,
  ): NameChange {
    const before = this.#entries.get(name);
    const fresh = isNew && (before === undefined || before.statement === null);
    const entry = { statement, batch, fresh, before };
    this.#put(name, entry);
    if (this.#closed > CLOSED_MAX) this.#clearClosed(batch);
    return { name, entry };
  }

  /** The server has got to it. */
  confirm({ entry }: NameChange): void {
    entry.before = undefined;
  }

  /**
   * The server has not: the name stands for what it stood for before, unless it has changed again
   * since.
   */
  undo({ name, entry }: NameChange): void {
    const current = this.#entries.get(name);
    if (current === entry) {
      this.#put(name, entry.before);
      return;
    }
    let later = current;
    while (later !== undefined && later.before !== entry) later = later.before;
    if (later !== undefined) later.before = entry.before;
  }

  /**
   * Whether a Parse or Close of the name has to wait until it is known what became of an earlier
   * one. The unnamed statement is replaced whatever it was.
   */
  unsettled(name: string, position: BatchPosition): boolean {
    return name !== "" && this.#isOpen(name, position);
  }

  #isOpen(name: string, { batch, unanswered }: BatchPosition): boolean {
    const entry = this.#entries.get(name);
    return entry !== undefined && entry.batch < batch && entry.batch >= batch - unanswered;
  }

  /** The same for a Bind or Describe; a fresh name may be used at once. */
  unsettledForUse(name: string, position: BatchPosition): boolean {
    const isFresh = this.#entries.get(name)?.fresh === true && this.get(name) !== null;
    return !(name !== "" && isFresh) && this.#isOpen(name, position);
  }

  clear(): void {
    this.#entries.clear();
    this.#closed = 0;
  }

  #put(name: string, entry: Entry | undefined): void {
    if (this.#entries.get(name)?.statement === null) this.#closed -= 1;
    this.#entries.delete(name);
    if (entry === undefined) return;
    if (entry.statement === null) this.#closed += 1;
    this.#entries.set(name, entry);
  }

  #clearClosed(batch: number): void {
    for (const [name, entry] of this.#entries) {
      if (entry.statement === null && entry.batch < batch) this.#put(name, undefined);
    }
  }
}
