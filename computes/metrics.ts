/** Numbers for Prometheus, in its text format. */

const BUCKETS_MS = [10, 25, 50, 75, 100, 150, 250, 500, 1_000, 2_500, 10_000] as const;

/** Durations, cumulated in buckets. */
export class Histogram {
  readonly #counts = BUCKETS_MS.map(() => 0);
  #count = 0;
  #sumMs = 0;

  observe(durationMs: number): void {
    this.#count += 1;
    this.#sumMs += durationMs;
    for (const [at, bound] of BUCKETS_MS.entries()) {
      if (durationMs <= bound) this.#counts[at] = (this.#counts[at] ?? 0) + 1;
    }
  }

  render(name: string, help: string): string {
    const buckets = BUCKETS_MS.map(
      (bound, at) => `${name}_bucket{le="${bound / 1_000}"} ${this.#counts[at]}`,
    );
    return [
      `# HELP ${name} ${help}`,
      `# TYPE ${name} histogram`,
      ...buckets,
      `${name}_bucket{le="+Inf"} ${this.#count}`,
      `${name}_sum ${this.#sumMs / 1_000}`,
      `${name}_count ${this.#count}`,
    ].join("\n");
  }
}

export function renderGauge(name: string, help: string, value: number): string {
  return `# HELP ${name} ${help}\n# TYPE ${name} gauge\n${name} ${value}`;
}
