/**
 * A client's socket: from its first byte through TLS and login to the relay, and its end. Bytes
 * that come while a login waits for something are kept, within a bound.
 */
import type { Socket } from "bun";
import { copyOf, uint32At } from "../../bytes.ts";
import { type Denial, protocolViolation } from "../../denial.ts";
import { Outbox } from "../../outbox.ts";
import { DirectTls } from "./direct-tls.ts";
import { errorResponse } from "./errors.ts";
import { parseStartup, type StartupPacket } from "./startup.ts";

/** Nobody sends more than this before being logged in, pipelined first queries included. */
const PENDING_BYTES_MAX = 65_536;
const PASSWORD_MESSAGE_BYTES_MAX = 8_192;
const LAST_BYTES_DEADLINE_MS = 5_000;

/**
 * A request of the login for bytes: resolves with the message, or null when the connection has
 * ended.
 */
type Wanted =
  | { readonly what: "startup"; readonly resolve: (packet: StartupPacket | null) => void }
  | { readonly what: "message"; readonly resolve: (body: Uint8Array | null) => void };

export type TlsContext = {
  readonly key: string;
  readonly cert: string;
  /** Hash of the certificate for `tls-server-end-point` (RFC 5929 section 4.1). */
  readonly certificateHash: Uint8Array;
};

/** Who gets what a client sends once it has logged in. */
export type ClientOwner = {
  /** The bytes are only valid during the call. */
  clientData(bytes: Uint8Array): void;
  clientDrained(): void;
  clientClosed(): void;
};

export class ClientConnection {
  readonly address: string;
  #socket: Socket<ClientConnection>;
  /** Set where the client began with TLS: it stands between the socket and everything else. */
  #directTls: DirectTls | null = null;
  readonly #outbox: Outbox;
  readonly #closeListeners: (() => void)[] = [];
  #pending: Uint8Array = new Uint8Array(0);
  #wanted: Wanted | null = null;
  #owner: ClientOwner | null = null;
  #closing = false;
  #closed = false;
  #encrypted = false;
  /** Resolves the upgrade to TLS. */
  #handshake: ((success: boolean) => void) | null = null;

  constructor(socket: Socket<ClientConnection>) {
    this.#socket = socket;
    this.#outbox = new Outbox(socket);
    this.address = socket.remoteAddress;
  }

  get encrypted(): boolean {
    return this.#encrypted;
  }

  /** Written, and not taken by the client yet. */
  get backlogBytes(): number {
    return this.#outbox.backlogBytes;
  }

  get closed(): boolean {
    return this.#closed;
  }

  get hasPendingBytes(): boolean {
    return this.#pending.length > 0;
  }

