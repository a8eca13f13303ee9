/**
 * TLS from the first byte (libpq's `sslnegotiation=direct`). The ClientHello has been read by the
 * time it is recognised, and Bun's own upgrade cannot be given bytes; so this handshake runs in
 * `node:tls` over a stream that the socket feeds. Slower than the negotiated way, and only taken by
 * clients that ask for it.
 */
import { Duplex } from "node:stream";
import { TLSSocket } from "node:tls";
import type { Socket } from "bun";

/**
 * What PostgreSQL clients must ask for, so that no other protocol can be tricked into speaking this
 * one.
 */
const ALPN_PROTOCOL = "postgresql";

export type DirectTlsEvents = {
  secured(success: boolean): void;
  received(bytes: Uint8Array): void;
  drained(): void;
};

/** Stands in for the client's socket once the connection is encrypted. */
export class DirectTls {
  readonly #socket: Socket<unknown>;
  readonly #stream: Duplex;
  readonly #tls: TLSSocket;
  /** Ciphertext that the socket has not taken, and whom to tell when it has. */
  #unwritten: { bytes: Uint8Array; written: () => void } | null = null;

  constructor(
    socket: Socket<unknown>,
    context: { readonly key: string; readonly cert: string },
    events: DirectTlsEvents,
  ) {
    this.#socket = socket;
    this.#stream = new Duplex({
      read: () => {
        this.#socket.resume();
      },
      write: (bytes: Uint8Array, _encoding, written) => this.#writeCiphertext(bytes, written),
      final: (ended) => {
        this.#socket.end();
        ended();
      },
    });
    const options = {
      isServer: true,
      key: context.key,
      cert: context.cert,
      ALPNProtocols: [ALPN_PROTOCOL],
    };
    // A TLSSocket takes any Duplex; its types ask for a net.Socket.
    this.#tls = new TLSSocket(this.#stream as ConstructorParameters<typeof TLSSocket>[0], options);
    this.#tls.on("secure", () => events.secured(this.#tls.alpnProtocol === ALPN_PROTOCOL));
    this.#tls.on("data", (bytes: Buffer) => events.received(bytes));
    this.#tls.on("drain", () => events.drained());
    this.#tls.on("error", () => {
      events.secured(false);
      this.terminate();
    });
  }

  /** Ciphertext from the client. */
  feed(bytes: Uint8Array): void {
    if (!this.#stream.push(bytes)) this.#socket.pause();
  }

  /** The socket takes ciphertext again. */
  socketDrained(): void {
    const unwritten = this.#unwritten;
    if (unwritten === null) return;
    this.#unwritten = null;
    this.#writeCiphertext(unwritten.bytes, unwritten.written);
  }

  /** The socket is gone. */
  socketClosed(): void {
    this.#stream.destroy();
  }

  /** As a socket's: the number of bytes taken. */
  write(bytes: Uint8Array, offset = 0, length = bytes.length - offset): number {
    if (this.#tls.writableNeedDrain || this.#tls.destroyed) return 0;
    // The stream keeps what it is given, and the caller's bytes are only lent.
    this.#tls.write(new Uint8Array(bytes.subarray(offset, offset + length)));
    return length;
  }

  pause(): void {
    this.#tls.pause();
  }

  resume(): void {
    this.#tls.resume();
  }

  end(): void {
    this.#tls.end();
  }

  terminate(): void {
    this.#stream.destroy();
    this.#socket.terminate();
  }

  #writeCiphertext(bytes: Uint8Array, written: () => void): void {
    const taken = Math.max(0, this.#socket.write(bytes));
    if (taken === bytes.length) written();
    else this.#unwritten = { bytes: bytes.subarray(taken), written };
  }
}
