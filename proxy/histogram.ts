/**
 * Histograms of durations with buckets that are fixed when they are made: noting one is two
 * additions, without memory.
 */

/**
 * Upper bounds in milliseconds, for anything from a query on a warm cache to one that meets its
 * timeout.
 */
const BOUNDS_MS = [
  0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000,
] as const;

export class Histogram {
  /** One per bound, and one for what is above the last. */
  readonly #counts = new Float64Array(BOUNDS_MS.length + 1);
  #sumMs = 0;

  observe(durationMs: number): void {
    let bucket = 0;
    while (bucket < BOUNDS_MS.length && durationMs > (BOUNDS_MS[bucket] as number)) bucket += 1;
    this.#counts[bucket] = (this.#counts[bucket] as number) + 1;
    this.#sumMs += durationMs;
  }

  /** Samples in the Prometheus text format, in seconds; `labels` is empty or like `tier="PRO"`. */
  samples(name: string, labels: string): readonly string[] {
    const lines: string[] = [];
    const prefix = labels === "" ? "" : `${labels},`;
    let count = 0;
    this.#counts.forEach((inBucket, bucket) => {
      count += inBucket;
      const boundMs = BOUNDS_MS[bucket];
      const bound = boundMs === undefined ? "+Inf" : String(boundMs / 1_000);
      lines.push(`${name}_bucket{${prefix}le="${bound}"} ${count}`);
    });
    const braces = labels === "" ? "" : `{${labels}}`;
    lines.push(`${name}_sum${braces} ${(this.#sumMs / 1_000).toFixed(6)}`);
    lines.push(`${name}_count${braces} ${count}`);
    return lines;
  }
}
