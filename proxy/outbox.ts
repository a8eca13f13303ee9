/**
 * Writing to a socket that may not take everything: what it does not take is kept, in order, until
 * it drains. Its owner stops reading from the other side meanwhile, so what is kept is at most what
 * had been read by then.
 */
import { copyOf } from "./bytes.ts";

/** A socket, as far as writing to it goes: returns how many bytes it has taken. */
export type WritableSocket = {
  write(bytes: Uint8Array, offset?: number, length?: number): number;
};

export class Outbox {
  #socket: WritableSocket;
  #backlog: Uint8Array[] = [];
  #backlogBytes = 0;

  constructor(socket: WritableSocket) {
    this.#socket = socket;
  }

  /** After a TLS upgrade the same connection goes on over another socket. */
  replaceSocket(socket: WritableSocket): void {
    this.#socket = socket;
  }

  get backlogBytes(): number {
    return this.#backlogBytes;
  }

  /**
   * Writes `bytes[start, end)`. True when nothing is kept back. Bytes that must wait are copied.
   */
  write(bytes: Uint8Array, start = 0, end = bytes.length): boolean {
    let at = start;
    if (this.#backlogBytes === 0 && at < end)
      at += Math.max(0, this.#socket.write(bytes, at, end - at));
    if (at >= end) return this.#backlogBytes === 0;
    this.#backlog.push(copyOf(bytes, at, end));
    this.#backlogBytes += end - at;
    return false;
  }

  /** To be called when the socket drains. True when nothing is kept back any more. */
  drain(): boolean {
    while (this.#backlog.length > 0) {
      const bytes = this.#backlog[0] as Uint8Array;
      const taken = Math.max(0, this.#socket.write(bytes));
      this.#backlogBytes -= taken;
      if (taken < bytes.length) {
        this.#backlog[0] = bytes.subarray(taken);
        return false;
      }
      this.#backlog.shift();
    }
    return true;
  }
}