  /**
   * Calls `listener` once when the connection is over, in whatever state it was; at once if it is.
   */
  whenClosed(listener: () => void): void {
    if (this.#closed) listener();
    else this.#closeListeners.push(listener);
  }

  // ——— For the login ———

  nextStartup(): Promise<StartupPacket | null> {
    return new Promise((resolve) => {
      this.#wanted = { what: "startup", resolve };
      this.#serve();
    });
  }

  /** The body of the client's next password message (type `p`). */
  nextPassword(): Promise<Uint8Array | null> {
    return new Promise((resolve) => {
      this.#wanted = { what: "message", resolve };
      this.#serve();
    });
  }

  /**
   * Goes on over TLS; to be called when the client has been told so. False when the handshake
   * failed.
   */
  upgrade(tls: TlsContext): Promise<boolean> {
    return new Promise((resolve) => {
      this.#handshake = resolve;
      const plain = this.#socket;
      const [, encrypted] = plain.upgradeTLS<ClientConnection>({
        data: this,
        tls: { key: tls.key, cert: tls.cert },
        socket: {
          handshake: (_socket: Socket<ClientConnection>, success: boolean) => {
            this.#encrypted = success;
            this.#handshake?.(success);
            this.#handshake = null;
          },
          data: (socket: Socket<ClientConnection>, bytes: Buffer) => socket.data.received(bytes),
          drain: (socket: Socket<ClientConnection>) => socket.data.drained(),
          close: (socket: Socket<ClientConnection>) => socket.data.ended(),
          error: () => {},
        },
      });
      this.#socket = encrypted;
      this.#outbox.replaceSocket(encrypted);
    });
  }

  /** Goes on over TLS that the client has begun without asking. False when the handshake failed. */
  secure(tls: TlsContext): Promise<boolean> {
    return new Promise((resolve) => {
      this.#handshake = resolve;
      const secured = (success: boolean): void => {
        this.#encrypted ||= success;
        this.#handshake?.(success);
        this.#handshake = null;
      };
      const hello = this.#pending;
      this.#pending = new Uint8Array(0);
      this.#directTls = new DirectTls(this.#socket, tls, {
        secured,
        received: (bytes) => this.#take(bytes),
        drained: () => this.#outboxDrained(),
      });
      this.#outbox.replaceSocket(this.#directTls);
      this.#directTls.feed(hello);
    });
  }

  /** Hands the connection over: from now on what the client sends goes to its owner. */
  handTo(owner: ClientOwner): void {
    this.#owner = owner;
    const pending = this.#pending;
    this.#pending = new Uint8Array(0);
    if (pending.length > 0) owner.clientData(pending);
  }

  /** Ends it with an error in the client's own form. */
  refuse(denial: Denial): void {
    this.write(errorResponse(denial, "FATAL"));
    this.close();
  }

  // ——— ClientLink ———

  write(bytes: Uint8Array, start = 0, end = bytes.length): boolean {
    return this.#closed ? true : this.#outbox.write(bytes, start, end);
  }

  pauseReading(): void {
    if (!this.#closed) (this.#directTls ?? this.#socket).pause();
  }

  resumeReading(): void {
    if (!this.#closed) (this.#directTls ?? this.#socket).resume();
  }

  close(): void {
    if (this.#closed || this.#closing) return;
    this.#closing = true;
    if (this.#outbox.backlogBytes === 0) (this.#directTls ?? this.#socket).end();
    // A client that does not take its last bytes must not keep its place by that.
    const deadline = setTimeout(() => this.destroy(), LAST_BYTES_DEADLINE_MS);
    this.whenClosed(() => clearTimeout(deadline));
  }

  /** Ends it at once, whatever is still to be written. */
  destroy(): void {
    (this.#directTls ?? this.#socket).terminate();
    this.ended();
  }

  // ——— From the socket ———

  /**
   * `socket` tells the encrypted connection from the one below it, which goes on reporting
   * ciphertext.
   */
  isCurrent(socket: Socket<ClientConnection>): boolean {
    return socket === this.#socket;
  }

  received(bytes: Uint8Array): void {
    if (this.#directTls === null) this.#take(bytes);
    else this.#directTls.feed(copyOf(bytes));
  }

  drained(): void {
    if (this.#directTls === null) this.#outboxDrained();
    else this.#directTls.socketDrained();
  }

  /** Bytes of the protocol, decrypted where they were encrypted. */
  #take(bytes: Uint8Array): void {
    if (this.#owner !== null) {
      this.#owner.clientData(bytes);
      return;
    }
    if (this.#closing) return;
    if (this.#pending.length + bytes.length > PENDING_BYTES_MAX) {
      this.refuse(protocolViolation("too much data before the login"));
      return;
    }
    this.#pending = Buffer.concat([this.#pending, bytes]);
    this.#serve();
  }

  #outboxDrained(): void {
    if (this.#closed || !this.#outbox.drain()) return;
    if (this.#closing) (this.#directTls ?? this.#socket).end();
    else this.#owner?.clientDrained();
  }

  ended(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#directTls?.socketClosed();
    this.#handshake?.(false);
    this.#wanted?.resolve(null);
    this.#wanted = null;
    this.#owner?.clientClosed();
    for (const listener of this.#closeListeners) listener();
  }

  #serve(): void {
    const wanted = this.#wanted;
    if (wanted === null) return;
    if (this.#closed) {
      this.#wanted = null;
      wanted.resolve(null);
    } else if (wanted.what === "startup") {
      this.#serveStartup(wanted.resolve);
    } else {
      this.#serveMessage(wanted.resolve);
    }
  }

  #serveStartup(resolve: (packet: StartupPacket | null) => void): void {
    const parsed = parseStartup(this.#pending, 0, this.#pending.length);
    if (parsed.result === "incomplete") return;
    this.#wanted = null;
    if (parsed.result === "invalid") {
      this.refuse(protocolViolation(parsed.reason));
      resolve(null);
      return;
    }
    this.#pending = copyOf(this.#pending, parsed.bytes);
    resolve(parsed.packet);
  }

  #serveMessage(resolve: (body: Uint8Array | null) => void): void {
    const pending = this.#pending;
    if (pending.length < 5) return;
    const length = uint32At(pending, 1);
    const isPassword = pending[0] === 0x70;
    if (isPassword && length >= 4 && length <= PASSWORD_MESSAGE_BYTES_MAX) {
      if (pending.length < length + 1) return;
      this.#wanted = null;
      this.#pending = copyOf(pending, length + 1);
      resolve(copyOf(pending, 5, length + 1));
      return;
    }
    this.#wanted = null;
    this.refuse(
      protocolViolation(isPassword ? "invalid message length" : "expected a password message"),
    );
    resolve(null);
  }
}
