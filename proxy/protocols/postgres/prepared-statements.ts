/**
 * Prepared statements over shared connections. A client's name for a statement is its own; on the
 * servers a statement is known by a name that follows from what it says, so that all sessions of a
 * pool share it, and a session finds its statements again on whichever connection it gets.
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
   * Gives every statement a new name when it is next parsed: a table has changed, and a server
   * refuses to run what it has planned for the old one. Clients then prepare their statements anew,
   * and must not be given the old ones.
   */
  renew(): void {
    this.#byDefinition = new BoundedMap<string, Statement>(STATEMENTS_PER_POOL_MAX);
  }
}

/**
 * The name under which a statement is asked for that the client has never made: no server has it,
 * so that it is the server that refuses, and aborts the transaction as it should. Its message shows
 * the client's name behind the prefix.
 */
export function unknownServerName(clientName: string): string {
  return UNKNOWN_PREFIX + clientName;
}

export const UNKNOWN_PREFIX = "o7s_0_";

const CONFIRMED = 0;

export function parseMessage(name: string, definition: Uint8Array): Uint8Array {
  return message("P", name, definition);
}

const STATEMENT = Uint8Array.of(0x53); // "S", as against "P" for a portal.

export function closeStatementMessage(name: string): Uint8Array {
  return message("C", STATEMENT, name);
}

/**
 * The statements that one connection to a server has, least recently used first. One is entered
 * when its Parse is sent and confirmed when that is answered.
 */
export class UpstreamStatements {
  /** With the session's batch in which its Parse was sent, or `CONFIRMED`. */
  readonly #present = new Map<Statement, number>();
  readonly #max: number;

  constructor(max: number) {
    this.#max = max;
  }

  has(statement: Statement): boolean {
    return this.#present.has(statement);
  }

  /**
   * Whether its Parse was sent in an earlier batch and is not answered: the server may never have
   * got to it.
   */
  unsettled(statement: Statement, batch: number): boolean {
    const made = this.#present.get(statement);
    return made !== undefined && made !== CONFIRMED && made < batch;
  }

  /**
   * Notes that a statement is being used; where it is not there, its Parse is sent in this batch.
   */
  use(statement: Statement, batch: number): void {
    const made = this.#present.get(statement) ?? batch;
    this.#present.delete(statement);
    this.#present.set(statement, made);
  }

  /** Its Parse has been answered. */
  confirm(statement: Statement): void {
    if (this.#present.has(statement)) this.#present.set(statement, CONFIRMED);
  }

  /** One that should be closed to stay within the bound, taken out of the set; or null. */
  surplus(): Statement | null {
    if (this.#present.size <= this.#max) return null;
    const oldest = this.#present.keys().next();
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
