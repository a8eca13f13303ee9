/**
 * What a client sends: each message is admitted by the layers, noted in what the server owes, and
 * forwarded; names of prepared statements are replaced by the servers' own.
 */
import { byteAt, textAt, zeroIn } from "../../bytes.ts";
import { type Denial, protocolViolation } from "../../denial.ts";
import { admitRequest, type Layers, logDenial } from "../../pipeline.ts";
import { settingRefusal } from "./capped-settings.ts";
import { errorResponse } from "./errors.ts";
import { FATE, type FrameReceiver, typeSet } from "./frame-reader.ts";
import { CLIENT, readyForQuery, STATUS } from "./messages.ts";
import { refusingQuery } from "./refusing-statements.ts";
import type { RelayState } from "./relay-state.ts";
import { EXPECT } from "./reply-queue.ts";
import { stateMadeBy } from "./session-state.ts";
import type { NameChange } from "./session-statements.ts";
import { StatementMessages, type StatementMessagesHost } from "./statement-messages.ts";

/**
 * What a message may have to wait for: its turn, a connection, room for more unanswered messages,
 * or the answers to all statements sent so far, or the planner's estimate of what it costs.
 */
export type WaitReason = "turn" | "upstream" | "room" | "answers" | "estimate";

/** What the relay does for this direction. */
export type ClientMessagesHost = {
  /** Whether there is a connection to a server to send to now; takes an idle one where it can. */
  hasUpstream(): boolean;
  /**
   * Why a statement must not run for what it costs, null where it may, `unknown` where an estimate
   * has to be waited for.
   */
  judge(text: string): Denial | "unknown" | null;
  /** The present message has to wait for this. */
  waitFor(what: WaitReason): void;
  toUpstream(bytes: Uint8Array, start: number, end: number): void;
  toClient(bytes: Uint8Array): void;
  /** Sends what stands at the head of the reply queue and is ours to say. */
  answerLocally(): void;
  end(denial: Denial): void;
  terminate(): void;
};

/** Messages that are looked into, and how far. */
export const CLIENT_WHOLE = {
  types: typeSet([CLIENT.query, CLIENT.parse, CLIENT.bind, CLIENT.describe, CLIENT.close]),
  bytesMax: 65_536,
  beginningBytes: 1_024,
} as const;

/** A pipeline may have so many unanswered messages before its client is held back. */
export const UNANSWERED_MAX = 65_536;

/** In the rate limiter's units: a statement is one. */
export const QUERY_WEIGHT = 1;
const OF_STATEMENT = 0x53;
const DISCARDING = /\b(?:discard|deallocate)\b/i;

export class ClientMessages implements FrameReceiver, StatementMessagesHost {
  readonly #layers: Layers;
  readonly #state: RelayState;
  readonly #host: ClientMessagesHost;
  readonly #nowMs: () => number;
  readonly #statements: StatementMessages;
  /** When the bytes being looked at were read. */
  arrivedMs = 0;
  /** The turn of the message at hand has been paid for, though it had to wait again. */
  paid = false;
  rewrittenBytes = 0;
  /** What takes the place of the message at hand, or of its beginning. */
  #replacement: Uint8Array | null = null;
  /** The text that was last looked into. */
  #lookedAt: string | null = null;
  /** An error of ours stands in for the rest of the batch. */
  #denyingUntilSync = false;
  /**
   * The batch that throws away what the session holds: nothing is noted of later ones before it is
   * answered.
   */
  #barrierBatch = -1;

  constructor(layers: Layers, state: RelayState, host: ClientMessagesHost, nowMs: () => number) {
    this.#layers = layers;
    this.#state = state;
    this.#host = host;
    this.#nowMs = nowMs;
    this.#statements = new StatementMessages(state, this, nowMs);
  }

  forward(bytes: Uint8Array, start: number, end: number): void {
    this.#host.toUpstream(bytes, start, end);
  }

  boundary(): void {
    const replacement = this.#replacement;
    if (replacement !== null) {
      this.#replacement = null;
      this.#host.toUpstream(replacement, 0, replacement.length);
    }
    this.#host.answerLocally();
  }

  malformed(): void {
    this.#host.end(protocolViolation("invalid message length"));
  }

