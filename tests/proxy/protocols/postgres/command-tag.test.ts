import { expect, test } from "bun:test";
import fc from "fast-check";
import { tagName, tagRows } from "../../../../proxy/protocols/postgres/command-tag.ts";
import { seed } from "../../../support/seed.ts";

/** The tag as it lies in a buffer: something before it, its zero byte behind it. */
function inBuffer<T>(tag: string, read: (bytes: Uint8Array, start: number, end: number) => T): T {
  const bytes = Buffer.from(`C9 7${tag}\0Z 99`);
  return read(bytes, 4, 4 + Buffer.byteLength(tag));
}

const rows = (tag: string): number => inBuffer(tag, tagRows);
const name = (tag: string): string => inBuffer(tag, tagName);

/**
 * PostgreSQL documentation, "Message Formats", CommandComplete; and src/include/tcop/cmdtaglist.h.
 */
const TAGS: readonly (readonly [tag: string, rows: number, name: string])[] = [
  ["SELECT 0", 0, "SELECT"],
  ["SELECT 5", 5, "SELECT"],
  ["SELECT 18446744073709", 18_446_744_073_709, "SELECT"],
  ["INSERT 0 1", 1, "INSERT"],
  ["INSERT 0 1000", 1_000, "INSERT"],
  ["UPDATE 12", 12, "UPDATE"],
  ["DELETE 3", 3, "DELETE"],
  ["MERGE 7", 7, "MERGE"],
  ["MOVE 4", 4, "MOVE"],
  ["FETCH 100", 100, "FETCH"],
  ["COPY 42", 42, "COPY"],
  ["COPY", 0, "COPY"],
  ["BEGIN", 0, "BEGIN"],
  ["CREATE TABLE", 0, "CREATE TABLE"],
  ["CREATE TABLE AS", 0, "CREATE TABLE AS"],
  ["SET", 0, "SET"],
  ["DISCARD ALL", 0, "DISCARD ALL"],
  ["DEALLOCATE ALL", 0, "DEALLOCATE ALL"],
  ["", 0, ""],
];

test.each(TAGS)("the tag %p has %p rows and the name %p", (tag, count, command) => {
  expect(rows(tag)).toBe(count);
  expect(name(tag)).toBe(command);
});

test("any number of rows up to 2^53 is read exactly", () => {
  fc.assert(
    fc.property(fc.maxSafeNat(), (count) => {
      expect(rows(`SELECT ${count}`)).toBe(count);
      expect(rows(`INSERT 0 ${count}`)).toBe(count);
    }),
    { seed },
  );
});
