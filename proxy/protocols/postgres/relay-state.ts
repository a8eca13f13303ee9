/** What both directions of a relay know of its session. */
import { Fifo } from "../../fifo.ts";
import type { Session } from "../../session.ts";
import { STATUS } from "./messages.ts";
import type { Statement, StatementRegistry } from "./prepared-statements.ts";
import { ReplyQueue } from "./reply-queue.ts";
import { type HeldState, HeldStates } from "./session-state.ts";
import { type BatchPosition, type NameChange, SessionStatements } from "./session-statements.ts";
import type { UpstreamConnection } from "./upstream-connection.ts";

/**
 * A statement message that awaits its answer; each belongs to a reply-queue entry of kind parse,
 * ownParse or ownClose.
 */
export type PendingStatement = {
  /** What the server has if it succeeds; null for the unnamed statement. */
  readonly statement: Statement | null;
  /** The client's name for it, in whose words an error is told. */
  readonly clientName: string;
  /** What it changed of the client's names. */
  readonly change: NameChange | null;
};

/** An answer of our own, one for each reply-queue entry of kind `local`. */
export type LocalReply = { readonly bytes: Uint8Array; readonly change: NameChange | null };

export type RunningStatement = string | Uint8Array | null;

export class RelayState {
  readonly session: Session;
  readonly registry: StatementRegistry;
  readonly replies = new ReplyQueue();
  readonly localReplies = new Fifo<LocalReply>();
  readonly pendingStatements = new Fifo<PendingStatement>();
  /**
   * The client's name of the statement in each Bind and Describe that awaits its answer; empty for
   * none.
   */
  readonly usedNames = new Fifo<string>();
  /** The client's prepared statements, the unnamed one among them. */
  readonly statements = new SessionStatements();
  /** The number of the batch at hand, counted from 1. */
  batch = 1;
  /** Names of statements too long to be kept, which only the present connection has. */
  readonly unkept = new Set<string>();

  upstream: UpstreamConnection | null = null;
  /** As the server last reported it. */
  status: number = STATUS.idle;
  /** Steps of an extended-query batch have been sent, and no Sync yet. */
  batchOpen = false;
  /** Executes among them: an error of ours would lie about those. */
  batchExecutes = 0;
  copyingIn = false;
  readonly heldStates = new HeldStates();
  /**
   * The server has reported another search path than its connection, the present one, was started
   * with.
   */
  searchPathChanged = false;
  statementSinceMs = 0;
  /**
   * What runs, for whoever asks about it afterwards: the text of a Query, or the definition of a
   * prepared statement. Null where it is not known: there is none, it was too long to be looked
   * into, or several are on their way at once.
   */
  running: RunningStatement = null;
  /** The statement of the last Bind, and the portal that it made. */
  bound: Uint8Array | null = null;
  boundPortal = "";
  lastTrafficMs: number;
  /** When the running statement was cancelled for its timeout, or -1. */
  timedOutAtMs = -1;

  constructor(session: Session, registry: StatementRegistry, nowMs: number) {
    this.session = session;
    this.registry = registry;
    this.lastTrafficMs = nowMs;
  }

  /** Nothing runs, nothing is owed, no transaction is open. */
  get idle(): boolean {
    return this.replies.length === 0 && this.status === STATUS.idle && !this.batchOpen;
  }

  /**
   * Begins to expect the answer to a Bind or Describe; `name` is the client's for its statement.
   */
  expectUse(kind: number, name: string, nowMs: number): void {
    this.usedNames.push(name);
    this.expect(kind, nowMs);
  }

  get position(): BatchPosition {
    return { batch: this.batch, unanswered: this.replies.readies };
  }

  /** A statement has been sent; `alone` when no other is unanswered. */
  runs(statement: RunningStatement, alone: boolean): void {
    this.running = alone || this.running === statement ? statement : null;
  }

  /** Begins to expect an answer from the server. */
  expect(kind: number, nowMs: number): void {
    if (this.replies.length === 0) {
      this.statementSinceMs = nowMs;
      this.session.meter.begin(nowMs);
    }
    this.replies.push(kind);
  }

  /** What binds the session to its connection, or null. */
  get held(): HeldState | null {
    return this.heldStates.first;
  }

  clearHeld(): void {
    this.heldStates.clear();
    this.statements.clear();
    this.unkept.clear();
  }
}
