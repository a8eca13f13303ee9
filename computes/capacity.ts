/**
 * How many computes run at once. Whoever finds no room asks the others to make some, then waits in
 * line.
 */
import { ComputeHostError } from "../platform/compute-host.ts";

type Waiter = { readonly admit: () => void };

/** In line at most; beyond it a wake is refused at once. */
const WAITERS_MAX = 10_000;

export class Capacity {
  readonly #max: number;
  /** Asks for one slot to be given back soon, if any can be. */
  readonly #makeRoom: () => void;
  readonly #waiters = new Set<Waiter>();
  #used = 0;

  constructor(max: number, makeRoom: () => void) {
    this.#max = max;
    this.#makeRoom = makeRoom;
  }

  get used(): number {
    return this.#used;
  }

  get waiting(): number {
    return this.#waiters.size;
  }

  /** Takes a slot whether there is room or not: for a process that runs already. */
  take(): void {
    this.#used += 1;
  }

  /** @throws ComputeHostError `capacity` when there is no room by the deadline. */
  acquire(deadlineMs: number): Promise<void> {
    if (this.#used < this.#max && this.#waiters.size === 0) {
      this.#used += 1;
      return Promise.resolve();
    }
    if (this.#waiters.size >= WAITERS_MAX) return Promise.reject(this.#refusal());
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiters.delete(waiter);
        reject(this.#refusal());
      }, deadlineMs);
      const waiter: Waiter = {
        admit: () => {
          clearTimeout(timer);
          resolve();
        },
      };
      this.#waiters.add(waiter);
      this.#makeRoom();
    });
  }

  release(): void {
    this.#used -= 1;
    for (const waiter of this.#waiters) {
      if (this.#used >= this.#max) return;
      this.#waiters.delete(waiter);
      this.#used += 1;
      waiter.admit();
    }
  }

  #refusal(): ComputeHostError {
    return new ComputeHostError(
      "capacity",
      `All ${this.#max} computes that may run at once are in use. Try again shortly.`,
    );
  }
}
