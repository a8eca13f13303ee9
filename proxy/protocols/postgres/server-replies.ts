/**
 * What a server sends: each reply is attributed by the queue of what is owed, counted, and
 * forwarded; answers to messages of our own are kept from the client, and ours to the client's put
 * in their places.
 */
import { byteAt, textAt, zeroIn } from "../../bytes.ts";
import { type Denial, statementTimeout, transactionTimeout } from "../../denial.ts";
import { overdueMs } from "../../layers/query-execution.ts";
import type { ProxyMetrics } from "../../metrics.ts";
import type { Layers } from "../../pipeline.ts";
import type { Fingerprint, SlowStatements } from "../../slow-statements.ts";
import { QUERY_WEIGHT } from "./client-messages.ts";
import { tagName, tagRows } from "./command-tag.ts";
import { errorResponse } from "./errors.ts";
import { FATE, type FrameReceiver, typeSet } from "./frame-reader.ts";
import { errorFields, errorMessage, SERVER } from "./messages.ts";
import { UNKNOWN_PREFIX } from "./prepared-statements.ts";
import { changesPlans } from "./query-costs.ts";
import type { PendingStatement, RelayState } from "./relay-state.ts";
import { EXPECT } from "./reply-queue.ts";
import { clearsState, stateMadeByTag } from "./session-state.ts";
import type { NameChange } from "./session-statements.ts";
import { fingerprintOf } from "./sql-fingerprint.ts";
import { SETTLED } from "./upstream-connection.ts";

/** What the relay does for this direction. */
export type ServerRepliesHost = {
  toClient(bytes: Uint8Array, start?: number, end?: number): void;
  /** Sends what stands at the head of the reply queue and is ours to say. */
  answerLocally(): void;
  /** The server ends this connection while nothing of the session's is lost. */
  upstreamEndsIdle(): void;
  broken(reason: string): void;
  end(denial: Denial): void;
  /** A command has changed what statements cost, or what their names mean. */
  schemaChanged(): void;
};

/** Replies that are looked into, and how far. */
export const SERVER_WHOLE = {
  types: typeSet([
    SERVER.commandComplete,
    SERVER.readyForQuery,
    SERVER.errorResponse,
    SERVER.parameterStatus,
  ]),
  bytesMax: 16_384,
  beginningBytes: 64,
} as const;

/** How a name of `prepared-statements.ts` looks in the server's messages. */
const SERVER_NAME_PREFIX = '"o7s_';
const SEARCH_PATH = Buffer.from("search_path\0");
const QUERY_CANCELED = "57014";
const STATEMENT_TIMEOUT = "canceling statement due to statement timeout";
const IDLE_IN_TRANSACTION = "25P03";
/** By so much the server's clock may have been started earlier than ours. */
const TRANSIT_MS = 200;
const NO_FIELDS: ReadonlyMap<string, string> = new Map();

export class ServerReplies implements FrameReceiver {
  readonly rewrittenBytes = 0;
  readonly #state: RelayState;
  readonly #host: ServerRepliesHost;
  readonly #metrics: ProxyMetrics;
  readonly #slowStatements: SlowStatements;
  readonly #times: ReturnType<ProxyMetrics["statementTimes"]>;
  readonly #nowMs: () => number;
  /** Rows since the last statement ended, for those that end without telling their number. */
  #dataRows = 0;
  /** Statements that the Query message at the head has completed so far. */
  #queryStatements = 0;
  /** Takes the place of the message at hand. */
  #replacement: Uint8Array | null = null;
  /** The server has said that it ends the connection. */
  fatal = false;

  constructor(
    state: RelayState,
    host: ServerRepliesHost,
    { metrics, slowStatements }: Pick<Layers, "metrics" | "slowStatements">,
    nowMs: () => number,
  ) {
    this.#state = state;
    this.#host = host;
    this.#metrics = metrics;
    this.#slowStatements = slowStatements;
    this.#times = metrics.statementTimes(state.session.protocol);
    this.#nowMs = nowMs;
  }

  forward(bytes: Uint8Array, start: number, end: number): void {
    this.#host.toClient(bytes, start, end);
  }

  boundary(): void {
    const replacement = this.#replacement;
    if (replacement !== null) {
      this.#replacement = null;
      this.#host.toClient(replacement);
    }
    this.#host.answerLocally();
  }

