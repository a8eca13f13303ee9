import { expect, test } from "bun:test";
import { Histogram } from "../../proxy/histogram.ts";

function figure(samples: readonly string[], start: string): number {
  return Number(
    samples
      .find((sample) => sample.startsWith(start))
      ?.split(" ")
      .pop(),
  );
}

test("a duration counts in its bucket and in all above, a bound in its own, and in seconds", () => {
  const histogram = new Histogram();
  for (const durationMs of [0.1, 1, 1.5, 60_000]) histogram.observe(durationMs);
  const samples = histogram.samples("t", 'tier="PRO"');
  const bucket = (le: string): number => figure(samples, `t_bucket{tier="PRO",le="${le}"}`);
  expect(bucket("0.00025")).toBe(1);
  expect(bucket("0.001")).toBe(2);
  expect(bucket("0.0025")).toBe(3);
  expect(bucket("30")).toBe(3);
  expect(bucket("+Inf")).toBe(4);
  expect(figure(samples, 't_count{tier="PRO"}')).toBe(4);
  expect(figure(samples, 't_sum{tier="PRO"}')).toBeCloseTo(60.0026, 6);
});

test("one without labels has none but its bounds", () => {
  const samples = new Histogram().samples("t", "");
  expect(samples[0]).toBe('t_bucket{le="0.00025"} 0');
  expect(samples.slice(-2)).toEqual(["t_sum 0.000000", "t_count 0"]);
});
