/** The operators' commands: `SHOW view [org]`, and nothing else. */
import { parseOrgId } from "../../../../platform/ids.ts";
import { errorReport, noticeReport, type Row, tableMessages } from "./result-messages.ts";
import type { View } from "./views.ts";

/** More would be hard to read and long in the making, while sessions wait. */
export const ROWS_MAX = 1_000;
const STATEMENTS_MAX = 16;

const SHOW = /^show\s+([a-z]+)(?:\s+(\S+))?$/i;
const COMMANDS_HINT = "SHOW HELP lists the commands.";

/**
 * What a Query message with this text is answered with, but for its ReadyForQuery. After an error
 * nothing more of the text is looked at.
 */
export function runCommands(query: string, views: readonly View[]): readonly Uint8Array[] {
  const statements = query
    .split(";")
    .map((statement) => statement.trim())
    .filter((statement) => statement !== "");
  if (statements.length > STATEMENTS_MAX) {
    return [errorReport("54000", `more than ${STATEMENTS_MAX} commands at once`, COMMANDS_HINT)];
  }
  const answers: Uint8Array[] = [];
  for (const statement of statements) {
    const answer = runCommand(statement, views);
    answers.push(...answer.messages);
    if (answer.failed) break;
  }
  return answers;
}

type Answer = { readonly messages: readonly Uint8Array[]; readonly failed: boolean };

function runCommand(statement: string, views: readonly View[]): Answer {
  const [, name = "", org] = SHOW.exec(statement) ?? [];
  if (name.toUpperCase() === "HELP" && org === undefined) return answer(help(views));
  const view = views.find((candidate) => candidate.name === name.toUpperCase());
  if (view === undefined) {
    return failure("0A000", "this is the operators' console of O7s: it only runs SHOW commands");
  }
  const orgId = org === undefined ? null : parseOrgId(org);
  if (org !== undefined && orgId === null) return failure("22023", "this is no org's id");
  const { shown, count } = firstRows(view.rows(orgId));
  const table = tableMessages(view.columns, shown);
  if (count === shown.length) return answer(table);
  return answer(
    noticeReport(
      `the first ${shown.length} of ${count} rows are shown`,
      `SHOW ${view.name} org_… shows those of one org.`,
    ),
    table,
  );
}

function help(views: readonly View[]): Uint8Array {
  const rows = [
    ...views.map(({ name, meaning }) => [`SHOW ${name} [org]`, meaning]),
    ["SHOW HELP", "This list. With an org's id a command shows what is of that org."],
  ];
  const columns = [
    { name: "command", type: "text" },
    { name: "shows", type: "text" },
  ] as const;
  return tableMessages(columns, rows);
}

function firstRows(rows: Iterable<Row>): { shown: readonly Row[]; count: number } {
  const shown: Row[] = [];
  let count = 0;
  for (const row of rows) {
    count += 1;
    if (count <= ROWS_MAX) shown.push(row);
  }
  return { shown, count };
}

function answer(...messages: readonly Uint8Array[]): Answer {
  return { messages, failed: false };
}

function failure(sqlState: string, text: string): Answer {
  return { messages: [errorReport(sqlState, text, COMMANDS_HINT)], failed: true };
}
