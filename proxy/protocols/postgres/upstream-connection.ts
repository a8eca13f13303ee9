/** A connection to a PostgreSQL server, logged in as a tenant's role. */
import type { Socket } from "bun";
import { type ServerAddress, unixSocketPath } from "../../../platform/endpoints.ts";
import { Outbox } from "../../outbox.ts";
import { STARTUP, startupPacket, terminateMessage } from "./messages.ts";
import { type Statement, UpstreamStatements } from "./prepared-statements.ts";

/** Who gets what the server sends. Called synchronously; bytes are only valid during the call. */
export type UpstreamOwner = {
  upstreamData(bytes: Uint8Array): void;
  upstreamDrained(): void;
  upstreamClosed(): void;
};

/** The server keeps a plan for each; more than this are closed, least recently used first. */
const STATEMENTS_MAX = 250;

export const SETTLED = -1;

export class UpstreamConnection {
  readonly address: ServerAddress;
  /** Which life of a compute this connection is to. */
  readonly generation: number;
  #socket: Socket<UpstreamConnection>;
  readonly #outbox: Outbox;
  #owner: UpstreamOwner;
  #closed = false;
  /** What the server tells at login: its cancel key, and the parameters it reports. */
  processId = 0;
  secretKey: Uint8Array = new Uint8Array(4);
  readonly parameters = new Map<string, string>();
  readonly statements = new UpstreamStatements(STATEMENTS_MAX);
  /** The unnamed statement that it has: this very one, not just one of the same session. */
  unnamed: Statement | null = null;
  /** The batch of its session in which it was made, or `SETTLED` once the server has said so. */
  unnamedBatch = SETTLED;
  /** Which state of its pool's settings it was opened with. */
  settingsEpoch = 0;
  /** When it last went back to its pool. */
  idleSinceMs = 0;
  /**
   * What its pool does with it: keeps it, lends it to a session, or to one that holds state on it.
   */
  use: "idle" | "lent" | "pinned" = "idle";
  /** Who watches it while nobody uses it; its pool's. */
  keeper: UpstreamOwner | null = null;
  #cancels = 0;
  #whenCancelled: (() => void) | null = null;

  constructor(
    socket: Socket<UpstreamConnection>,
    address: ServerAddress,
    generation: number,
    owner: UpstreamOwner,
  ) {
    this.#socket = socket;
    this.#outbox = new Outbox(socket);
    this.address = address;
    this.generation = generation;
    this.#owner = owner;
  }

  get closed(): boolean {
    return this.#closed;
  }

  get backlogged(): boolean {
    return this.#outbox.backlogBytes > 0;
  }

  own(owner: UpstreamOwner): void {
    this.#owner = owner;
  }

  /** For the upgrade to TLS, which makes another socket of it. */
  get socket(): Socket<UpstreamConnection> {
    return this.#socket;
  }

  replaceSocket(socket: Socket<UpstreamConnection>): void {
    this.#socket = socket;
    this.#outbox.replaceSocket(socket);
  }

  /** True when the server has taken everything so far. */
  write(bytes: Uint8Array, start = 0, end = bytes.length): boolean {
    return this.#closed ? true : this.#outbox.write(bytes, start, end);
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    if (!this.#closed) this.#socket.resume();
  }

  /** Asks the server, over a connection of its own, to cancel what this one runs. */
  cancel(): void {
    const request = startupPacket(STARTUP.cancelRequest, this.processId, this.secretKey);
    this.#cancels += 1;
    let over = false;
    // The server closes the connection when it has passed the request on. Where it cannot be
    // reached, this connection is about to fail too.
    const done = (): void => {
      if (over) return;
      over = true;
      this.#cancels -= 1;
      if (this.#cancels === 0) this.#whenCancelled?.();
    };
    openSocket(this.address, {
      socket: {
        open: (socket) => {
          socket.write(request);
        },
        data() {},
        close: done,
        error: done,
      },
    }).catch(done);
  }

  /**
   * Whether a cancel request is under way: until it is not, a query of another session could be hit
   * by it.
   */
  get cancelling(): boolean {
    return this.#cancels > 0;
  }

  /** Calls back once when the cancel requests that are under way are over. */
  whenCancelled(call: () => void): void {
    this.#whenCancelled = () => {
      this.#whenCancelled = null;
      call();
    };
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#socket.write(terminateMessage);
    this.#socket.end();
  }

  received(bytes: Uint8Array): void {
    if (!this.#closed) this.#owner.upstreamData(bytes);
  }

  drained(): void {
    if (!this.#closed && this.#outbox.drain()) this.#owner.upstreamDrained();
  }

  ended(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#owner.upstreamClosed();
  }
}

type SocketHandlers<Data> = {
  readonly socket: {
    open(socket: Socket<Data>): void;
    data(socket: Socket<Data>, bytes: Buffer): void;
    drain?(socket: Socket<Data>): void;
    close?(socket: Socket<Data>): void;
    error?(socket: Socket<Data>, error: Error): void;
  };
};

/** Connects to a server over its unix socket or TCP. */
export function openSocket<Data>(
  address: ServerAddress,
  handlers: SocketHandlers<Data>,
): Promise<Socket<Data>> {
  return address.transport === "unix"
    ? Bun.connect<Data>({ ...handlers, unix: unixSocketPath(address) })
    : Bun.connect<Data>({ ...handlers, hostname: address.host, port: address.port });
}
