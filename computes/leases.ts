/**
 * The leases on one compute: who may count on it, and until when. Times are of the monotonic clock.
 */

/** More holders than this cannot be: a holder is a proxy process. */
const HOLDERS_MAX = 1_000;

/**
 * The host's own holder: it keeps a compute up for a while, but not against somebody who needs the
 * room.
 */
export const HOST_HOLDER = "host";

export class Leases {
  readonly #untilMs = new Map<string, number>();

  /** Grants or extends; a lease is never shortened. False where there are too many holders. */
  grant(holder: string, untilMs: number): boolean {
    this.#forgetExpired(performance.now());
    const known = this.#untilMs.get(holder);
    if (known === undefined && this.#untilMs.size >= HOLDERS_MAX) return false;
    this.#untilMs.set(holder, Math.max(untilMs, known ?? 0));
    return true;
  }

  /** When the last lease runs out; 0 where there is none. */
  lastUntilMs(): number {
    return Math.max(0, ...this.#untilMs.values());
  }

  /** Whether somebody other than the host itself holds one. */
  isHeld(nowMs: number): boolean {
    for (const [holder, untilMs] of this.#untilMs) {
      if (holder !== HOST_HOLDER && untilMs > nowMs) return true;
    }
    return false;
  }

  clear(): void {
    this.#untilMs.clear();
  }

  #forgetExpired(nowMs: number): void {
    for (const [holder, untilMs] of this.#untilMs) {
      if (untilMs <= nowMs) this.#untilMs.delete(holder);
    }
  }
}
