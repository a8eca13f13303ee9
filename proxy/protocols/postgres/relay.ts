/**
 * The relay: a session after login. It joins the two directions (`client-messages.ts`,
 * `server-replies.ts`), takes a connection to the server when there is something to run, and gives
 * it back when nothing is left of it there.
 */
import { copyOf } from "../../bytes.ts";
import type { ComputeLease, ComputeUser } from "../../compute-leases.ts";
import {
  type Denial,
  queryTooExpensive,
  sessionStateExpired,
  shuttingDown,
  statementTimeout,
  transactionIdle,
  transactionTimeout,
  upstreamLost,
} from "../../denial.ts";
import type { Parting } from "../../draining.ts";
import { mayRelease, overdueMs } from "../../layers/query-execution.ts";
import type { Waiter } from "../../layers/rate-limiter.ts";
import { type Layers, logDenial } from "../../pipeline.ts";
import type { Session, SessionActivity } from "../../session.ts";
import {
  CLIENT_WHOLE,
  ClientMessages,
  type ClientMessagesHost,
  QUERY_WEIGHT,
  UNANSWERED_MAX,
  type WaitReason,
} from "./client-messages.ts";
import { errorResponse } from "./errors.ts";
import { FrameReader } from "./frame-reader.ts";
import { STATUS } from "./messages.ts";
import { RelayState } from "./relay-state.ts";
import { EXPECT } from "./reply-queue.ts";
import { SERVER_WHOLE, ServerReplies, type ServerRepliesHost } from "./server-replies.ts";
import { askForState } from "./session-state.ts";
import type { UpstreamConnection, UpstreamOwner } from "./upstream-connection.ts";
import type { UpstreamPool, UpstreamWaiter } from "./upstream-pool.ts";

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
  readonly pool: UpstreamPool;
  readonly nowMs: () => number;
};

/** After so long without traffic a session rests. */
const VERIFY_AFTER_MS = 250;
/** After this, a statement that ignores its cancellation costs the session. */
const CANCEL_GRACE_MS = 10_000;

