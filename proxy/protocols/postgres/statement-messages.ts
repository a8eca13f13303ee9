/**
 * The client's messages about prepared statements: names are replaced by the servers' own, and a
 * statement that the present connection lacks is made there first.
 */
import { copyOf, textAt, zeroIn } from "../../bytes.ts";
import { type Denial, protocolViolation } from "../../denial.ts";
import type { WaitReason } from "./client-messages.ts";
import { FATE } from "./frame-reader.ts";
import { message, STATUS } from "./messages.ts";
import {
  closeStatementMessage,
  parseMessage,
  STATEMENTS_PER_SESSION_MAX,
  type Statement,
  unknownServerName,
} from "./prepared-statements.ts";
import { refusingBatch } from "./refusing-statements.ts";
import type { RelayState } from "./relay-state.ts";
import { EXPECT } from "./reply-queue.ts";
import type { NameChange } from "./session-statements.ts";
import { SETTLED } from "./upstream-connection.ts";

/** What the stream of client messages does for those about statements. */
export type StatementMessagesHost = {
  /** Notes what the message has to wait for, and returns its fate. */
  wait(what: WaitReason): number;
  /** Puts an answer of ours in its place among the server's. */
  answer(bytes: Uint8Array, change: NameChange): void;
  /** Sends these bytes in place of the message, or of its first `rewrittenBytes`. */
  replace(bytes: Uint8Array, rewrittenBytes?: number): void;
  /** Looks into a text: notes the state that it may make, or tells why it must not run. */
  look(text: string | null): Denial | null;
  logged(denial: Denial): Denial;
  malformedName(): number;
};

const NAME_BYTES_MAX = 256;
const PARSE_COMPLETE = message("1");
const CLOSE_COMPLETE = message("3");

export class StatementMessages {
  readonly #state: RelayState;
  readonly #host: StatementMessagesHost;
  readonly #nowMs: () => number;

  constructor(state: RelayState, host: StatementMessagesHost, nowMs: () => number) {
    this.#state = state;
    this.#host = host;
    this.#nowMs = nowMs;
  }

  /** A Parse; `verdict` is why it must not run, where that is known. */
  parse(
    bytes: Uint8Array,
    at: number,
    available: number,
    total: number,
    verdict: Denial | null,
  ): number {
    const state = this.#state;
    const nameEnd = zeroIn(bytes, at + 5, at + available);
    if (!isNameEnd(nameEnd, at + 5)) return this.#host.malformedName();
    const name = textAt(bytes, at + 5, nameEnd);
    if (state.statements.unsettled(name, state.position)) return this.#host.wait("answers");
    if (available < total) return this.#parseUnkept(name);
    const textEnd = zeroIn(bytes, nameEnd + 1, at + total);
    const looked = this.#host.look(textEnd < 0 ? null : textAt(bytes, nameEnd + 1, textEnd));
    const refusal = verdict ?? looked;
    if (refusal !== null) return this.#refuseParse(refusal);
    if (name === "") return this.#parseUnnamed(copyOf(bytes, nameEnd + 1, at + total));
    const statement = state.registry.intern(bytes, nameEnd + 1, at + total);
    const existing = state.statements.get(name);
    if (existing !== null) return this.#parseAgain(name, existing, statement);
    if (state.statements.size >= STATEMENTS_PER_SESSION_MAX) {
      return this.#refuseParse(protocolViolation("too many prepared statements in this session"));
    }
    const upstream = this.#upstream();
    if (upstream.statements.unsettled(statement, state.batch)) return this.#host.wait("answers");
    state.unkept.delete(name);
    const present = upstream.statements.has(statement);
    // An answer of ours is only true if the transaction, if there is one, has not failed meanwhile.
    if (present && state.replies.readies > 0) return this.#host.wait("answers");
    const change = state.statements.set(name, statement, state.position, !present);
    upstream.statements.use(statement, state.batch);
    if (present && state.status === STATUS.failed) {
      // In a failed transaction the server refuses to prepare: it is asked, by the one name that is
      // always free.
      upstream.unnamed = null;
      this.#expectStatement(EXPECT.parse, name, null, change);
      this.#host.replace(parseMessage("", statement.definition));
      return FATE.discard;
    }
    if (present) {
      this.#host.answer(PARSE_COMPLETE, change);
      return FATE.discard;
    }
    this.#expectStatement(EXPECT.parse, name, statement, change);
    this.#host.replace(parseMessage(statement.serverName, statement.definition));
    return FATE.discard;
  }