  message(type: number, bytes: Uint8Array, at: number, available: number, total: number): number {
    if (this.#barrierBatch >= 0 && this.#isBehindBarrier()) return this.wait("answers");
    switch (type) {
      case CLIENT.query:
        return this.#request(EXPECT.query, bytes, at, available, total);
      case CLIENT.execute:
        return this.#request(EXPECT.execute, bytes, at, available, total);
      case CLIENT.functionCall:
        return this.#request(EXPECT.functionCall, bytes, at, available, total);
      case CLIENT.parse:
      case CLIENT.bind:
      case CLIENT.describe:
      case CLIENT.close:
        return this.#step(type, bytes, at, available, total);
      case CLIENT.flush:
        return this.#ignoring() || this.#state.upstream === null ? FATE.discard : FATE.forward;
      case CLIENT.sync:
        return this.#sync();
      case CLIENT.copyData:
        // After a failed COPY a client may go on sending: the server ignores that, and so do we
        // without one.
        return this.#state.upstream === null ? FATE.discard : FATE.forward;
      case CLIENT.copyDone:
      case CLIENT.copyFail:
        return this.#copyEnds();
      case CLIENT.terminate:
        this.#host.terminate();
        return FATE.discard;
      default:
        this.#host.end(protocolViolation(`invalid frontend message type ${type}`));
        return FATE.discard;
    }
  }

  /** Gives the message at hand, which has waited in vain, this answer. */
  deny(denial: Denial, type: number): void {
    const state = this.#state;
    this.paid = false;
    logDenial(this.#layers, denial, { orgId: state.session.orgId, protocol: "postgres" });
    const endsItself = type === CLIENT.query || type === CLIENT.functionCall;
    const error = errorResponse(denial, "ERROR");
    if (!endsItself) this.#denyingUntilSync = true;
    this.answer(endsItself ? Buffer.concat([error, readyForQuery(state.status)]) : error);
  }

  /** Query, Execute, FunctionCall: what the layers are asked about. */
  #request(kind: number, bytes: Uint8Array, at: number, available: number, total: number): number {
    const state = this.#state;
    if (this.#ignoring()) return FATE.discard;
    if (state.replies.length >= UNANSWERED_MAX) return this.wait("room");
    const now = this.#nowMs();
    // While statements are unanswered, nobody knows whether a transaction is open.
    const unanswered = state.replies.readies > 0;
    const outsideTransaction = unanswered || state.status === STATUS.idle;
    const admission = admitRequest(
      this.#layers,
      state.session,
      QUERY_WEIGHT,
      this.paid,
      outsideTransaction && state.batchExecutes === 0,
      this.arrivedMs,
      now,
    );
    if (admission === "throttled") return this.wait("turn");
    if (typeof admission === "object") {
      if (unanswered) return this.wait("answers");
      this.deny(admission, byteAt(bytes, at));
      return FATE.discard;
    }
    const whole = available === total;
    const text = kind === EXPECT.query && whole ? textAt(bytes, at + 5, at + total - 1) : null;
    const verdict = text === null ? null : this.#host.judge(text);
    if (verdict === "unknown" || !this.#host.hasUpstream()) {
      this.paid = true;
      return this.wait(verdict === "unknown" ? "estimate" : "upstream");
    }
    this.paid = false;
    const alone = !unanswered && state.batchExecutes === 0;
    state.expect(kind, now);
    if (kind === EXPECT.execute) {
      state.batchOpen = true;
      state.batchExecutes += 1;
      const portal = portalAt(bytes, at + 5, at + available);
      state.runs(portal === state.boundPortal ? state.bound : null, alone);
    } else {
      // It ends what a batch has left open, and the unnamed statement with it.
      state.batchOpen = false;
      state.statements.set("", null, state.position);
      this.#upstream().unnamed = null;
      state.batch += 1;
      const looked = this.look(text ?? (whole ? "" : null));
      const refusal = verdict ?? looked;
      state.runs(this.#lookedAt, alone);
      if (refusal !== null) {
        this.#replacement = refusingQuery(this.logged(refusal));
        return FATE.discard;
      }
    }
    return FATE.forward;
  }

  /** Parse, Bind, Describe, Close: part of a batch, free of charge. */
  #step(type: number, bytes: Uint8Array, at: number, available: number, total: number): number {
    const state = this.#state;
    if (this.#ignoring()) return FATE.discard;
    if (state.replies.length >= UNANSWERED_MAX) return this.wait("room");
    const ofStatement = byteAt(bytes, at + 5) === OF_STATEMENT;
    if (type === CLIENT.close && ofStatement && available === total) {
      const name = textAt(bytes, at + 6, at + total - 1);
      if (!state.unkept.has(name)) return this.#statements.close(name);
    }
    const isParse = type === CLIENT.parse;
    const verdict = isParse ? this.#judgeParse(bytes, at, available, total) : null;
    if (verdict === "unknown") return this.wait("estimate");
    if (!this.#host.hasUpstream()) return this.wait("upstream");
    state.batchOpen = true;
    switch (type) {
      case CLIENT.parse:
        return this.#statements.parse(bytes, at, available, total, verdict);
      case CLIENT.bind: {
        const portalEnd = zeroIn(bytes, at + 5, at + available);
        state.boundPortal = portalAt(bytes, at + 5, at + available);
        return this.#statements.use(EXPECT.bind, bytes, at, available, total, portalEnd + 1);
      }
      case CLIENT.describe:
        if (ofStatement)
          return this.#statements.use(EXPECT.describe, bytes, at, available, total, at + 6);
        state.expectUse(EXPECT.describe, "", this.#nowMs());
        return FATE.forward;
      default:
        state.expect(EXPECT.close, this.#nowMs());
        return FATE.forward;
    }
  }

  #sync(): number {
    const state = this.#state;
    // While it takes a batch's rows the server ignores a Sync: the batch goes on after them.
    if (state.copyingIn && state.replies.head === EXPECT.execute) return FATE.forward;
    state.batchExecutes = 0;
    state.batchOpen = false;
    this.#denyingUntilSync = false;
    state.replies.skipping = false;
    if (state.upstream === null) {
      this.answer(readyForQuery(STATUS.idle));
      return FATE.discard;
    }
    state.expect(EXPECT.sync, this.#nowMs());
    state.batch += 1;
    return FATE.forward;
  }

  #copyEnds(): number {
    const state = this.#state;
    if (state.replies.length > 0) state.replies.push(EXPECT.copyEnd);
    if (state.copyingIn) {
      const now = this.#nowMs();
      state.copyingIn = false;
      state.session.meter.resume(now);
      state.statementSinceMs = now;
    }
    return state.upstream === null ? FATE.discard : FATE.forward;
  }

  // ——— StatementMessagesHost ———

  replace(bytes: Uint8Array, rewrittenBytes = 0): void {
    this.#replacement = bytes;
    this.rewrittenBytes = rewrittenBytes;
  }

  malformedName(): number {
    this.#host.end(protocolViolation("invalid string in message"));
    return FATE.discard;
  }

  /**
   * Puts an answer of ours in its place among the server's; it leaves at the boundary that follows.
   */
  answer(bytes: Uint8Array, change: NameChange | null = null): void {
    this.#state.replies.push(EXPECT.local);
    this.#state.localReplies.push({ bytes, change });
  }

  /** A Query's text is looked at when its batch has been counted already. */
  #lookedAtBatch(): number {
    const { batch, batchOpen } = this.#state;
    return batchOpen ? batch : batch - 1;
  }

  #isBehindBarrier(): boolean {
    const { batch, replies } = this.#state;
    if (replies.readies === 0) this.#barrierBatch = -1;
    return this.#barrierBatch >= 0 && batch > this.#barrierBatch;
  }

  #ignoring(): boolean {
    return this.#denyingUntilSync || this.#state.replies.skipping;
  }

  wait(what: WaitReason): number {
    this.#host.waitFor(what);
    return FATE.wait;
  }

  /**
   * Looks at what is to run, or to be prepared: notes the state that it may make, or tells why it
   * must not run. `text` is null when it is not here as a whole.
   */
  look(text: string | null): Denial | null {
    const { heldStates, session } = this.#state;
    if (text === null) {
      this.#lookedAt = null;
      heldStates.add("a statement too long to look into");
      return null;
    }
    this.#lookedAt = text;
    if (DISCARDING.test(text)) this.#barrierBatch = this.#lookedAtBatch();
    const refusal = settingRefusal(text, session.tenant);
    if (refusal === null) heldStates.add(stateMadeBy(text));
    return refusal;
  }

  #judgeParse(
    bytes: Uint8Array,
    at: number,
    available: number,
    total: number,
  ): Denial | "unknown" | null {
    const nameEnd = available < total ? -1 : zeroIn(bytes, at + 5, at + total);
    const textEnd = nameEnd < 0 ? -1 : zeroIn(bytes, nameEnd + 1, at + total);
    return textEnd < 0 ? null : this.#host.judge(textAt(bytes, nameEnd + 1, textEnd));
  }

  logged(denial: Denial): Denial {
    const { orgId } = this.#state.session;
    logDenial(this.#layers, denial, { orgId, protocol: "postgres" });
    return denial;
  }

  #upstream(): NonNullable<RelayState["upstream"]> {
    const { upstream } = this.#state;
    if (upstream === null) throw new Error("a message was taken without a connection for it");
    return upstream;
  }
}

/** The name of a portal, which most often has none: nothing is made for that. */
function portalAt(bytes: Uint8Array, start: number, end: number): string {
  return byteAt(bytes, start) === 0 ? "" : textAt(bytes, start, zeroIn(bytes, start, end));
}
