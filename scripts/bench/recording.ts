/** The record of runs: one line of JSON each, in docs/benchmarks/. */
import { appendFileSync, mkdirSync } from "node:fs";
import path from "node:path";
import { REPOSITORY } from "../cli/platform-file.ts";

/**
 * Appends a run to the record of its benchmark and returns the file, relative to the repository.
 */
export function recordRun(benchmark: string, run: object): string {
  const file = path.join("docs", "benchmarks", `${benchmark}.jsonl`);
  mkdirSync(path.join(REPOSITORY, "docs", "benchmarks"), { recursive: true });
  appendFileSync(path.join(REPOSITORY, file), `${JSON.stringify(run)}\n`);
  return file;
}
