/**
 * Cancel keys: which session a CancelRequest is for. Each client gets a random process number and
 * key of its own, which tell nothing of the server behind; a request with a wrong key is for
 * nobody.
 */
import { randomBytes, timingSafeEqual } from "node:crypto";
import { WORKER_SHIFT } from "../../workers/messages.ts";

export type Cancellable = { cancel(): void };

export type CancelKey = { readonly pid: number; readonly key: Uint8Array };

/** Which of several workers this is, and how a request gets to another. */
export type CancelRouting = {
  readonly worker: number;
  readonly elsewhere: (pid: number, key: Uint8Array) => void;
};

export class CancelRegistry {
  readonly #entries = new Map<number, { key: Uint8Array; session: Cancellable }>();
  readonly #routing: CancelRouting | null;

  /** `routing` is null for a proxy without other workers. */
  constructor(routing: CancelRouting | null) {
    this.#routing = routing;
  }

  /** `keyBytes` is 4 in protocol 3.0, up to 256 from 3.2 on. */
  register(session: Cancellable, keyBytes: number): CancelKey {
    let pid = 0;
    do pid = this.#number(randomBytes(4).readUInt32BE());
    while (pid === 0 || this.#entries.has(pid));
    const key = new Uint8Array(randomBytes(keyBytes));
    this.#entries.set(pid, { key, session });
    return { pid, key };
  }

  delete(pid: number): void {
    this.#entries.delete(pid);
  }

  /**
   * Cancels what the session with that number and key runs. There is no answer, whether there is
   * one or not.
   */
  request(pid: number, key: Uint8Array): void {
    const routing = this.#routing;
    if (routing !== null && pid >>> WORKER_SHIFT !== routing.worker) routing.elsewhere(pid, key);
    else this.requestHere(pid, key);
  }

  /** A request that is for this worker, if for any. */
  requestHere(pid: number, key: Uint8Array): void {
    const entry = this.#entries.get(pid);
    if (entry === undefined || entry.key.length !== key.length) return;
    if (timingSafeEqual(entry.key, key)) entry.session.cancel();
  }

  #number(random: number): number {
    if (this.#routing === null) return random & 0x7fff_ffff;
    return (this.#routing.worker << WORKER_SHIFT) | (random & ((1 << WORKER_SHIFT) - 1));
  }
}
