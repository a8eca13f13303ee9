/**
 * Metrics of several workers as one text: each sample with the worker it is of, each family's
 * heading once.
 */
import type { WorkerReport } from "./messages.ts";

/**
 * `reports` hold lines in the Prometheus text format, a family's lines together under its `# HELP`
 * and `# TYPE`.
 */
export function mergeMetrics(reports: readonly WorkerReport[]): string {
  const families = new Map<string, { readonly heading: string[]; readonly samples: string[] }>();
  for (const { worker, lines } of reports) {
    let family = { heading: [] as string[], samples: [] as string[] };
    for (const line of lines) {
      const heading = /^# (HELP|TYPE) (\S+)/.exec(line);
      if (heading === null) {
        if (line !== "") family.samples.push(withWorker(line, worker));
        continue;
      }
      const name = heading[2] ?? "";
      family = families.get(name) ?? { heading: [], samples: [] };
      families.set(name, family);
      if (!family.heading.includes(line)) family.heading.push(line);
    }
  }
  const lines = [...families.values()].flatMap(({ heading, samples }) => [...heading, ...samples]);
  return `${lines.join("\n")}\n`;
}

/** `name{a="b"} 1` and `name 1` get the label in front of their others. */
function withWorker(sample: string, worker: number): string {
  const end = sample.search(/[{ ]/);
  const name = sample.slice(0, end);
  const label = `worker="${worker}"`;
  return sample[end] === "{"
    ? `${name}{${label},${sample.slice(end + 1)}`
    : `${name}{${label}}${sample.slice(end)}`;
}
