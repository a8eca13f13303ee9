/**
 * `ogel doctor`: what this machine has and lacks, whether or not the platform runs. As root it
 * makes the user that servers run as where there is none, as `./scripts/up` does.
 */
import type { Command } from "./command.ts";
import { type Check, checkMachine } from "./machine-checks.ts";

export const doctorCommand: Command = {
  name: "doctor",
  summary: "Check this machine: what is there, what is missing, how to get it",
  positionals: [],
  options: {},
  async run(_, { environment }) {
    const checks = await checkMachine(environment);
    const ok = checks.every((check) => check.ok || check.need !== "required");
    return { json: { ok, checks }, text: report(checks, ok), exitCode: ok ? 0 : 1 };
  },
};

function report(checks: readonly Check[], ok: boolean): string {
  const width = Math.max(...checks.map((check) => check.name.length));
  const lines = checks.map((check) => {
    const state = check.ok ? "ok      " : "missing ";
    const head = `${state} ${check.name.padEnd(width)}  ${check.found}`;
    if (check.ok) return head;
    const why = `${check.need === "required" ? "Needed" : "Useful"}: ${check.why}`;
    return `${head}\n${" ".repeat(width + 11)}${why}\n${" ".repeat(width + 11)}→ ${check.remedy}`;
  });
  const missing = checks.filter((check) => !check.ok).length;
  const verdict = ok
    ? `This machine can run the platform${missing > 0 ? "; what is missing is optional" : ""}.`
    : "This machine lacks something that the platform needs.";
  return `${lines.join("\n")}\n\n${verdict}\n`;
}
