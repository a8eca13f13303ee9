/** The bars for speed (DESIGN.md section 9) and whether a run is over or under them. */
import { rounded } from "./statistics.ts";

export type Bar = {
  readonly name: string;
  readonly unit: "ratio" | "ms";
  readonly bar: number;
  readonly better: "lower" | "higher";
  /** Null where the run did not measure it. */
  readonly value: number | null;
  readonly met: boolean | null;
};

export function judge(bar: Omit<Bar, "met" | "value">, measured: number | null): Bar {
  if (measured === null) return { ...bar, value: null, met: null };
  const met = bar.better === "lower" ? measured <= bar.bar : measured >= bar.bar;
  return { ...bar, value: rounded(measured), met };
}

/** A row for a table: name, what was measured, the bar, the verdict. */
export function barRow(bar: Bar): readonly string[] {
  const unit = bar.unit === "ms" ? " ms" : "×";
  const limit = `${bar.better === "lower" ? "≤" : "≥"} ${bar.bar}${unit}`;
  if (bar.value === null) return [bar.name, "-", limit, "not measured"];
  const verdict = bar.met === true ? "met" : "not met";
  return [bar.name, `${bar.value.toFixed(3)}${unit}`, limit, verdict];
}

export const BAR_HEADINGS = ["bar", "measured", "wanted", "verdict"] as const;
