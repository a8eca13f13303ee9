/**
 * The relay: a session after login, both directions. It looks into the messages that it acts on, by offset, and
 * forwards the rest as bytes. `reply-queue.ts` says what the server owes; from it follow idleness, attribution and order.
 */
import { byteAt, uint32At, zeroIn } from "../../bytes.ts";
import type { ComputeLease, ComputeUser } from "../../compute-leases.ts";
import {
  type Denial,
  protocolViolation,
  sessionStateExpired,
  statementTimeout,
  transactionIdle,
  upstreamLost,
} from "../../denial.ts";
import { mayDetach, overdueMs } from "../../layers/query-execution.ts";
import type { Waiter } from "../../layers/rate-limiter.ts";
import { admitRequest, isDenial, type Layers, logDenial } from "../../pipeline.ts";
import type { Session } from "../../session.ts";
import { tagName, tagRows } from "./command-tag.ts";
import { errorResponse } from "./errors.ts";
import { CLIENT, errorFields, readyForQuery, SERVER, STATUS, syncMessage } from "./messages.ts";
import { PreparedStatements } from "./prepared-statements.ts";
import { EXPECT, ReplyQueue } from "./reply-queue.ts";
import {
  clearsState,
  type HeldState,
  SCANNED_BYTES_MAX,
  stateMadeBy,
  stateMadeByTag,
} from "./session-state.ts";
import type { UpstreamConnection, UpstreamOwner } from "./upstream-connection.ts";

/** The client's side of the connection, as the relay needs it. */
export type ClientLink = {
  /** True when the client has taken everything. */
  write(bytes: Uint8Array, start?: number, end?: number): boolean;
  pauseReading(): void;
  resumeReading(): void;
  /** Closes once everything written has been taken. */
  close(): void;
};

export type RelayOptions = {
  readonly layers: Layers;
  readonly session: Session;
  readonly client: ClientLink;
  readonly nowMs: () => number;
  /** Opens an upstream for this session's target and startup parameters. */
  readonly connect: () => Promise<UpstreamConnection | Denial>;
};

/** PostgreSQL's own bound on a message (`PQ_LARGE_MESSAGE_LIMIT`). */
const MESSAGE_BYTES_MAX = 0x3fff_ffff;
/** Replies of these types are read whole; longer ones are only passed on. */
const READ_BYTES_MAX = 16_384;
/** A pipeline may have so many unanswered messages before its client is held back. */
const UNANSWERED_MAX = 65_536;
/** After this, a statement that ignores its cancellation costs the session. */
const CANCEL_GRACE_MS = 10_000;

const QUERY_WEIGHT = 1;

/** What becomes of a client's message. */
const FORWARD = 0;
const DISCARD = 1;
const BLOCK = 2;

export class Relay implements UpstreamOwner, ComputeUser, Waiter {
  readonly #layers: Layers;
  readonly #session: Session;
  readonly #client: ClientLink;
  readonly #nowMs: () => number;
  readonly #connect: RelayOptions["connect"];
  readonly #replies = new ReplyQueue();
  readonly #prepared = new PreparedStatements();
  readonly #denials: { denial: Denial; ready: boolean }[] = [];
  #upstream: UpstreamConnection | null;
  #closed = false;

  // From the client.
  #input: Uint8Array | null = null;
  #arrivedMs = 0;
  /** Bytes of the current message's body that are still to come, and whether they go to the server. */
  #bodyLeft = 0;
  #bodyDiscarded = false;
  #blocked: "turn" | "upstream" | "replies" | null = null;
  #paid = false;
  /** Executes sent since the last Sync: an error of ours would lie about them. */
  #batchExecutes = 0;
  /** A denial stands in for the rest of the batch. */
  #denyingUntilSync = false;

  // From the server.
  #status: number = STATUS.idle;
  #carry: Uint8Array | null = null;
  #skip = 0;
  #dataRows = 0;
  #queryStatements = 0;
  #copyingIn = false;
  #clientBehind = false;
  #statementSinceMs = 0;
  #cancelledAtMs = -1;
  #lastTrafficMs: number;
  #held: HeldState | null = null;
  #fatal = false;