  malformed(): void {
    this.#host.broken("the server sent a malformed message");
  }

  message(type: number, bytes: Uint8Array, at: number, available: number, total: number): number {
    if (this.#state.replies.head === EXPECT.ownQuery) {
      return this.#ownQuery(type, bytes, at, available === total ? at + total : -1);
    }
    if (type === SERVER.dataRow) {
      this.#dataRows += 1;
      return FATE.forward;
    }
    if (!this.#note(type, bytes, at, available, total)) return FATE.discard;
    return this.#state.replies.head === EXPECT.local ? FATE.forwardNow : FATE.forward;
  }

  /** The answer to `askForState`, none of which is the client's. */
  #ownQuery(type: number, bytes: Uint8Array, at: number, end: number): number {
    const state = this.#state;
    if (type === SERVER.notificationResponse || type === SERVER.parameterStatus) {
      return FATE.forward;
    }
    if (type === SERVER.dataRow && end > 0) {
      // A DataRow of one column: its count in two bytes, the length of its value in four, the
      // value.
      const start = at + 5 + 2 + 4;
      state.heldStates.verified(textAt(bytes, start, end));
    } else if (type === SERVER.readyForQuery) {
      state.replies.shift();
    }
    return FATE.discard;
  }

  /** Takes note of one reply; false when the client must not see it. */
  #note(type: number, bytes: Uint8Array, at: number, available: number, total: number): boolean {
    switch (type) {
      case SERVER.commandComplete:
        this.#commandComplete(bytes, at + 5, at + available - 1);
        return true;
      case SERVER.readyForQuery:
        this.#readyForQuery(byteAt(bytes, at + 5));
        return true;
      case SERVER.errorResponse:
        return this.#error(bytes.subarray(at + 5, at + available), available === total);
      case SERVER.emptyQueryResponse:
        this.#statementEnds(0);
        return true;
      case SERVER.portalSuspended:
        this.#statementEnds(this.#dataRows);
        return true;
      case SERVER.parseComplete:
        return this.#answers(EXPECT.parse, EXPECT.ownParse);
      case SERVER.closeComplete:
        return this.#answers(EXPECT.close, EXPECT.ownClose);
      case SERVER.bindComplete:
        return this.#answers(EXPECT.bind, EXPECT.ownBind);
      case SERVER.noData:
      case SERVER.rowDescription:
        if (this.#state.replies.head === EXPECT.describe) {
          this.#state.replies.shift();
          this.#state.usedNames.shift();
        }
        return true;
      case SERVER.parameterStatus:
        this.#state.searchPathChanged ||= startsWith(bytes, at + 5, at + available, SEARCH_PATH);
        return true;
      case SERVER.copyInResponse:
        this.#copyInBegins();
        return true;
      default:
        return true;
    }
  }

  /** One step has been answered. It is the client's, or our own, which the client must not see. */
  #answers(kind: number, ownKind: number): boolean {
    const { replies, pendingStatements, usedNames, upstream } = this.#state;
    const head = replies.head;
    if (head !== kind && head !== ownKind) return true;
    replies.shift();
    if (head === EXPECT.bind) usedNames.shift();
    if (head === EXPECT.bind || head === EXPECT.close) return true;
    if (head === EXPECT.ownBind) return false;
    const pending = pendingStatements.shift();
    if (pending === undefined || head === EXPECT.ownClose) return head === kind;
    if (pending.statement !== null) upstream?.statements.confirm(pending.statement);
    else if (upstream !== null) upstream.unnamedBatch = SETTLED;
    if (pending.change !== null) this.#state.statements.confirm(pending.change);
    return head === kind;
  }

  #copyInBegins(): void {
    const state = this.#state;
    state.copyingIn = true;
    state.session.meter.stall(this.#nowMs());
    if (state.replies.head !== EXPECT.execute) return;
    state.replies.ignoreSyncs();
    if (state.replies.readies === 0) state.batchOpen = true;
  }

  #commandComplete(bytes: Uint8Array, start: number, end: number): void {
    this.#statementEnds(tagRows(bytes, start, end));
    if (leavesNoState(byteAt(bytes, start), byteAt(bytes, start + 2))) return;
    const state = this.#state;
    const tag = tagName(bytes, start, end);
    if (changesPlans(tag)) this.#host.schemaChanged();
    if (clearsState(tag)) {
      state.clearHeld();
      state.upstream?.statements.clear();
    } else if (tag === "DEALLOCATE ALL") {
      state.statements.clear();
      state.upstream?.statements.clear();
    } else {
      state.heldStates.add(stateMadeByTag(tag));
    }
  }

  /** A statement has completed, or its portal has given as many rows as were asked for. */
  #statementEnds(rows: number, succeeded = true): void {
    const state = this.#state;
    const { meter, limiter, tenant } = state.session;
    this.#metrics.queries += 1;
    meter.statements(1);
    if (rows > 0) meter.rows(rows);
    this.#dataRows = 0;
    state.copyingIn = false;
    if (state.held !== null) state.heldStates.touched();
    const now = this.#nowMs();
    const durationMs = now - state.statementSinceMs;
    this.#times[tenant.tier].observe(durationMs);
    if (durationMs >= this.#slowStatements.thresholdMs) this.#slow(durationMs, rows, succeeded);
    state.statementSinceMs = now;
    const { head } = state.replies;
    if (head === EXPECT.execute) {
      state.replies.shift();
    } else if (head === EXPECT.query) {
      this.#queryStatements += 1;
      // The message was admitted as one statement; the others are found out only now.
      if (this.#queryStatements > 1) limiter.charge(QUERY_WEIGHT, now);
    }
  }

  #slow(durationMs: number, rows: number, succeeded: boolean): void {
    const { session, running } = this.#state;
    const fingerprint = (): Fingerprint | null => {
      if (running === null) return null;
      return fingerprintOf(typeof running === "string" ? running : textOfDefinition(running));
    };
    this.#slowStatements.note({ session, durationMs, rows, succeeded, fingerprint });
  }

  #readyForQuery(status: number): void {
    const state = this.#state;
    const { head } = state.replies;
    if (head !== EXPECT.sync && head !== EXPECT.query && head !== EXPECT.functionCall) {
      this.#host.broken("the server became ready without having been asked");
      return;
    }
    if (head === EXPECT.functionCall) this.#statementEnds(0);
    state.replies.shift();
    this.#queryStatements = 0;
    this.#dataRows = 0;
    state.copyingIn = false;
    state.timedOutAtMs = -1;
    state.status = status;
    if (state.replies.length === 0) state.running = null;
  }

  #error(body: Uint8Array, whole: boolean): boolean {
    const state = this.#state;
    const fields = whole ? errorFields(body) : NO_FIELDS;
    const overdue = this.#isOverdue(fields);
    const severity = fields.get("V");
    this.fatal = severity === "FATAL" || severity === "PANIC";
    if (state.replies.length === 0) {
      // An error that answers nothing: the server ends the connection. Where nothing is lost by it,
      // the session goes on.
      if (this.#endsIdleTransaction(fields)) return false;
      if (!this.fatal || !state.idle || state.held !== null) return true;
      this.#host.upstreamEndsIdle();
      return false;
    }
    // "cached plan must not change result type", by the server's routine, which is the same in
    // every language.
    if (fields.get("R") === "RevalidateCachedQuery") state.registry.renew();
    const message = fields.get("M");
    if (message?.includes(SERVER_NAME_PREFIX) === true) this.#renameStatement(fields, message);
    this.#metrics.statementFailed(state.session.protocol, fields.get("C") ?? "");
    this.#failStatement();
    state.copyingIn = false;
    if (this.#replacement !== null) return false;
    const ours = state.timedOutAtMs >= 0 && fields.get("C") === QUERY_CANCELED;
    if (!ours && !overdue) return true;
    // The server's words for our cancellation would blame the user.
    state.timedOutAtMs = -1;
    this.#replacement = errorResponse(statementTimeout(state.session.tenant), "ERROR");
    return false;
  }

  /**
   * The server has kept the tier's statement timeout, which it knows too, a moment before O7s would
   * have.
   */
  #isOverdue(fields: ReadonlyMap<string, string>): boolean {
    if (fields.get("C") !== QUERY_CANCELED || fields.get("M") !== STATEMENT_TIMEOUT) return false;
    const { session, statementSinceMs } = this.#state;
    return overdueMs(session, statementSinceMs, this.#nowMs()) > -TRANSIT_MS;
  }

  /**
   * The server has ended a transaction that was idle for as long as the tier allows: it is told in
   * the tier's words.
   */
  #endsIdleTransaction(fields: ReadonlyMap<string, string>): boolean {
    const { session, lastTrafficMs } = this.#state;
    if (fields.get("C") !== IDLE_IN_TRANSACTION) return false;
    const idleMs = this.#nowMs() - lastTrafficMs;
    if (idleMs < session.tenant.limits.idleInTransactionTimeoutMs - TRANSIT_MS) return false;
    this.#host.end(transactionTimeout(session.tenant));
    return true;
  }

  /** The server speaks of a prepared statement by its name there: the client is told its own. */
  #renameStatement(fields: ReadonlyMap<string, string>, text: string): void {
    const renamed = text.includes(UNKNOWN_PREFIX)
      ? text.replace(UNKNOWN_PREFIX, "")
      : text.replace(/(?<=")o7s_\d+(?=")/, this.#failingName());
    this.#replacement = errorMessage(new Map(fields).set("M", renamed));
  }

  /** The client's name of the statement that the message at the head is about. */
  #failingName(): string {
    const { replies, pendingStatements, usedNames } = this.#state;
    const { head } = replies;
    if (head === EXPECT.bind || head === EXPECT.describe) return usedNames.peek() ?? "";
    return pendingStatements.peek()?.clientName ?? "";
  }

  #failStatement(): void {
    const state = this.#state;
    const wasQuery = state.replies.head === EXPECT.query;
    const isParse = state.replies.head === EXPECT.parse;
    const failed = isParse ? state.pendingStatements.peek()?.change : null;
    let executes = 0;
    const changes: NameChange[] = [];
    state.replies.fail((kind) => {
      if (kind === EXPECT.execute) executes += 1;
      else if (kind === EXPECT.local) note(changes, state.localReplies.shift());
      else if (kind === EXPECT.parse || kind === EXPECT.ownParse) note(changes, this.#parseFails());
      else if (kind === EXPECT.bind || kind === EXPECT.describe) state.usedNames.shift();
      else if (kind === EXPECT.ownClose) this.#closeIsSkipped();
    });
    // A Parse of the unnamed statement ends the old one before it fails.
    if (failed?.name === "") state.statements.confirm(failed);
    for (const change of changes.reverse()) state.statements.undo(change);
    if (wasQuery || executes > 0) this.#statementEnds(this.#dataRows, false);
    this.#dataRows = 0;
  }

  /** A Parse has failed or will not be looked at: the server does not have the statement. */
  #parseFails(): PendingStatement | undefined {
    const { upstream, pendingStatements } = this.#state;
    const pending = pendingStatements.shift();
    if (pending === undefined || upstream === null) return pending;
    if (pending.statement === null) upstream.unnamed = null;
    else upstream.statements.delete(pending.statement);
    return pending;
  }

  /** A Close of ours was skipped: the server still has the statement. */
  #closeIsSkipped(): void {
    const { upstream, pendingStatements } = this.#state;
    const statement = pendingStatements.shift()?.statement ?? null;
    if (statement === null || upstream === null) return;
    upstream.statements.use(statement, this.#state.batch);
    upstream.statements.confirm(statement);
  }

  /** Before anything else is said: the connection, or the server, is another one. */
  reset(): void {
    this.#dataRows = 0;
    this.#queryStatements = 0;
    this.#replacement = null;
    this.fatal = false;
  }
}

/** The text of a Parse message from its definition: it comes first, as a C string. */
function textOfDefinition(definition: Uint8Array): string {
  return textAt(definition, 0, Math.max(0, zeroIn(definition, 0, definition.length)));
}

function startsWith(bytes: Uint8Array, start: number, end: number, text: Uint8Array): boolean {
  if (end - start < text.length) return false;
  return text.every((byte, index) => byte === byteAt(bytes, start + index));
}

/**
 * The commands that run most make no state, and are told by two letters: SELECT, INSERT, UPDATE,
 * and DELETE's kin not.
 */
function leavesNoState(first: number, third: number): boolean {
  if (first === 0x53) return third === 0x4c; // S.L: SELECT, as against SET
  return first === 0x49 || first === 0x55; // INSERT; UPDATE, and UNLISTEN, which makes none either
}

function note(
  changes: NameChange[],
  entry: { readonly change: NameChange | null } | undefined,
): void {
  if (entry !== undefined && entry.change !== null) changes.push(entry.change);
}
