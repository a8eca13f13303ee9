import { expect, test } from "bun:test";
import { judge } from "../../../scripts/bench/bars.ts";
import { runBench } from "../../../scripts/bench/main.ts";
import { cpuMicrosOf } from "../../../scripts/bench/process-cpu.ts";
import { medianOf, quantilesOf } from "../../../scripts/bench/statistics.ts";
import { UsageError } from "../../../scripts/cli/command.ts";

test("quantiles are values that were measured, by the nearest rank", () => {
  const values = Array.from({ length: 200 }, (_, index) => 200 - index);
  expect(quantilesOf(values)).toEqual({ p50: 100, p95: 190, p99: 198 });
  expect(quantilesOf([7])).toEqual({ p50: 7, p95: 7, p99: 7 });
});

test("a median of an even number lies between the two in the middle, and nothing has none", () => {
  expect(medianOf([9, 1, 5])).toBe(5);
  expect(medianOf([4, 1, 3, 2])).toBe(2.5);
  expect(() => medianOf([])).toThrow("no median");
});

test("a bar is met at its very value, and not judged where nothing was measured", () => {
  const bar = { name: "latency", unit: "ms", bar: 0.2, better: "lower" } as const;
  expect(judge(bar, 0.2).met).toBe(true);
  expect(judge(bar, 0.2001).met).toBe(false);
  expect(judge({ ...bar, better: "higher" }, 0.1).met).toBe(false);
  expect(judge(bar, null)).toMatchObject({ value: null, met: null });
});

test.if(process.platform === "linux")("processor time of a process only grows", () => {
  const before = cpuMicrosOf(process.pid);
  expect(before).toBeGreaterThan(0);
  expect(cpuMicrosOf(process.pid)).toBeGreaterThanOrEqual(before);
});

test("what cannot be measured is refused before anything is started", async () => {
  const refused = async (...args: string[]): Promise<string> => {
    const error: unknown = await runBench(args, { json: false }).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(UsageError);
    return (error as UsageError).message;
  };
  expect(await refused("proxy", "--seconds", "2")).toContain("from 3 to 600");
  expect(await refused("proxy", "--modes", "simple,odd")).toContain('not "odd"');
  expect(await refused("wake", "--wakes", "0")).toContain("from 1 to 10000");
  expect(await refused("frob")).toContain('no benchmark "frob"');
  expect(await refused("wake", "--frob")).toContain("--frob");
});
