/** `ogel bench`: measures this machine and keeps a record. */
import { parseArgs } from "node:util";
import { CommandError, UsageError } from "../cli/command.ts";
import { describeCircumstances } from "./circumstances.ts";
import { QUERY_MODES, type QueryMode } from "./pgbench.ts";
import { findPrograms } from "./programs.ts";
import { measureProxy, type ProxyPlan } from "./proxy-measurement.ts";
import { proxyText, reportProxy } from "./proxy-report.ts";
import { recordRun } from "./recording.ts";
import { withScratch } from "./scratch.ts";
import { measureWake, type WakePlan } from "./wake-measurement.ts";
import { reportWake, wakeText } from "./wake-report.ts";

const HELP = `Measure this machine. A run starts servers of its own, ends them, and appends a line to docs/benchmarks/.

Usage: ogel bench proxy [--seconds N] [--rounds N] [--clients 1,20,100] [--modes simple,extended,prepared]
                        [--scale N] [--quick] [--no-record] [--json]
       ogel bench wake [--wakes N] [--databases N] [--quick] [--no-record] [--json]

  proxy   O7s, PgBouncer and direct PostgreSQL by turns: throughput, latency, processor time per query
  wake    the first query of a sleeping Neon-kind database: how long it waits, and for what

  --seconds N      the length of each run of pgbench, at least 3 (5)
  --rounds N       how often each is run; medians count (3)
  --clients LIST   numbers of clients (1,20,100)
  --modes LIST     query modes of pgbench (simple,extended, and prepared where PgBouncer can)
  --scale N        size of pgbench's tables (10)
  --wakes N        wakes of each kind (100)
  --databases N    databases on the compute host, all but one asleep; each takes some 30 MB of disk (1)
  --quick          short, to try it out: 1 round of 3 seconds, 1 and 20 clients; 10 wakes
  --no-record      append nothing to docs/benchmarks/
  --json           print one JSON value
`;

const OPTIONS = {
  seconds: { type: "string" },
  rounds: { type: "string" },
  clients: { type: "string" },
  modes: { type: "string" },
  scale: { type: "string" },
  wakes: { type: "string" },
  databases: { type: "string" },
  quick: { type: "boolean" },
  "no-record": { type: "boolean" },
  json: { type: "boolean" },
  help: { type: "boolean", short: "h" },
} as const;

type Options = ReturnType<typeof readOptions>["values"];

/**
 * Runs one benchmark and returns the exit code.
 * @throws UsageError for what was not understood, CommandError for what this machine lacks.
 */
export async function runBench(args: string[], options: { json: boolean }): Promise<number> {
  const { positionals, values } = readOptions(args);
  if (values.help === true) {
    process.stdout.write(HELP);
    return 0;
  }
  const [benchmark, ...rest] = positionals;
  if (rest.length > 0) throw new UsageError(`"${rest[0]}" is one argument too many. ${HINT}`);
  const json = options.json || values.json === true;
  switch (benchmark) {
    case "proxy":
      return await benchProxy(values, json);
    case "wake":
      return await benchWake(values, json);
    case undefined:
      throw new UsageError(`What is to be measured is missing. ${HINT}`);
    default:
      throw new UsageError(`There is no benchmark "${benchmark}". ${HINT}`);
  }
}

const HINT = "See ogel bench --help.";

function readOptions(args: string[]) {
  try {
    return parseArgs({ args, allowPositionals: true, strict: true, options: OPTIONS });
  } catch (error) {
    // Its first sentence; the second is about a way of quoting that is of no use here.
    const [message] = (error instanceof Error ? error.message : String(error)).split(". ");
    throw new UsageError(`${message}. ${HINT}`);
  }
}

async function benchProxy(values: Options, json: boolean): Promise<number> {
  const plan = readProxyPlan(values);
  if (process.platform !== "linux") {
    throw new CommandError("ogel bench proxy reads processor times from /proc: run it on Linux.");
  }
  const { pgbench, pgbouncer } = findPrograms();
  const circumstances = describeCircumstances();
  const tools = { pgbench, pgbouncer, progress };
  const measurement = await withScratch((scratch) => measureProxy(plan, tools, scratch));
  const versions = { pgbench: pgbench.version, pgbouncer: pgbouncer.version };
  const report = reportProxy({ circumstances, plan, versions, measurement });
  finish(report, values, json ? null : proxyText(report));
  return 0;
}

function readProxyPlan(values: Options): ProxyPlan {
  const quick = values.quick === true;
  const clients = list(values.clients ?? (quick ? "1,20" : "1,20,100")).map((text) =>
    integer("clients", text, { min: 1, max: 200 }),
  );
  return {
    modes: list(values.modes ?? "simple,extended,prepared").map(queryMode),
    clients,
    seconds: integer("seconds", values.seconds ?? (quick ? "3" : "5"), { min: 3, max: 600 }),
    rounds: integer("rounds", values.rounds ?? (quick ? "1" : "3"), { min: 1, max: 100 }),
    scale: integer("scale", values.scale ?? "10", { min: 1, max: 1_000 }),
  };
}

async function benchWake(values: Options, json: boolean): Promise<number> {
  const wakes = values.wakes ?? (values.quick === true ? "10" : "100");
  const plan: WakePlan = {
    wakes: integer("wakes", wakes, { min: 1, max: 10_000 }),
    databases: integer("databases", values.databases ?? "1", { min: 1, max: 10_000 }),
  };
  const circumstances = describeCircumstances();
  const measurement = await withScratch((scratch) => measureWake(plan, progress, scratch));
  const report = reportWake({ circumstances, plan, measurement });
  finish(report, values, json ? null : wakeText(report));
  return 0;
}

function queryMode(text: string): QueryMode {
  const mode = QUERY_MODES.find((candidate) => candidate === text);
  if (mode !== undefined) return mode;
  throw new UsageError(`--modes takes ${QUERY_MODES.join(", ")}, not "${text}". ${HINT}`);
}

function list(text: string): readonly string[] {
  return [...new Set(text.split(",").map((part) => part.trim()))];
}

function integer(name: string, text: string, range: { min: number; max: number }): number {
  const value = /^\d{1,9}$/.test(text) ? Number(text) : Number.NaN;
  if (value >= range.min && value <= range.max) return value;
  throw new UsageError(
    `--${name} takes whole numbers from ${range.min} to ${range.max}, not "${text}". ${HINT}`,
  );
}

/** Records the run, unless told not to, and prints it: `text` for people, else one JSON value. */
function finish(
  report: { readonly benchmark: string },
  values: Options,
  text: string | null,
): void {
  const file = values["no-record"] === true ? null : recordRun(report.benchmark, report);
  process.stdout.write(text ?? `${JSON.stringify(report)}\n`);
  if (file !== null) progress(`recorded in ${file}`);
}

function progress(line: string): void {
  process.stderr.write(`ogel bench: ${line}\n`);
}
