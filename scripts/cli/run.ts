/** The CLI's dispatcher: finds the command, reads its arguments, prints its output or its error. */
import { parseArgs } from "node:util";
import {
  type Command,
  type CommandContext,
  CommandError,
  type CommandInput,
  FLAG,
  type Output,
  UsageError,
} from "./command.ts";
import { databaseCommands } from "./database-commands.ts";
import { doctorCommand } from "./doctor-command.ts";
import { commandHelp, overview } from "./help.ts";
import { orgCommands, tokenCommands } from "./org-commands.ts";
import { findStudio } from "./platform-file.ts";
import { statusCommand } from "./status-command.ts";
import { createStudioClient } from "./studio-client.ts";
import { nearest } from "./suggestion.ts";

export type CliIo = {
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly stdout: (text: string) => void;
  readonly stderr: (text: string) => void;
};

const COMMANDS: readonly Command[] = [
  statusCommand,
  doctorCommand,
  ...orgCommands,
  ...tokenCommands,
  ...databaseCommands,
];

/**
 * Runs one command and returns the exit code: 0, 1 when it did not work, 2 when it was not
 * understood.
 */
export async function runCli(args: readonly string[], io: CliIo): Promise<number> {
  try {
    return await dispatch(args, io);
  } catch (error) {
    if (error instanceof UsageError) {
      io.stderr(`ogel: ${error.message}\n`);
      return 2;
    }
    const expected = error instanceof CommandError;
    const message = expected ? error.message : `Unexpected: ${String(error)}`;
    io.stderr(`ogel: ${message}\n`);
    return 1;
  }
}

async function dispatch(args: readonly string[], io: CliIo): Promise<number> {
  const words = args.filter((arg) => !arg.startsWith("-"));
  const [first] = words;
  const json = args.includes("--json");
  if (first === "bench") {
    return await runBench(args.slice(args.indexOf("bench") + 1), json);
  }
  if (first === undefined || first === "help") return showOverview(args, io, first === "help");

  const group = COMMANDS.filter((candidate) => candidate.name.split(" ")[0] === first);
  const name = group.some((candidate) => candidate.name === first)
    ? first
    : words.slice(0, 2).join(" ");
  const command = COMMANDS.find((candidate) => candidate.name === name);
  if (command === undefined) {
    if (group.length > 0 && words.length === 1) return showOverview(args, io, false, group);
    throw unknownCommand(name, first, group);
  }
  if (args.includes("--help") || args.includes("-h")) {
    io.stdout(commandHelp(command));
    return 0;
  }
  const context: CommandContext = {
    environment: io.environment,
    studio: () => createStudioClient(findStudio(io.environment)),
    json,
  };
  return print(await command.run(readInput(command, args), context), json, io);
}

/** Loaded only when it is asked for: it brings much that no other command needs. */
async function runBench(args: readonly string[], json: boolean): Promise<number> {
  const bench = await import("../bench/main.ts");
  return await bench.runBench([...args], { json });
}

function showOverview(
  args: readonly string[],
  io: CliIo,
  asked: boolean,
  commands: readonly Command[] = COMMANDS,
): number {
  const wanted = asked || args.includes("--help") || args.includes("-h");
  (wanted ? io.stdout : io.stderr)(overview(commands));
  return wanted ? 0 : 2;
}

function unknownCommand(name: string, first: string, group: readonly Command[]): UsageError {
  const names = [...COMMANDS.map((command) => command.name), "bench"];
  const guess =
    nearest(name, names) ??
    (group.length === 0
      ? nearest(first, [...new Set(names.map((n) => n.split(" ")[0] ?? n))])
      : null);
  const hint = guess === null ? "See ogel --help." : `Did you mean "ogel ${guess}"?`;
  return new UsageError(`There is no command "${name}". ${hint}`);
}

function readInput(command: Command, args: readonly string[]): CommandInput {
  const known = Object.keys(command.options);
  const parsed = parseWords(command, args);
  const positionals = parsed.positionals.slice(command.name.split(" ").length);
  const missing = command.positionals[positionals.length];
  if (missing !== undefined) {
    throw new UsageError(`${missing} is missing. ${usageHint(command)}`);
  }
  if (positionals.length > command.positionals.length) {
    const extra = positionals[command.positionals.length];
    throw new UsageError(`"${extra}" is one argument too many. ${usageHint(command)}`);
  }
  const options: Record<string, string | undefined> = {};
  for (const name of known) {
    const value = parsed.values[name];
    options[name] = textOf(value);
    if (command.options[name]?.required === true && !options[name]) {
      throw new UsageError(`--${name} is missing. ${usageHint(command)}`);
    }
  }
  return { positionals, options };
}

function textOf(value: unknown): string | undefined {
  if (value === true) return "yes";
  if (Array.isArray(value)) return value.join(",");
  return typeof value === "string" ? value : undefined;
}

function parseWords(command: Command, args: readonly string[]) {
  const names = Object.keys(command.options);
  const options: Record<string, { type: "boolean" | "string"; multiple?: boolean }> = {
    json: { type: "boolean" },
  };
  for (const name of names) {
    const { value, many } = command.options[name] ?? {};
    options[name] =
      value === FLAG ? { type: "boolean" } : { type: "string", multiple: many === true };
  }
  try {
    return parseArgs({ args: [...args], allowPositionals: true, strict: true, options });
  } catch (error) {
    const wrong = /'--?([^' ]*)/.exec(error instanceof Error ? error.message : "")?.[1] ?? "";
    if (names.includes(wrong))
      throw new UsageError(`--${wrong} takes a value. ${usageHint(command)}`);
    const guess = nearest(wrong, [...names, "json", "help"]);
    const hint = guess === null ? usageHint(command) : `Did you mean --${guess}?`;
    throw new UsageError(`"ogel ${command.name}" has no option --${wrong}. ${hint}`);
  }
}

function usageHint(command: Command): string {
  return `See ogel ${command.name} --help.`;
}

function print(output: Output, json: boolean, io: CliIo): number {
  io.stdout(json ? `${JSON.stringify(output.json)}\n` : output.text);
  return output.exitCode ?? 0;
}
