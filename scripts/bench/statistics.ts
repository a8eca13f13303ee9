/** Quantiles and medians of what was measured. */

export type Quantiles = { readonly p50: number; readonly p95: number; readonly p99: number };

/**
 * By the nearest rank: a value that was really measured. `values` need not be sorted and must not
 * be empty.
 */
export function quantilesOf(values: readonly number[]): Quantiles {
  const sorted = Float64Array.from(values).sort();
  const at = (share: number): number => {
    const value = sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)];
    if (value === undefined) throw new Error("There are no quantiles of nothing.");
    return value;
  };
  return { p50: at(0.5), p95: at(0.95), p99: at(0.99) };
}

/** The middle value, or the mean of the two in the middle. `values` must not be empty. */
export function medianOf(values: readonly number[]): number {
  const sorted = [...values].sort((left, right) => left - right);
  const middle = sorted.length >> 1;
  const upper = sorted[middle];
  const lower = sorted.length % 2 === 1 ? upper : sorted[middle - 1];
  if (upper === undefined || lower === undefined) throw new Error("There is no median of nothing.");
  return (lower + upper) / 2;
}

/** To so many significant digits, because more would be noise. */
export function rounded(value: number, digits = 4): number {
  return Number(value.toPrecision(digits));
}
