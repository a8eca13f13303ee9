/**
 * Prepared statements over shared connections. A client's name for a statement is its own; on the servers a statement is
 * known by a name that follows from what it says, so that all sessions of a pool share it, and a session finds its
 * statements again on whichever connection it gets.
 */
import { BoundedMap } from "../../bounded-map.ts";
import { copyOf, textAt } from "../../bytes.ts";
import { message } from "./messages.ts";

/** What a Parse message says apart from the name: text, number of parameter types, their OIDs. */
export type Statement = {
  /** Its name on every server of the pool. */
  readonly serverName: string;
  readonly definition: Uint8Array;
};

/** Statements beyond this are forgotten, oldest first; one that comes again gets a new name. */
const STATEMENTS_PER_POOL_MAX = 10_000;
/** A client may name so many; beyond it its own Parse is refused. */
export const STATEMENTS_PER_SESSION_MAX = 10_000;

/** The statements of a pool. */
export class StatementRegistry {
  #byDefinition = new BoundedMap<string, Statement>(STATEMENTS_PER_POOL_MAX);
  #lastNumber = 0;

  /** The statement with this definition, `bytes[start, end)` of a Parse message. */
  intern(bytes: Uint8Array, start: number, end: number): Statement {
    const key = textAt(bytes, start, end);
    const known = this.#byDefinition.get(key);
    if (known !== undefined) return known;
    const statement = {
      serverName: `o7s_${++this.#lastNumber}`,
      definition: copyOf(bytes, start, end),
    };
    this.#byDefinition.set(key, statement);
    return statement;
  }

  /**
   * Gives every statement a new name when it is next parsed: a table has changed, and a server refuses to run what it
   * has planned for the old one. Clients then prepare their statements anew, and must not be given the old ones.
   */
  renew(): void {
    this.#byDefinition = new BoundedMap<string, Statement>(STATEMENTS_PER_POOL_MAX);
  }
}

export function parseMessage(name: string, definition: Uint8Array): Uint8Array {
  return message("P", name, definition);
}

const STATEMENT = Uint8Array.of(0x53); // "S", as against "P" for a portal.

export function closeStatementMessage(name: string): Uint8Array {
  return message("C", STATEMENT, name);
}

/** The statements that one connection to a server has, least recently used first. */
export class UpstreamStatements {
  readonly #present = new Set<Statement>();
  readonly #max: number;

  constructor(max: number) {
    this.#max = max;
  }

  has(statement: Statement): boolean {
    return this.#present.has(statement);
  }

  /** Notes that a statement has just been made or used. */
  use(statement: Statement): void {
    this.#present.delete(statement);
    this.#present.add(statement);
  }

  /** One that should be closed to stay within the bound, taken out of the set; or null. */
  surplus(): Statement | null {
    if (this.#present.size <= this.#max) return null;
    const oldest = this.#present.values().next();
    if (oldest.done) return null;
    this.#present.delete(oldest.value);
    return oldest.value;
  }

  delete(statement: Statement): void {
    this.#present.delete(statement);
  }

  clear(): void {
    this.#present.clear();
  }
}
