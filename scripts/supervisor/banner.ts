/** What a person sees once the platform runs: where it is, and lines to paste. */
import type { Demo } from "./demo.ts";
import type { Settings } from "./settings.ts";

export type BannerParts = {
  readonly settings: Settings;
  readonly stateDirectory: string;
  /** Null where the demo could not be made, or its people removed it. */
  readonly demo: Demo | null;
  readonly detached: boolean;
  readonly hasPsql: boolean;
};

const DESCRIPTIONS: Readonly<Record<string, string>> = {
  app: "Postgres, on the shared server",
  scratch: "Neon-style: sleeps when idle, wakes at the first query",
};

export function renderBanner(parts: BannerParts): string {
  const { settings, stateDirectory, demo, detached } = parts;
  const { ports, publicHost } = settings;
  const lines = [
    "",
    "Ogel Cloud is running.",
    "",
    `  Postgres   ${publicHost}:${ports.postgres}`,
    `  Studio     http://${publicHost}:${ports.studio}/api/v1`,
    `  Health     http://${publicHost}:${ports.http}/healthz   (numbers: /metrics)`,
  ];
  if (demo !== null) lines.push("", ...demoLines(demo));
  if (!parts.hasPsql) {
    lines.push("", "psql is not installed here. On Debian: apt-get install postgresql-client");
  }
  lines.push(
    "",
    "Next",
    "",
    "  ./scripts/ogel org create acme --tier FREE",
    "  ./scripts/ogel status",
    "",
    `State: ${settings.dataDirectory}${settings.dataDirectory === stateDirectory ? "" : ` -> ${stateDirectory}`}, logs in logs/.`,
    detached ? "Stop it with ./scripts/down." : "Ctrl-C stops everything.",
    "",
  );
  return lines.join("\n");
}

function demoLines(demo: Demo): readonly string[] {
  const lines = ["Try it as the demo org", "", `  export PGPASSWORD=${demo.token}`];
  for (const [name, { connectionString }] of Object.entries(demo.databases)) {
    const description = DESCRIPTIONS[name];
    lines.push("");
    if (description !== undefined) lines.push(`  # ${description}`);
    lines.push(`  psql "${connectionString}"`);
  }
  return lines;
}