  /** A statement too long to be kept: from here on the session needs this very connection. */
  #parseUnkept(name: string): number {
    const state = this.#state;
    state.heldStates.add("a statement too long to look into");
    state.unkept.add(name);
    const change = name === "" ? state.statements.set(name, null, state.position) : null;
    this.#expectStatement(EXPECT.parse, name, null, change);
    return FATE.forward;
  }

  #parseUnnamed(definition: Uint8Array): number {
    const state = this.#state;
    state.unkept.delete("");
    const statement = { serverName: "", definition };
    const change = state.statements.set("", statement, state.position);
    this.#upstream().unnamed = statement;
    this.#upstream().unnamedBatch = state.batch;
    this.#expectStatement(EXPECT.parse, "", null, change);
    return FATE.forward;
  }

  /**
   * A Parse of a name that is taken. It is sent under the server's name of what has it, so that the
   * server says what is wrong: the text, if that is, and else the name.
   */
  #parseAgain(name: string, existing: Statement, statement: Statement): number {
    const made = this.#ensure(existing, name);
    if (made === "unsettled") return this.#host.wait("answers");
    this.#expectStatement(EXPECT.parse, name, null, null);
    const again = parseMessage(existing.serverName, statement.definition);
    this.#host.replace(made === null ? again : Buffer.concat([made, again]));
    return FATE.discard;
  }

  /** Bind and Describe of a statement, whose name starts at `nameStart` of the message. */
  use(
    kind: number,
    bytes: Uint8Array,
    at: number,
    available: number,
    total: number,
    nameStart: number,
  ): number {
    const state = this.#state;
    const nameEnd = zeroIn(bytes, nameStart, at + available);
    if (!isNameEnd(nameStart, at + 5) || !isNameEnd(nameEnd, nameStart)) {
      return this.#host.malformedName();
    }
    const name = textAt(bytes, nameStart, nameEnd);
    if (state.unkept.has(name)) {
      state.bound = null;
      state.expectUse(kind, name, this.#nowMs());
      return FATE.forward;
    }
    if (state.statements.unsettledForUse(name, state.position)) return this.#host.wait("answers");
    const statement = state.statements.get(name);
    if (kind === EXPECT.bind) state.bound = statement?.definition ?? null;
    if (name === "") return this.#useUnnamed(kind, statement);
    const serverName = statement?.serverName ?? unknownServerName(name);
    const made = statement === null ? null : this.#ensure(statement, name);
    if (made === "unsettled") return this.#host.wait("answers");
    state.expectUse(kind, name, this.#nowMs());
    const nameBytes = Buffer.from(`${serverName}\0`, "latin1");
    const head = Buffer.allocUnsafe(nameStart - at + nameBytes.length);
    head.set(bytes.subarray(at, nameStart));
    head.set(nameBytes, nameStart - at);
    head.writeUInt32BE(total - 1 - (nameEnd + 1 - nameStart) + nameBytes.length, 1);
    this.#host.replace(made === null ? head : Buffer.concat([made, head]), nameEnd + 1 - at);
    return FATE.rewrite;
  }

  #useUnnamed(kind: number, statement: Statement | null): number {
    const state = this.#state;
    const upstream = this.#upstream();
    if (statement !== null && upstream.unnamed === statement) {
      const { unnamedBatch } = upstream;
      if (unnamedBatch !== SETTLED && unnamedBatch < state.batch) return this.#host.wait("answers");
      state.expectUse(kind, "", this.#nowMs());
      return FATE.forward;
    }
    if (statement === null) {
      // The server refuses it: it may have another session's, which is closed first.
      upstream.unnamed = null;
      this.#expectStatement(EXPECT.ownClose, "", null, null);
      this.#host.replace(closeStatementMessage(""));
    } else {
      // Its connection has changed since the Parse: it is made again on this one.
      upstream.unnamed = statement;
      upstream.unnamedBatch = state.batch;
      this.#expectStatement(EXPECT.ownParse, "", null, null);
      this.#host.replace(parseMessage("", statement.definition));
    }
    state.expectUse(kind, "", this.#nowMs());
    return FATE.rewrite;
  }

  /**
   * The messages that make a statement on the present connection and keep that within its bound,
   * null if it is there, or `unsettled` if nobody knows.
   */
  #ensure(statement: Statement, clientName: string): Uint8Array | null | "unsettled" {
    const { statements } = this.#upstream();
    const { batch } = this.#state;
    if (statements.unsettled(statement, batch)) return "unsettled";
    const present = statements.has(statement);
    statements.use(statement, batch);
    if (present) return null;
    this.#expectStatement(EXPECT.ownParse, clientName, statement, null);
    const parse = parseMessage(statement.serverName, statement.definition);
    const surplus = statements.surplus();
    if (surplus === null) return parse;
    this.#expectStatement(EXPECT.ownClose, "", surplus, null);
    return Buffer.concat([parse, closeStatementMessage(surplus.serverName)]);
  }

  #expectStatement(
    kind: number,
    clientName: string,
    statement: Statement | null,
    change: NameChange | null,
  ): void {
    this.#state.pendingStatements.push({ statement, clientName, change });
    this.#state.expect(kind, this.#nowMs());
  }

  /** Other sessions share the server's statement: only the client's name for it goes. */
  close(name: string): number {
    const { statements, position } = this.#state;
    if (statements.unsettled(name, position)) return this.#host.wait("answers");
    this.#host.answer(CLOSE_COMPLETE, statements.set(name, null, position));
    return FATE.discard;
  }

  /**
   * In place of a Parse the server gets a whole statement of ours, whose error is the only answer
   * to be seen.
   */
  #refuseParse(denial: Denial): number {
    this.#expectStatement(EXPECT.ownParse, "", null, null);
    this.#state.expect(EXPECT.ownBind, this.#nowMs());
    this.#expectStatement(EXPECT.parse, "", null, null);
    this.#upstream().unnamed = null;
    this.#host.replace(refusingBatch(this.#host.logged(denial)));
    return FATE.discard;
  }

  #upstream(): NonNullable<RelayState["upstream"]> {
    const { upstream } = this.#state;
    if (upstream === null) throw new Error("a message was taken without a connection for it");
    return upstream;
  }
}

function isNameEnd(end: number, start: number): boolean {
  return end >= start && end - start <= NAME_BYTES_MAX;
}
