import { expect, test } from "bun:test";
import { ConfigurationError, EnvironmentReader } from "../../platform/environment.ts";

test("all faults are reported at once, and no secret among them", () => {
  const read = new EnvironmentReader("A service", { PORT: "99999", ON: "maybe", KEY: "hunter2" });
  read.required("URL", "an address");
  read.port("PORT", 1);
  read.flag("ON", false);
  read.parsed("KEY", "a key", "64 digits", () => null);
  let faults: readonly string[] = [];
  try {
    read.finish();
  } catch (error) {
    if (!(error instanceof ConfigurationError)) throw error;
    faults = error.faults;
    expect(error.message).toContain("A service cannot start");
  }
  expect(faults.map((fault) => fault.split(" ")[0])).toEqual(["URL", "PORT", "ON", "KEY"]);
  expect(faults.join()).not.toContain("hunter2");
});

test("unset and blank variables give the fallback", () => {
  const read = new EnvironmentReader("A service", { A: "", B: "  " });
  expect(read.integer("A", 7, { min: 0, max: 9 })).toBe(7);
  expect(read.port("B", 5_440)).toBe(5_440);
  expect(read.flag("C", true)).toBe(true);
  expect(read.optional("A")).toBeNull();
  read.finish();
});

test.each(["1.5", "1e3", "0x10", " ", "abc", "-1", "10"])("%j is no number from 0 to 9", (text) => {
  const read = new EnvironmentReader("A service", { N: `${text}x`.slice(0, -1) });
  read.integer("N", 0, { min: 0, max: 9 });
  if (text.trim() === "") expect(() => read.finish()).not.toThrow();
  else expect(() => read.finish()).toThrow("from 0 to 9");
});
