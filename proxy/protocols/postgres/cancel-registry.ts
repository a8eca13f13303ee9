/**
 * Cancel keys: which session a CancelRequest is for. Each client gets a random process number and key of its own, which
 * tell nothing of the server behind; a request with a wrong key is for nobody.
 */
import { randomBytes, timingSafeEqual } from "node:crypto";

export type Cancellable = { cancel(): void };

export type CancelKey = { readonly pid: number; readonly key: Uint8Array };

export class CancelRegistry {
  readonly #entries = new Map<number, { key: Uint8Array; session: Cancellable }>();

  /** `keyBytes` is 4 in protocol 3.0, up to 256 from 3.2 on. */
  register(session: Cancellable, keyBytes: number): CancelKey {
    let pid = 0;
    do pid = randomBytes(4).readUInt32BE() & 0x7fff_ffff;
    while (pid === 0 || this.#entries.has(pid));
    const key = new Uint8Array(randomBytes(keyBytes));
    this.#entries.set(pid, { key, session });
    return { pid, key };
  }

  delete(pid: number): void {
    this.#entries.delete(pid);
  }

  /** Cancels what the session with that number and key runs. There is no answer, whether there is one or not. */
  request(pid: number, key: Uint8Array): void {
    const entry = this.#entries.get(pid);
    if (entry === undefined || entry.key.length !== key.length) return;
    if (timingSafeEqual(entry.key, key)) entry.session.cancel();
  }
}
