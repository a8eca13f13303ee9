/** The CLI's help texts. */
import type { Command } from "./command.ts";

export function overview(commands: readonly Command[]): string {
  const width = Math.max(...commands.map((command) => synopsis(command).length));
  const lines = commands.map(
    (command) => `  ${synopsis(command).padEnd(width)}  ${command.summary}`,
  );
  return (
    `Usage: ogel COMMAND … [--json]\n\n${lines.join("\n")}\n` +
    `  ${"bench proxy|wake".padEnd(width)}  Measure this machine\n\n` +
    "With --json, one JSON value on standard output and nothing else. " +
    "ogel COMMAND --help says more.\n"
  );
}

export function commandHelp(command: Command): string {
  const options = [
    ...Object.entries(command.options).map(([name, { value, help, required }]) => ({
      left: `--${name} ${value}`.trimEnd(),
      right: required === true ? `${help} (required)` : help,
    })),
    { left: "--json", right: "print one JSON value" },
  ];
  const width = Math.max(...options.map(({ left }) => left.length));
  const lines = options.map(({ left, right }) => `  ${left.padEnd(width)}  ${right}`);
  return `${command.summary}.\n\nUsage: ogel ${synopsis(command)}\n\n${lines.join("\n")}\n`;
}

function synopsis(command: Command): string {
  const options = Object.entries(command.options).map(([name, { value, required }]) =>
    required === true ? `--${name} ${value}` : `[${`--${name} ${value}`.trimEnd()}]`,
  );
  return [command.name, ...command.positionals, ...options].join(" ");
}
