import { describe, expect, test } from "bun:test";
import { message } from "../../../../proxy/protocols/postgres/messages.ts";
import {
  closeStatementMessage,
  parseMessage,
  type Statement,
  StatementRegistry,
  UpstreamStatements,
} from "../../../../proxy/protocols/postgres/prepared-statements.ts";

const NO_TYPES = Uint8Array.of(0, 0);
const INT4 = Uint8Array.of(0, 1, 0, 0, 0, 23);

/** Interns the definition in a client's Parse message, where it begins behind the name. */
function intern(registry: StatementRegistry, name: string, text: string, types = NO_TYPES) {
  const parse = message("P", name, text, types);
  return registry.intern(parse, 5 + name.length + 1, parse.length);
}

describe("statements of a pool", () => {
  test("are one where they say the same, whatever clients call them", () => {
    const registry = new StatementRegistry();
    const first = intern(registry, "mine", "SELECT $1");
    expect(intern(registry, "yours", "SELECT $1")).toBe(first);
    expect(intern(registry, "mine", "SELECT $2").serverName).not.toBe(first.serverName);
  });

  test("are told apart by their parameter types", () => {
    const registry = new StatementRegistry();
    const untyped = intern(registry, "a", "SELECT $1");
    expect(intern(registry, "a", "SELECT $1", INT4).serverName).not.toBe(untyped.serverName);
  });

  test("are told apart where they only differ beyond ASCII", () => {
    const registry = new StatementRegistry();
    const umlaut = intern(registry, "a", "SELECT 'ü'");
    expect(intern(registry, "a", "SELECT 'ö'").serverName).not.toBe(umlaut.serverName);
  });

  test("are made anew word for word under the server's name", () => {
    const { serverName, definition } = intern(new StatementRegistry(), "mine", "SELECT 'ü'", INT4);
    expect(parseMessage(serverName, definition)).toEqual(
      message("P", serverName, "SELECT 'ü'", INT4),
    );
    expect(Buffer.from(closeStatementMessage("x")).toString("latin1")).toBe("C\0\0\0\x07Sx\0");
  });

  test("outlive the bytes that they were read from", () => {
    const registry = new StatementRegistry();
    const parse = message("P", "", "SELECT 1", NO_TYPES);
    const { definition } = registry.intern(parse, 6, parse.length);
    parse.fill(0);
    expect(parseMessage("", definition)).toEqual(message("P", "", "SELECT 1", NO_TYPES));
  });
});

describe("the statements on a connection", () => {
  const registry = new StatementRegistry();
  const statement = (n: number): Statement => intern(registry, "", `SELECT ${n}`);

  test("stay within their bound: the one used longest ago goes first", () => {
    const present = new UpstreamStatements(2);
    present.use(statement(1), 1);
    present.use(statement(2), 1);
    present.use(statement(1), 1);
    expect(present.surplus()).toBeNull();
    present.use(statement(3), 1);
    expect(present.surplus()).toBe(statement(2));
    expect(present.has(statement(2))).toBe(false);
    expect(present.has(statement(1))).toBe(true);
    expect(present.surplus()).toBeNull();
  });

  test("are forgotten one by one and all at once", () => {
    const present = new UpstreamStatements(10);
    present.use(statement(1), 1);
    present.use(statement(2), 1);
    present.delete(statement(1));
    expect(present.has(statement(1))).toBe(false);
    present.clear();
    expect(present.has(statement(2))).toBe(false);
  });
});
