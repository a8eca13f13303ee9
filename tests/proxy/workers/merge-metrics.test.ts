import { expect, test } from "bun:test";
import { mergeMetrics } from "../../../proxy/workers/merge-metrics.ts";

test("each sample says whose it is, and each family has its heading once, its samples together", () => {
  const linesOf = (queries: number, denials: readonly string[]): string[] => [
    "# HELP o7s_queries_total Statements completed or failed",
    "# TYPE o7s_queries_total counter",
    `o7s_queries_total ${queries}`,
    "# HELP o7s_denials_total Refusals by layer code",
    "# TYPE o7s_denials_total counter",
    ...denials,
    "",
  ];
  const merged = mergeMetrics([
    { worker: 1, lines: linesOf(3, ['o7s_denials_total{protocol="postgres",code="a b"} 1']) },
    { worker: 2, lines: linesOf(4, []) },
  ]);
  expect(merged.split("\n")).toEqual([
    "# HELP o7s_queries_total Statements completed or failed",
    "# TYPE o7s_queries_total counter",
    'o7s_queries_total{worker="1"} 3',
    'o7s_queries_total{worker="2"} 4',
    "# HELP o7s_denials_total Refusals by layer code",
    "# TYPE o7s_denials_total counter",
    'o7s_denials_total{worker="1",protocol="postgres",code="a b"} 1',
    "",
  ]);
});

test("no worker that answers makes no metrics", () => {
  expect(mergeMetrics([])).toBe("\n");
});
