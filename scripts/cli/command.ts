/** What a command of the CLI is. */
import type { StudioClient } from "./studio-client.ts";

/** A mistake in what was typed. Exit code 2. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** Something that did not work, said for people. Exit code 1. */
export class CommandError extends Error {
  override readonly name = "CommandError";
}

export type Output = {
  /** The one value of `--json`. */
  readonly json: unknown;
  /** A table or a sentence, with the next step. */
  readonly text: string;
  readonly exitCode?: number;
};

export type OptionSpec = {
  /** How the value is called in the help, e.g. `ORG`; `FLAG` where there is none. */
  readonly value: string;
  readonly help: string;
  readonly required?: boolean;
  /** May be given several times; the values come in one text, parted by commas. */
  readonly many?: boolean;
};

/** An option that takes no value; it comes as `yes` where it is given. */
export const FLAG = "";

export type CommandContext = {
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Finds the platform on first use; throws a `CommandError` where none is to be found. */
  readonly studio: () => StudioClient;
  readonly json: boolean;
};

export type CommandInput = {
  /** One for each of the command's `positionals`. */
  readonly positionals: readonly string[];
  readonly options: Readonly<Record<string, string | undefined>>;
};

export type Command = {
  /** E.g. `org create`. */
  readonly name: string;
  readonly summary: string;
  readonly positionals: readonly string[];
  readonly options: Readonly<Record<string, OptionSpec>>;
  run(input: CommandInput, context: CommandContext): Promise<Output>;
};

/** The positional at `index`, which the dispatcher has made sure of. */
export function positional(input: CommandInput, index: number): string {
  const value = input.positionals[index];
  if (value === undefined) throw new UsageError("An argument is missing.");
  return value;
}

/** A required option, which the dispatcher has made sure of. */
export function option(input: CommandInput, name: string): string {
  const value = input.options[name];
  if (value === undefined) throw new UsageError(`--${name} is missing.`);
  return value;
}

/** An option that is a whole number, or undefined where it was not given. */
export function integerOption(input: CommandInput, name: string): number | undefined {
  const text = input.options[name];
  if (text === undefined) return undefined;
  if (!/^\d{1,12}$/.test(text)) throw new UsageError(`--${name} takes a whole number.`);
  return Number(text);
}
