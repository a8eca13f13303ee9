/** `ogel db …` and `ogel usage`. */
import { DATABASE_KINDS } from "../../platform/databases.ts";
import type { UsageFigures, UsageReport } from "../../platform/usage/quantities.ts";
import { type Command, FLAG, option, positional, UsageError } from "./command.ts";
import { orgPath } from "./org-commands.ts";
import { table } from "./table.ts";

type Database = {
  readonly databaseId: string;
  readonly name: string;
  readonly branch: string | null;
  readonly kind: string;
  readonly status: string;
  readonly failureReason: string | null;
  readonly connectionString: string;
  readonly allowedNetworks: readonly string[];
};

type Compute = { readonly databaseId: string; readonly name: string; readonly state: string };

const orgOption = { org: { value: "ORG", help: "the org's id", required: true } } as const;

export const databaseCommands: readonly Command[] = [
  {
    name: "db create",
    summary: "Create a database; returns when it can be connected to",
    positionals: ["NAME"],
    options: {
      ...orgOption,
      kind: { value: "KIND", help: `${DATABASE_KINDS.join(", ")} (default postgres)` },
    },
    async run(input, { studio }) {
      const path = `${orgPath(option(input, "org"))}/databases`;
      const body = { name: positional(input, 0), kind: input.options["kind"] ?? "postgres" };
      const database = await studio().call<Database>("POST", path, body);
      const { databaseId, kind, connectionString } = database;
      return {
        json: { databaseId, kind, connectionString },
        text:
          `Database ${database.name} (${kind}) is ready. Connect with a token of the org:\n\n` +
          `  PGPASSWORD=<token> psql "${connectionString}"\n`,
      };
    },
  },
  {
    name: "db list",
    summary: "List the databases of an org",
    positionals: [],
    options: orgOption,
    async run(input, { studio }) {
      const org = option(input, "org");
      const path = `${orgPath(org)}/databases`;
      const { databases } = await studio().call<{ databases: readonly Database[] }>("GET", path);
      const rows = databases.map((database) => [
        database.branch === null ? database.name : `${database.name}@${database.branch}`,
        database.kind,
        database.status,
        database.connectionString,
      ]);
      const failures = databases.flatMap(({ name, failureReason }) =>
        failureReason === null ? [] : [`${name}: ${failureReason}\n`],
      );
      const next = `./scripts/ogel db create NAME --org ${org}`;
      const empty = `The org has no databases yet. Next: ${next}`;
      return {
        json: { databases },
        text: table(["name", "kind", "status", "connection"], rows, empty) + failures.join(""),
      };
    },
  },
  {
    name: "db drop",
    summary: "Drop a database and all that is in it",
    positionals: ["NAME"],
    options: orgOption,
    async run(input, { studio }) {
      const name = positional(input, 0);
      await studio().call("DELETE", databasePath(option(input, "org"), name));
      return { json: { name, dropped: true }, text: `Dropped ${name}.\n` };
    },
  },
  {
    name: "db allow",
    summary: "Say from which networks clients may come; open sessions from others end",
    positionals: ["NAME"],
    options: {
      ...orgOption,
      network: { value: "CIDR", help: "e.g. 203.0.113.0/24; may be repeated", many: true },
      all: { value: FLAG, help: "from everywhere" },
    },
    async run(input, { studio }) {
      const name = positional(input, 0);
      const { network, all } = input.options;
      if ((network === undefined) === (all === undefined)) {
        throw new UsageError("Say from where: --network CIDR, once or several times, or --all.");
      }
      const networks = network?.split(",") ?? [];
      const path = `${databasePath(option(input, "org"), name)}/networks`;
      const { allowedNetworks } = await studio().call<Database>("PUT", path, { networks });
      const from = allowedNetworks.length === 0 ? "everywhere" : allowedNetworks.join(", ");
      return {
        json: { name, allowedNetworks },
        text: `Clients may come to ${name} from ${from}.\n`,
      };
    },
  },
  sleepCommand("suspend", "Stop a scale-to-zero database now; the next query wakes it"),
  sleepCommand("wake", "Start a scale-to-zero database before its first query"),
  {
    name: "usage",
    summary: "Show what an org has used in a month, by database",
    positionals: [],
    options: {
      ...orgOption,
      period: { value: "YYYY-MM", help: "the month, in UTC (default: the current one)" },
    },
    async run(input, { studio }) {
      const { period } = input.options;
      const query = period === undefined ? "" : `?period=${encodeURIComponent(period)}`;
      const path = `${orgPath(option(input, "org"))}/usage${query}`;
      const report = await studio().call<UsageReport & { complete: boolean }>("GET", path);
      return { json: report, text: usageText(report) };
    },
  },
];

function sleepCommand(act: "suspend" | "wake", summary: string): Command {
  return {
    name: `db ${act}`,
    summary,
    positionals: ["NAME"],
    options: orgOption,
    async run(input, { studio }) {
      const name = positional(input, 0);
      const path = `${databasePath(option(input, "org"), name)}/${act}`;
      const compute = await studio().call<Compute>("POST", path);
      return { json: compute, text: `Database ${name} is ${compute.state}.\n` };
    },
  };
}

function databasePath(org: string, name: string): string {
  return `${orgPath(org)}/databases/${encodeURIComponent(name)}`;
}

function usageText(report: UsageReport & { complete: boolean }): string {
  const cells = (figures: UsageFigures) => [
    figures.queries,
    figures.rows,
    figures.bytesIn,
    figures.bytesOut,
    figures.busyMs,
    figures.computeSeconds,
  ];
  const rows = report.byDatabase.map((row) => [row.name ?? row.databaseId, ...cells(row)]);
  if (rows.length > 1) rows.push(["total", ...cells(report.quantities)]);
  const headings = ["database", "queries", "rows", "bytes in", "bytes out", "busy ms", "compute s"];
  const note = report.complete
    ? ""
    : "What counts did not answer in time, in part: the newest figures may be missing.\n";
  return table(headings, rows, `Nothing was used in ${report.period}.`) + note;
}