  constructor(options: RelayOptions, upstream: UpstreamConnection) {
    this.#layers = options.layers;
    this.#session = options.session;
    this.#client = options.client;
    this.#nowMs = options.nowMs;
    this.#connect = options.connect;
    this.#upstream = upstream;
    this.#lastTrafficMs = options.nowMs();
    upstream.own(this);
    const { lease } = options.session.route;
    if (lease !== null) lease.users.add(this);
  }

  /** Why the session is bound to its connection, or null. */
  get held(): HeldState | null {
    return this.#held ?? (this.#prepared.overflown ? "prepared statements" : null);
  }

  get idle(): boolean {
    return this.#replies.length === 0 && this.#status === STATUS.idle && this.#batchExecutes === 0;
  }

  // ——— From the client ———

  clientData(bytes: Uint8Array): void {
    if (this.#closed) return;
    this.#session.meter.bytesIn(bytes.length);
    this.#arrivedMs = this.#nowMs();
    this.#lastTrafficMs = this.#arrivedMs;
    if (this.#input === null) {
      this.#consume(bytes, true);
      return;
    }
    const joined = Buffer.concat([this.#input, bytes]);
    this.#input = joined;
    if (this.#blocked === null) this.#consume(joined, false);
  }

  /** The client has gone: what runs for it is stopped, and its connection to the server given up. */
  clientClosed(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#leave();
    const upstream = this.#upstream;
    if (upstream === null) return;
    if (this.#replies.length > 0) upstream.cancel();
    upstream.close();
  }

  clientDrained(): void {
    if (!this.#clientBehind) return;
    this.#clientBehind = false;
    this.#session.meter.resume(this.#nowMs());
    this.#upstream?.resume();
  }

  /** Its turn has come (rate limiter). */
  admitted(): void {
    if (this.#blocked !== "turn") return;
    this.#paid = true;
    this.#unblock();
  }

  /** Cancels what runs, at the client's request. */
  cancel(): void {
    if (this.#replies.length > 0) this.#upstream?.cancel();
  }

  /** Ends the session with a last message to the client. */
  end(denial: Denial): void {
    if (this.#closed) return;
    // In the middle of a message of the server's there is no place for one of ours.
    if (this.#skip === 0) this.#toClient(errorResponse(denial, "FATAL"));
    this.clientClosed();
    this.#client.close();
  }

  tick(nowMs: number): void {
    if (this.#replies.length === 0) return;
    if (this.#cancelledAtMs >= 0) {
      if (nowMs - this.#cancelledAtMs > CANCEL_GRACE_MS) {
        this.end(statementTimeout(this.#session.tenant));
      }
      return;
    }
    const waitsForClient = this.#copyingIn || this.#clientBehind;
    if (waitsForClient || overdueMs(this.#session, this.#statementSinceMs, nowMs) <= 0) return;
    this.#cancelledAtMs = nowMs;
    this.#upstream?.cancel();
  }

  /** Takes messages from `bytes` until it is used up or something has to be waited for. */
  #consume(bytes: Uint8Array, borrowed: boolean): void {
    const end = bytes.length;
    let at = 0;
    let runStart = 0;
    while (at < end && !this.#closed) {
      if (this.#bodyLeft > 0) {
        const taken = Math.min(this.#bodyLeft, end - at);
        this.#bodyLeft -= taken;
        at += taken;
        if (this.#bodyDiscarded) runStart = at;
        continue;
      }
      if (end - at < 5) break;
      const type = byteAt(bytes, at);
      const total = uint32At(bytes, at + 1) + 1;
      if (total < 5 || total > MESSAGE_BYTES_MAX) {
        this.end(protocolViolation("invalid message length"));
        return;
      }
      const available = Math.min(total, end - at);
      if (available < total && total <= SCANNED_BYTES_MAX && isRead(type)) break;
      const fate = this.#accept(type, bytes, at, available, total);
      if (this.#closed) return;
      if (fate === BLOCK) break;
      if (fate === DISCARD) {
        this.#forward(bytes, runStart, at);
        runStart = at + available;
      }
      this.#bodyLeft = total - available;
      this.#bodyDiscarded = fate === DISCARD;
      at += available;
    }
    if (this.#closed) return;
    this.#forward(bytes, runStart, at);
    this.#input = at === end ? null : borrowed ? bytes.slice(at) : bytes.subarray(at);
  }

  #forward(bytes: Uint8Array, start: number, end: number): void {
    if (start >= end || this.#upstream === null) return;
    if (!this.#upstream.write(bytes, start, end)) this.#client.pauseReading();
  }

  /** Decides about one message, of which `available` bytes are here; what it expects of the server is noted. */
  #accept(type: number, bytes: Uint8Array, at: number, available: number, total: number): number {
    switch (type) {
      case CLIENT.query:
        return this.#acceptRequest(EXPECT.query, bytes, at, available, total);
      case CLIENT.execute:
        return this.#acceptRequest(EXPECT.execute, bytes, at, available, total);
      case CLIENT.functionCall:
        return this.#acceptRequest(EXPECT.functionCall, bytes, at, available, total);
      case CLIENT.parse:
        return this.#acceptStep(EXPECT.parse, bytes, at, available, total);
      case CLIENT.bind:
        return this.#acceptStep(EXPECT.bind, bytes, at, available, total);
      case CLIENT.describe:
        return this.#acceptStep(EXPECT.describe, bytes, at, available, total);
      case CLIENT.close:
        return this.#acceptStep(EXPECT.close, bytes, at, available, total);
      case CLIENT.flush:
        return this.#ignoresUntilSync() || this.#upstream === null ? DISCARD : FORWARD;
      case CLIENT.sync:
        return this.#acceptSync();
      case CLIENT.copyDone:
      case CLIENT.copyFail:
        if (this.#copyingIn) {
          this.#copyingIn = false;
          this.#session.meter.resume(this.#nowMs());
          this.#statementSinceMs = this.#nowMs();
        }
        return this.#upstream === null ? DISCARD : FORWARD;
      case CLIENT.copyData:
        // After a failed COPY the client may go on sending; the server ignores it, and so do we without one.
        return this.#upstream === null ? DISCARD : FORWARD;
      case CLIENT.terminate:
        this.clientClosed();
        this.#client.close();
        return DISCARD;
      default:
        this.end(protocolViolation(`invalid frontend message type ${type}`));
        return DISCARD;
    }
  }

  #ignoresUntilSync(): boolean {
    return this.#denyingUntilSync || this.#replies.skipping;
  }

  /** Query, Execute, FunctionCall: what the layers are asked about. */
  #acceptRequest(
    kind: number,
    bytes: Uint8Array,
    at: number,
    available: number,
    total: number,
  ): number {
    if (this.#ignoresUntilSync()) return DISCARD;
    if (this.#replies.length >= UNANSWERED_MAX) return this.#block("replies");
    const now = this.#nowMs();
    const underWay = this.#replies.readies > 0 || this.#batchExecutes > 0;
    const mayDeny = !underWay && this.#status === STATUS.idle;
    const paid = this.#paid;
    const admission = admitRequest(
      this.#layers,
      this.#session,
      QUERY_WEIGHT,
      paid,
      mayDeny,
      this.#arrivedMs,
      now,
    );
    if (admission === "throttled") {
      this.#session.limiter.wait(this, QUERY_WEIGHT);
      return this.#block("turn");
    }
    if (isAdmissionDenial(admission)) return this.#deny(admission, kind);
    // From here on the turn has been paid for, also when the message is looked at again after a wake.
    this.#paid = true;
    if (!this.#hasUpstream(admission === "run")) return this.#block("upstream");
    this.#paid = false;
    this.#session.meter.begin(now);
    if (this.#replies.length === 0) this.#statementSinceMs = now;
    this.#replies.push(kind);
    if (kind === EXPECT.execute) this.#batchExecutes += 1;
    if (kind === EXPECT.query) this.#noteState(bytes, at + 5, available, total);
    if (kind === EXPECT.functionCall) this.#held ??= "session settings";
    return FORWARD;
  }

  /** Parse, Bind, Describe, Close: part of a batch, free of charge. */
  #acceptStep(
    kind: number,
    bytes: Uint8Array,
    at: number,
    available: number,
    total: number,
  ): number {
    if (this.#ignoresUntilSync()) return DISCARD;
    if (this.#replies.length >= UNANSWERED_MAX) return this.#block("replies");
    const now = this.#nowMs();
    if (!this.#hasUpstream(this.#session.route.open(now) !== null)) return this.#block("upstream");
    this.#session.meter.begin(now);
    if (this.#replies.length === 0) this.#statementSinceMs = now;
    this.#replies.push(kind);
    if (kind === EXPECT.parse) this.#noteParse(bytes, at, available, total);
    if (kind === EXPECT.close && available === total && byteAt(bytes, at + 5) === 0x53) {
      this.#prepared.closed(textAt(bytes, at + 6, at + total - 1));
    }
    return FORWARD;
  }

  #acceptSync(): number {
    this.#batchExecutes = 0;
    this.#denyingUntilSync = false;
    this.#replies.skipping = false;
    if (this.#upstream === null) {
      this.#toClient(readyForQuery(STATUS.idle));
      return DISCARD;
    }
    this.#session.meter.begin(this.#nowMs());
    this.#replies.push(EXPECT.sync);
    return FORWARD;
  }

  #deny(denial: Denial, kind: number): number {
    this.#paid = false;
    logDenial(this.#layers, denial, { orgId: this.#session.orgId, protocol: "postgres" });
    const ready = kind !== EXPECT.execute && kind !== EXPECT.bind;
    if (!ready) this.#denyingUntilSync = true;
    this.#denials.push({ denial, ready });
    this.#replies.push(EXPECT.denial);
    this.#answerDenials();
    return DISCARD;
  }

  /** Whether there is a server to send to. `open` says whether its route is. */
  #hasUpstream(open: boolean): boolean {
    if (this.#upstream === null) return false;
    if (open || !this.idle) return true;
    if (this.held !== null) return true; // Its lease is kept for it; it is not to be lost for a late renewal.
    // The compute may be stopping: the old connection is not to be trusted with a query.
    this.#detach();
    return false;
  }

  #block(reason: "turn" | "upstream" | "replies"): number {
    this.#blocked = reason;
    this.#client.pauseReading();
    if (reason === "upstream") this.#attach().catch((error: unknown) => this.#broken(error));
    return BLOCK;
  }

  #unblock(): void {
    if (this.#closed) return;
    this.#blocked = null;
    const input = this.#input;
    this.#input = null;
    if (input !== null) this.#consume(input, false);
    if (this.#blocked === null && !this.#closed && this.#upstream?.backlogged !== true) {
      this.#client.resumeReading();
    }
  }

  async #attach(): Promise<void> {
    this.#layers.metrics.wakes += this.#session.route.lease === null ? 0 : 1;
    const upstream = await this.#connect();
    if (this.#closed) {
      if (!isDenial(upstream)) upstream.close();
      return;
    }
    if (isDenial(upstream)) {
      this.#denyWaiting(upstream);
      return;
    }
    this.#upstream = upstream;
    this.#status = STATUS.idle;
    this.#fatal = false;
    upstream.own(this);
    for (const parse of this.#prepared.messages()) {
      upstream.write(parse);
      upstream.write(syncMessage);
      this.#replies.push(EXPECT.ownParse);
      this.#replies.push(EXPECT.ownSync);
    }
    this.#unblock();
  }

  /** The message that waited for an upstream is answered with why there is none. */
  #denyWaiting(denial: Denial): void {
    const input = this.#input;
    const type = input === null ? 0 : byteAt(input, 0);
    if (input === null) return;
    const total = uint32At(input, 1) + 1;
    const simple = type === CLIENT.query || type === CLIENT.functionCall;
    this.#deny(denial, simple ? EXPECT.query : EXPECT.execute);
    this.#bodyLeft = Math.max(0, total - input.length);
    this.#bodyDiscarded = true;
    this.#input = input.length > total ? input.subarray(total) : null;
    this.#unblock();
  }

  #noteState(bytes: Uint8Array, start: number, available: number, total: number): void {
    if (this.#held !== null) return;
    if (available < total) {
      this.#held = "state that a statement too long to look into may have made";
      return;
    }
    this.#held = stateMadeBy(textAt(bytes, start, start + total - 6));
  }

  #noteParse(bytes: Uint8Array, at: number, available: number, total: number): void {
    const nameEnd = zeroIn(bytes, at + 5, at + available);
    if (available < total || nameEnd < 0) {
      this.#held ??= "state that a statement too long to look into may have made";
      this.#prepared.sent("", new Uint8Array(0));
      this.#prepared.overflown = true;
      return;
    }
    const name = textAt(bytes, at + 5, nameEnd);
    this.#prepared.sent(name, bytes.slice(at, at + total));
    if (this.#held === null) {
      const textEnd = zeroIn(bytes, nameEnd + 1, at + total);
      this.#held = stateMadeBy(textAt(bytes, nameEnd + 1, textEnd));
    }
  }

  // ——— From the server ———

  upstreamData(chunk: Uint8Array): void {
    if (this.#closed) return;
    const bytes = this.#carry === null ? chunk : Buffer.concat([this.#carry, chunk]);
    this.#carry = null;
    const end = bytes.length;
    let at = 0;
    let runStart = 0;
    while (at < end) {
      if (this.#skip > 0) {
        const skipped = Math.min(this.#skip, end - at);
        this.#skip -= skipped;
        at += skipped;
        continue;
      }
      if (end - at < 5) break;
      const type = byteAt(bytes, at);
      const total = uint32At(bytes, at + 1) + 1;
      const available = Math.min(total, end - at);
      if (available < total && total <= READ_BYTES_MAX && isInspected(type)) break;
      const relayed = this.#reply(type, bytes, at, available, total);
      if (!relayed || this.#replies.head === EXPECT.denial) {
        this.#toClient(bytes, runStart, relayed ? at + available : at);
        runStart = at + available;
        this.#answerDenials();
      }
      this.#skip = total - available;
      at += available;
    }
    this.#toClient(bytes, runStart, at);
    if (at < end) this.#carry = bytes.slice(at);
    this.#afterReplies();
  }

  upstreamDrained(): void {
    if (this.#blocked === null && !this.#closed) this.#client.resumeReading();
  }

  upstreamClosed(): void {
    if (this.#closed) return;
    this.#layers.metrics.upstreamsLost += 1;
    const { lease } = this.#session.route;
    if (lease !== null && this.#upstream !== null) lease.lost(this.#upstream.generation);
    const survivable = this.idle && this.held === null && !this.#fatal;
    this.#forgetUpstream();
    if (survivable) return;
    if (this.#fatal) {
      this.clientClosed();
      this.#client.close();
    } else {
      this.end(upstreamLost("the server closed the connection"));
    }
  }

  /** The lease on the compute has run out (see `keepAwake`). */
  computeSleeps(): void {
    if (mayDetach(this)) this.#detach();
  }

  keepAwake(nowMs: number, lease: ComputeLease): void {
    const busy = this.#replies.length > 0 || this.#blocked === "turn";
    if (busy) {
      lease.touch(nowMs);
      return;
    }
    const { held } = this;
    if (this.#upstream === null || (this.idle && held === null)) return;
    const limitMs = this.#session.tenant.limits.statefulIdleMs;
    if (nowMs - this.#lastTrafficMs < limitMs) lease.touch(nowMs);
    else if (held !== null) this.end(sessionStateExpired(held, limitMs));
    else this.end(transactionIdle(limitMs));
  }

  /** Takes note of one reply; false when the client must not see it. */
  #reply(type: number, bytes: Uint8Array, at: number, available: number, total: number): boolean {
    const replies = this.#replies;
    switch (type) {
      case SERVER.dataRow:
        this.#dataRows += 1;
        return true;
      case SERVER.commandComplete:
        this.#commandComplete(bytes, at + 5, at + total - 1);
        return true;
      case SERVER.readyForQuery:
        return this.#readyForQuery(byteAt(bytes, at + 5));
      case SERVER.errorResponse:
        return this.#errorResponse(bytes, at, available, total);
      case SERVER.emptyQueryResponse:
        this.#statementDone(0);
        return true;
      case SERVER.portalSuspended:
        this.#statementDone(this.#dataRows);
        return true;
      case SERVER.parseComplete:
        if (replies.head === EXPECT.ownParse) {
          replies.shift();
          return false;
        }
        if (replies.head === EXPECT.parse) replies.shift();
        this.#prepared.succeeded();
        return true;
      case SERVER.bindComplete:
        if (replies.head === EXPECT.bind) replies.shift();
        return true;
      case SERVER.closeComplete:
        if (replies.head === EXPECT.close) replies.shift();
        return true;
      case SERVER.noData:
      case SERVER.rowDescription:
        if (replies.head === EXPECT.describe) replies.shift();
        return true;
      case SERVER.copyInResponse:
        this.#copyingIn = true;
        this.#session.meter.stall(this.#nowMs());
        return true;
      default:
        return true;
    }
  }

  #commandComplete(bytes: Uint8Array, start: number, end: number): void {
    this.#statementDone(tagRows(bytes, start, end));
    const first = byteAt(bytes, start);
    // SELECT, INSERT, UPDATE, BEGIN and COMMIT make no state: their first letters are let through at once.
    if (first === 0x53 ? byteAt(bytes, start + 2) === 0x4c : first === 0x49 || first === 0x55)
      return;
    const tag = tagName(bytes, start, end);
    if (clearsState(tag)) this.#clearState();
    else if (tag === "DEALLOCATE ALL") this.#prepared.clear();
    else this.#held ??= stateMadeByTag(tag);
  }

  /** A statement has completed, or its portal has given as many rows as were asked for. */
  #statementDone(rows: number): void {
    const { meter, limiter } = this.#session;
    this.#layers.metrics.queries += 1;
    meter.statements(1);
    if (rows > 0) meter.rows(rows);
    this.#dataRows = 0;
    this.#copyingIn = false;
    this.#statementSinceMs = this.#nowMs();
    if (this.#replies.head === EXPECT.execute) {
      this.#replies.shift();
    } else if (this.#replies.head === EXPECT.query) {
      this.#queryStatements += 1;
      // The message was admitted as one statement; the others are found out only now.
      if (this.#queryStatements > 1) limiter.charge(QUERY_WEIGHT, this.#statementSinceMs);
    }
  }

  #readyForQuery(status: number): boolean {
    const kind = this.#replies.shift();
    if (kind === EXPECT.functionCall) this.#statementDone(0);
    this.#queryStatements = 0;
    this.#dataRows = 0;
    this.#copyingIn = false;
    this.#cancelledAtMs = -1;
    this.#status = status;
    return kind !== EXPECT.ownSync;
  }

  #errorResponse(bytes: Uint8Array, at: number, available: number, total: number): boolean {
    const replies = this.#replies;
    if (replies.length === 0) return this.#unsolicitedError(bytes, at, available, total);
    const own = replies.head === EXPECT.ownParse;
    if (total === available) {
      this.#fatal = errorFields(bytes.subarray(at + 5, at + total)).get("V") === "FATAL";
    }
    const wasQuery = replies.head === EXPECT.query;
    let executes = 0;
    replies.fail((kind) => {
      if (kind === EXPECT.execute) executes += 1;
      else if (kind === EXPECT.parse) this.#prepared.failed();
      else if (kind === EXPECT.denial) this.#denials.shift();
    });
    if (own) return false;
    const partialRows = this.#dataRows;
    if (executes > 0 || wasQuery) this.#statementDone(partialRows);
    this.#copyingIn = false;
    if (this.#cancelledAtMs < 0) return true;
    // The server's words for our cancellation would blame the user.
    this.#cancelledAtMs = -1;
    const denial = statementTimeout(this.#session.tenant);
    logDenial(this.#layers, denial, { orgId: this.#session.orgId, protocol: "postgres" });
    if (total !== available) return true;
    this.#replacement = errorResponse(denial, "ERROR");
    return false;
  }

  /** An error that answers nothing is the server ending the connection. */
  #unsolicitedError(bytes: Uint8Array, at: number, available: number, total: number): boolean {
    const fields = errorFields(bytes.subarray(at + 5, at + available));
    const fatal = total === available && fields.get("V") !== "ERROR";
    if (fatal && this.idle && this.held === null) {
      // Nothing of this session's is lost: it goes on with another connection when it has something to run.
      this.#detach();
      return false;
    }
    this.#fatal = fatal;
    return true;
  }

  #replacement: Uint8Array | null = null;

  #answerDenials(): void {
    if (this.#replacement !== null) {
      this.#toClient(this.#replacement);
      this.#replacement = null;
    }
    while (this.#replies.head === EXPECT.denial) {
      this.#replies.shift();
      const entry = this.#denials.shift();
      if (entry === undefined) return;
      this.#toClient(errorResponse(entry.denial, "ERROR"));
      if (entry.ready) this.#toClient(readyForQuery(this.#status));
    }
  }

  #afterReplies(): void {
    const now = this.#nowMs();
    this.#lastTrafficMs = now;
    if (this.#replies.length === 0) this.#session.meter.end(now);
    if (this.#blocked === "replies" && this.#replies.length < UNANSWERED_MAX / 2) this.#unblock();
  }

  #toClient(bytes: Uint8Array, start = 0, end = bytes.length): void {
    if (start >= end) return;
    this.#session.meter.bytesOut(end - start);
    if (this.#client.write(bytes, start, end) || this.#clientBehind) return;
    this.#clientBehind = true;
    this.#session.meter.stall(this.#nowMs());
    this.#upstream?.pause();
  }

  #clearState(): void {
    this.#held = null;
    this.#prepared.clear();
  }

  #detach(): void {
    const upstream = this.#upstream;
    this.#forgetUpstream();
    upstream?.close();
  }

  #forgetUpstream(): void {
    this.#session.meter.end(this.#nowMs());
    this.#upstream = null;
    this.#carry = null;
    this.#skip = 0;
  }

  #leave(): void {
    this.#session.meter.end(this.#nowMs());
    this.#session.limiter.leave(this);
    this.#session.route.lease?.users.delete(this);
  }

  #broken(error: unknown): void {
    this.#layers.log.error("relay_failed", { reason: String(error) });
    this.end(upstreamLost(`relay failed: ${String(error)}`));
  }
}

function isAdmissionDenial(admission: ReturnType<typeof admitRequest>): admission is Denial {
  return typeof admission === "object";
}

/** Messages whose body is looked into when it is short enough to be had whole. */
function isRead(type: number): boolean {
  return type === CLIENT.query || type === CLIENT.parse || type === CLIENT.close;
}

function isInspected(type: number): boolean {
  return (
    type === SERVER.commandComplete ||
    type === SERVER.readyForQuery ||
    type === SERVER.errorResponse
  );
}

function textAt(bytes: Uint8Array, start: number, end: number): string {
  const length = Math.max(0, end - start);
  return Buffer.from(bytes.buffer, bytes.byteOffset + start, length).toString("latin1");
}