export class Relay
  implements
    UpstreamOwner,
    UpstreamWaiter,
    ComputeUser,
    Waiter,
    ClientMessagesHost,
    ServerRepliesHost
{
  readonly session: Session;
  readonly #layers: Layers;
  readonly #client: ClientLink;
  readonly #pool: UpstreamPool;
  readonly #nowMs: () => number;
  readonly #state: RelayState;
  readonly #clientMessages: ClientMessages;
  readonly #fromClient: FrameReader;
  readonly #serverReplies: ServerReplies;
  readonly #fromServer: FrameReader;
  #waitingFor: WaitReason | null = null;
  #waitingSinceMs = 0;
  /** A statement whose cost is being asked about, or has been while it waited. */
  #costToLearn: string | null = null;
  /** The client has not taken everything, so the server is not read. */
  #clientBehind = false;
  #closed = false;
  /** The session ends as soon as this allows. */
  #parting: Parting | null = null;
  /**
   * While it is parting: what is to leave in one piece with the last message, so that no client
   * acts in between.
   */
  #gathered: Uint8Array[] | null = null;

  constructor(options: RelayOptions) {
    const { layers, session, nowMs } = options;
    this.session = session;
    this.#layers = layers;
    this.#client = options.client;
    this.#pool = options.pool;
    this.#nowMs = nowMs;
    this.#state = new RelayState(session, options.pool.registry, nowMs());
    this.#clientMessages = new ClientMessages(layers, this.#state, this, nowMs);
    this.#fromClient = new FrameReader(this.#clientMessages, CLIENT_WHOLE);
    this.#serverReplies = new ServerReplies(this.#state, this, layers, nowMs);
    this.#fromServer = new FrameReader(this.#serverReplies, SERVER_WHOLE);
  }

  // ——— The client ———

  clientData(bytes: Uint8Array): void {
    if (this.#closed) return;
    const now = this.#nowMs();
    this.session.meter.bytesIn(bytes.length);
    this.#state.lastTrafficMs = now;
    this.#clientMessages.arrivedMs = now;
    this.#fromClient.push(bytes);
    this.#settle();
  }

  clientDrained(): void {
    if (!this.#clientBehind || this.#closed) return;
    this.#clientBehind = false;
    this.session.meter.resume(this.#nowMs());
    this.#state.upstream?.resume();
    this.#settle();
  }

  /** The client has gone: what runs for it is stopped, and its connection given up or cleaned. */
  clientClosed(): void {
    if (this.#closed) return;
    this.#closed = true;
    const state = this.#state;
    this.#fromClient.stop();
    this.#fromServer.stop();
    this.session.meter.end(this.#nowMs());
    this.session.limiter.leave(this);
    this.#pool.leave(this);
    const { upstream } = state;
    if (upstream === null) return;
    this.#leaveCompute();
    state.upstream = null;
    if (state.idle && !this.#clientBehind && !upstream.closed) {
      this.#pool.giveBackUsed(upstream);
      return;
    }
    if (state.replies.length > 0) upstream.cancel();
    upstream.resume();
    this.#pool.discard(upstream);
  }

  /** Cancels what runs, at the client's request. */
  cancel(): void {
    if (this.#state.replies.length > 0) this.#state.upstream?.cancel();
  }

  /** Ends the session with a last message to the client. */
  end(denial: Denial): void {
    if (this.#closed) return;
    // In the middle of a message of the server's there is no place for one of ours.
    if (!this.#fromServer.midMessage) this.toClient(errorResponse(denial, "FATAL"));
    this.terminate();
  }

  terminate(): void {
    this.#sendGathered();
    this.clientClosed();
    this.#client.close();
  }

  part(parting: Parting, nowMs: number): void {
    if (this.#closed) return;
    if (parting.withAnswer) this.#parting = parting;
    if (nowMs - this.#state.lastTrafficMs >= parting.quietMs) this.#partAtRest(parting);
  }

  activity(): SessionActivity {
    const state = this.#state;
    return { state: this.#doing(), held: state.held, lastTrafficMs: state.lastTrafficMs };
  }

  tick(nowMs: number): void {
    const state = this.#state;
    if (this.#closed) return;
    if (this.#endIdleTransaction(nowMs)) return;
    if (state.replies.length === 0) {
      this.#verifyState(nowMs);
      return;
    }
    if (state.timedOutAtMs >= 0) {
      if (nowMs - state.timedOutAtMs > CANCEL_GRACE_MS) {
        this.end(statementTimeout(this.session.tenant));
      }
      return;
    }
    const waitsForClient = state.copyingIn || this.#clientBehind;
    if (waitsForClient || overdueMs(this.session, state.statementSinceMs, nowMs) <= 0) return;
    const denial = statementTimeout(this.session.tenant);
    logDenial(this.#layers, denial, { orgId: this.session.orgId, protocol: "postgres" });
    state.timedOutAtMs = nowMs;
    state.upstream?.cancel();
  }

  // ——— ClientMessagesHost ———

  hasUpstream(): boolean {
    const state = this.#state;
    const open = this.session.route.open(this.#nowMs()) !== null;
    if (state.upstream !== null) {
      // What is under way stays where it is: its lease is kept for it.
      if (open || !mayRelease(state)) return true;
      this.#dropUpstream();
    }
    if (!open) return false;
    const upstream = this.#pool.take();
    if (upstream === null) return false;
    this.#adopt(upstream);
    return true;
  }

  judge(text: string): Denial | "unknown" | null {
    const { tenant, route } = this.session;
    const { queryCostMax } = tenant.limits;
    if (queryCostMax === null || route.database.kind !== "postgres") return null;
    if (!this.#plansElsewhereAlike()) return null;
    const verdict = this.#pool.costs.judge(text, queryCostMax, this.#nowMs());
    // Once asked, it is asked no more, whatever has changed meanwhile.
    this.#costToLearn = verdict === "unknown" && this.#costToLearn === null ? text : null;
    if (typeof verdict === "number") return queryTooExpensive(tenant, verdict, queryCostMax);
    return this.#costToLearn === null ? null : "unknown";
  }

  waitFor(what: WaitReason): void {
    this.#waitingFor = what;
    this.#waitingSinceMs = this.#nowMs();
    this.#client.pauseReading();
    if (what === "turn") this.session.limiter.wait(this, QUERY_WEIGHT);
    else if (what === "upstream") this.#pool.wait(this);
    else if (what === "estimate") this.#learnCost();
  }

  toUpstream(bytes: Uint8Array, start: number, end: number): void {
    const { upstream } = this.#state;
    if (upstream !== null && !upstream.write(bytes, start, end)) this.#client.pauseReading();
  }

  // ——— Waiter, UpstreamWaiter: what a message waited for ———

  admitted(): void {
    if (this.#waitingFor !== "turn") return;
    this.#layers.metrics.throttleWaits.observe(this.#nowMs() - this.#waitingSinceMs);
    this.#clientMessages.paid = true;
    this.#goOn();
  }

  lent(upstream: UpstreamConnection): void {
    if (this.#closed || this.#waitingFor !== "upstream") {
      this.#pool.giveBack(upstream);
      return;
    }
    this.#layers.metrics.upstreamWaits.observe(this.#nowMs() - this.#waitingSinceMs);
    this.#adopt(upstream);
    this.#goOn();
  }

  refused(denial: Denial): void {
    if (this.#closed) return;
    this.#waitingFor = null;
    this.#fromClient.refuse((type) => this.#clientMessages.deny(denial, type));
    this.answerLocally();
    this.#goOn();
  }

  /** Whether another connection of the pool means the same tables by the same names. */
  #plansElsewhereAlike(): boolean {
    const { heldStates, searchPathChanged, upstream } = this.#state;
    if (upstream === null) return true;
    if (searchPathChanged || heldStates.has("temporary tables")) return false;
    // Before version 18 a server does not tell of its search path: any setting may have been that
    // one.
    return !heldStates.has("session settings") || upstream.parameters.has("search_path");
  }

  #learnCost(): void {
    const { session } = this;
    const text = this.#costToLearn ?? "";
    const costMax = session.tenant.limits.queryCostMax ?? Number.POSITIVE_INFINITY;
    const ask = (): Promise<number | null> => this.#pool.estimateCost(session, text);
    const goOn = (): void => {
      if (!this.#closed && this.#waitingFor === "estimate") this.#goOn();
    };
    this.#pool.costs.learn(text, costMax, this.#nowMs(), ask).then(goOn, goOn);
  }

  // ——— The server ———

  upstreamData(bytes: Uint8Array): void {
    if (this.#closed) return;
    // What O7s asks for itself is no traffic of the session's.
    const asked = this.#state.replies.head === EXPECT.ownQuery;
    if (this.#parting !== null) this.#gathered = [];
    this.#fromServer.push(bytes);
    const state = this.#state;
    const now = this.#nowMs();
    if (!asked) state.lastTrafficMs = now;
    if (state.replies.length === 0) this.session.meter.end(now);
    const { replies } = state;
    const hasRoom = this.#waitingFor === "room" && replies.length < UNANSWERED_MAX / 2;
    if (hasRoom || (this.#waitingFor === "answers" && replies.readies === 0)) this.#goOn();
    this.#settle();
    if (this.#parting === null) return;
    this.#partAtRest(this.#parting);
    this.#sendGathered();
  }

  upstreamDrained(): void {
    if (this.#waitingFor === null && !this.#closed) this.#client.resumeReading();
  }

  upstreamClosed(): void {
    if (this.#closed) return;
    const state = this.#state;
    this.#layers.metrics.upstreamsLost += 1;
    if (state.upstream !== null) this.session.route.lease?.lost(state.upstream.generation);
    const unharmed = mayRelease(state) && !this.#serverReplies.fatal;
    this.#dropUpstream();
    if (unharmed) return;
    if (this.#serverReplies.fatal) this.terminate();
    else this.end(upstreamLost("the server closed the connection"));
  }

  // ——— ServerRepliesHost ———

  toClient(bytes: Uint8Array, start = 0, end = bytes.length): void {
    this.session.meter.bytesOut(end - start);
    if (this.#gathered !== null) {
      this.#gathered.push(copyOf(bytes, start, end));
      return;
    }
    this.#write(bytes, start, end);
  }

  #write(bytes: Uint8Array, start = 0, end = bytes.length): void {
    if (this.#client.write(bytes, start, end) || this.#clientBehind) return;
    this.#clientBehind = true;
    this.session.meter.stall(this.#nowMs());
    this.#state.upstream?.pause();
  }

  answerLocally(): void {
    const { replies, localReplies } = this.#state;
    while (replies.head === EXPECT.local) {
      replies.shift();
      const reply = localReplies.shift();
      if (reply === undefined) continue;
      if (reply.change !== null) this.#state.statements.confirm(reply.change);
      this.toClient(reply.bytes);
    }
  }

  upstreamEndsIdle(): void {
    this.#dropUpstream();
  }

  broken(reason: string): void {
    this.end(upstreamLost(reason));
  }

  schemaChanged(): void {
    // What goes on in temporary tables is nobody else's concern.
    if (!this.#state.heldStates.has("temporary tables")) this.#pool.schema.count += 1;
  }

  // ——— ComputeUser ———

  keepAwake(nowMs: number, lease: ComputeLease): void {
    const state = this.#state;
    if (state.replies.length > 0) {
      lease.touch(nowMs);
      return;
    }
    if (mayRelease(state)) return;
    const limitMs = this.session.tenant.limits.statefulIdleMs;
    if (nowMs - state.lastTrafficMs < limitMs) lease.touch(nowMs);
    else if (state.held !== null) this.end(sessionStateExpired(state.held, limitMs));
    else this.end(transactionIdle(limitMs));
  }

  computeSleeps(): void {
    if (mayRelease(this.#state)) this.#dropUpstream();
  }

  #doing(): string {
    const state = this.#state;
    if (this.#waitingFor !== null) return `waiting: ${this.#waitingFor}`;
    if (this.#clientBehind) return "client reads";
    if (state.replies.length > 0) return state.copyingIn ? "client sends" : "active";
    if (state.status === STATUS.idle && !state.batchOpen) return "idle";
    return "idle in transaction";
  }

  // ——— Parting ———

  /** Ends the session if nothing of it is under way in either direction. */
  #partAtRest(parting: Parting): void {
    const state = this.#state;
    if (this.#closed || !state.idle || (state.held !== null && !parting.stateToo)) return;
    if (this.#waitingFor !== null || this.#clientBehind || !this.#fromClient.atRest) return;
    this.end(shuttingDown());
  }

  #sendGathered(): void {
    const gathered = this.#gathered;
    this.#gathered = null;
    if (gathered !== null && gathered.length > 0) this.#write(Buffer.concat(gathered));
  }

  // ——— Connections ———

  /**
   * A transaction that waits for its client, or a COPY that does, holds locks: not for longer than
   * the tier allows.
   */
  #endIdleTransaction(nowMs: number): boolean {
    const state = this.#state;
    const { tenant } = this.session;
    if (nowMs - state.lastTrafficMs < tenant.limits.idleInTransactionTimeoutMs) return false;
    if (state.upstream === null || this.#waitingFor !== null) return false;
    const waits =
      state.replies.length === 0 ? !state.idle : state.copyingIn && !state.upstream.backlogged;
    if (!waits) return false;
    const denial = transactionTimeout(tenant);
    logDenial(this.#layers, denial, { orgId: this.session.orgId, protocol: "postgres" });
    this.end(denial);
    return true;
  }

  /** A session that holds its connection and rests: the server is asked whether it still has to. */
  #verifyState(nowMs: number): void {
    const state = this.#state;
    const { upstream } = state;
    if (upstream === null || !state.idle || !state.heldStates.worthAsking) return;
    if (this.#clientBehind || nowMs - state.lastTrafficMs < VERIFY_AFTER_MS) return;
    state.heldStates.asked();
    state.replies.push(EXPECT.ownQuery);
    upstream.unnamed = null; // A Query ends the server's unnamed statement.
    upstream.write(askForState);
  }

  #goOn(): void {
    this.#waitingFor = null;
    this.#fromClient.resume();
    if (this.#closed) return;
    const waiting: string | null = this.#waitingFor;
    if (waiting === null && this.#state.upstream?.backlogged !== true) this.#client.resumeReading();
    this.#settle();
  }

  /** After anything has happened: a connection on which nothing is left goes back to its pool. */
  #settle(): void {
    const state = this.#state;
    const { upstream } = state;
    if (upstream === null || this.#closed) return;
    if (state.held !== null) {
      this.#pool.pin(upstream);
      return;
    }
    this.#pool.unpin(upstream);
    if (!mayRelease(state) || this.#clientBehind || upstream.backlogged) return;
    if (this.#fromServer.midMessage) return;
    this.#leaveCompute();
    state.upstream = null;
    this.#pool.giveBack(upstream);
  }

  #adopt(upstream: UpstreamConnection): void {
    const state = this.#state;
    state.upstream = upstream;
    state.status = STATUS.idle;
    state.searchPathChanged = false;
    this.#fromServer.reset();
    this.#serverReplies.reset();
    upstream.own(this);
    this.session.route.lease?.users.add(this);
  }

  /** Gives up a connection that is dead, or about to be. */
  #dropUpstream(): void {
    const { upstream } = this.#state;
    this.session.meter.end(this.#nowMs());
    if (upstream === null) return;
    this.#leaveCompute();
    this.#state.upstream = null;
    this.#pool.discard(upstream);
  }

  #leaveCompute(): void {
    this.session.route.lease?.users.delete(this);
  }
}
