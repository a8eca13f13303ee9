/** A clock that stands until it is told to go on, for parts that take their time from outside. */

type Due = { readonly atMs: number; readonly call: () => void };

export class ManualClock {
  #nowMs = 1_000_000;
  #due: Due[] = [];

  readonly nowMs = (): number => this.#nowMs;

  readonly schedule = (delayMs: number, call: () => void): (() => void) => {
    const due = { atMs: this.#nowMs + delayMs, call };
    this.#due.push(due);
    return () => {
      this.#due = this.#due.filter((other) => other !== due);
    };
  };

  get scheduled(): number {
    return this.#due.length;
  }

  /** Goes on by so much, calling what becomes due on the way, in its order. */
  advance(byMs: number): void {
    const endMs = this.#nowMs + byMs;
    for (;;) {
      const next = this.#due
        .filter(({ atMs }) => atMs <= endMs)
        .reduce<Due | null>(
          (first, due) => (first === null || due.atMs < first.atMs ? due : first),
          null,
        );
      if (next === null) break;
      this.#due = this.#due.filter((due) => due !== next);
      this.#nowMs = Math.max(this.#nowMs, next.atMs);
      next.call();
    }
    this.#nowMs = endMs;
  }
}
