/**
 * The protocol-level prepared statements of a session, so that they can be made again on another connection. Bounded:
 * beyond the bound the session is bound to the connection that has them.
 */

const STATEMENTS_MAX = 1_000;
const BYTES_MAX = 1_048_576;

export class PreparedStatements {
  /** Parse messages by statement name; the unnamed statement is one of them. */
  readonly #parses = new Map<string, Uint8Array>();
  /** Sent, and not yet answered. */
  readonly #pending: { name: string; parse: Uint8Array }[] = [];
  #bytes = 0;
  overflown = false;

  get size(): number {
    return this.#parses.size;
  }

  /** A Parse has been sent; `parse` is the whole message, copied by the caller. */
  sent(name: string, parse: Uint8Array): void {
    this.#pending.push({ name, parse });
  }

  /** The oldest unanswered Parse has succeeded. */
  succeeded(): void {
    const statement = this.#pending.shift();
    if (statement === undefined) return;
    this.closed(statement.name);
    if (this.#parses.size >= STATEMENTS_MAX || this.#bytes + statement.parse.length > BYTES_MAX) {
      this.overflown = true;
      return;
    }
    this.#parses.set(statement.name, statement.parse);
    this.#bytes += statement.parse.length;
  }

  /** The oldest unanswered Parse has failed, or will not be looked at. */
  failed(): void {
    this.#pending.shift();
  }

  closed(name: string): void {
    const parse = this.#parses.get(name);
    if (parse === undefined) return;
    this.#parses.delete(name);
    this.#bytes -= parse.length;
  }

  clear(): void {
    this.#parses.clear();
    this.#bytes = 0;
    this.overflown = false;
  }

  /** The Parse messages that make them all again. */
  messages(): Iterable<Uint8Array> {
    return this.#parses.values();
  }
}
