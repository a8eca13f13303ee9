/** The operators' commands, on views of a test's own. */
import { describe, expect, test } from "bun:test";
import { ROWS_MAX, runCommands } from "../../../../../proxy/protocols/postgres/admin/commands.ts";
import { tableMessages } from "../../../../../proxy/protocols/postgres/admin/result-messages.ts";
import type { View } from "../../../../../proxy/protocols/postgres/admin/views.ts";

const numbers = (count: number): View => ({
  name: "NUMBERS",
  meaning: "Numbers.",
  columns: [{ name: "n", type: "int8" }],
  *rows() {
    for (let n = 0; n < count; n++) yield [n];
  },
});

const said = (query: string, count: number): string =>
  Buffer.concat([...runCommands(query, [numbers(count)])]).toString("latin1");

describe("a table that is too long", () => {
  test("is cut, and says by how much and what to do", () => {
    const text = said("SHOW NUMBERS", ROWS_MAX + 5);
    expect(text).toStartWith("N");
    expect(text).toContain("the first 1000 of 1005 rows are shown");
    expect(text).toContain("SHOW NUMBERS org_");
    expect(text).toContain(`SHOW ${ROWS_MAX}`);
  });

  test("is whole when it just fits", () => {
    expect(said("SHOW NUMBERS", ROWS_MAX)).toStartWith("T");
  });
});

test("more commands at once than are looked at are refused", () => {
  expect(said("SHOW NUMBERS;".repeat(17), 1)).toContain("more than 16 commands at once");
});

test("a table is written byte by byte as documented", () => {
  const table = tableMessages(
    [
      { name: "a", type: "text" },
      { name: "b", type: "int8" },
    ],
    [["é", null]],
  );
  const hex = Buffer.from(table).toString("hex");
  const description = "540000002e0002" + "6100000000000000" + "00000019" + "ffffffffffff0000";
  const second = "6200000000000000" + "00000014" + "0008ffffffff0000";
  const row = "44000000100002" + "00000002c3a9" + "ffffffff";
  const complete = `430000000b${Buffer.from("SHOW 1\0").toString("hex")}`;
  expect(hex).toBe(description + second + row + complete);
});
