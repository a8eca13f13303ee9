/**
 * What a server answers to a simple query: a table, a notice, an error. All values are in text
 * format.
 */
import { message } from "../messages.ts";

export type Column = { readonly name: string; readonly type: "text" | "int8" };

export type Value = string | number | null;

export type Row = readonly Value[];

/** Object ids and lengths of `pg_type`. */
const TYPES = { text: { oid: 25, bytes: -1 }, int8: { oid: 20, bytes: 8 } } as const;
const NO_TYPE_MODIFIER = -1;
const NULL_LENGTH = -1;

const int16 = (value: number): Uint8Array => Uint8Array.of((value >> 8) & 0xff, value & 0xff);

/** RowDescription, the rows, and CommandComplete. */
export function tableMessages(columns: readonly Column[], rows: readonly Row[]): Uint8Array {
  return Buffer.concat([
    rowDescription(columns),
    ...rows.map(dataRow),
    message("C", `SHOW ${rows.length}`),
  ]);
}

function rowDescription(columns: readonly Column[]): Uint8Array {
  const fields = columns.flatMap(({ name, type }) => {
    const { oid, bytes } = TYPES[type];
    // The table and the column that it comes from: none. The last field says that its values are
    // text.
    return [name, 0, int16(0), oid, int16(bytes), NO_TYPE_MODIFIER, int16(0)];
  });
  return message("T", int16(columns.length), ...fields);
}

function dataRow(row: Row): Uint8Array {
  const values = row.flatMap((value) => {
    if (value === null) return [NULL_LENGTH];
    const text = Buffer.from(String(value));
    return [text.length, text];
  });
  return message("D", int16(row.length), ...values);
}

/** `hint` says what to do next. */
export function errorReport(sqlState: string, text: string, hint: string): Uint8Array {
  return report("E", "ERROR", sqlState, text, hint);
}

export function noticeReport(text: string, hint: string): Uint8Array {
  return report("N", "NOTICE", "00000", text, hint);
}

function report(
  type: "E" | "N",
  severity: string,
  sqlState: string,
  text: string,
  hint: string,
): Uint8Array {
  const fields = [`S${severity}`, `V${severity}`, `C${sqlState}`, `M${text}`, `H${hint}`];
  return message(type, ...fields, Uint8Array.of(0));
}
