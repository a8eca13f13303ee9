import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { STARTUP, startupPacket } from "../../../../proxy/protocols/postgres/messages.ts";
import {
  parseStartup,
  STARTUP_BYTES_MAX,
  type StartupParse,
} from "../../../../proxy/protocols/postgres/startup.ts";
import { seed } from "../../../support/seed.ts";

const parse = (bytes: Uint8Array): StartupParse => parseStartup(bytes, 0, bytes.length);
const hex = (text: string): Uint8Array => Buffer.from(text.replaceAll(" ", ""), "hex");
const invalidPacket = (reason: string): StartupParse => ({ result: "invalid", reason });
const TERMINATOR = Uint8Array.of(0);

const typed = startupPacket(
  3 << 16,
  "user",
  "org_abc123",
  "database",
  "shop",
  "application_name",
  "psql",
  TERMINATOR,
);

describe("a startup packet", () => {
  test("is read with its version and parameters", () => {
    const parsed = parse(typed);
    if (parsed.result !== "packet" || parsed.packet.type !== "startup") throw new Error("refused");
    expect(parsed.bytes).toBe(typed.length);
    expect(parsed.packet.minor).toBe(0);
    expect([...parsed.packet.parameters]).toEqual([
      ["user", "org_abc123"],
      ["database", "shop"],
      ["application_name", "psql"],
    ]);
    expect(parsed.packet.options).toEqual([]);
  });

  test("keeps values that are empty, and names in UTF-8", () => {
    const parsed = parse(startupPacket(3 << 16, "user", "", "größe", "ünï", TERMINATOR));
    if (parsed.result !== "packet" || parsed.packet.type !== "startup") throw new Error("refused");
    expect(parsed.packet.parameters.get("user")).toBe("");
    expect(parsed.packet.parameters.get("größe")).toBe("ünï");
  });

  test("has its protocol options told apart from its parameters", () => {
    const version32 = (3 << 16) | 2;
    const parsed = parse(
      startupPacket(version32, "user", "u", "_pq_.a", "1", "_pq_.b", "2", TERMINATOR),
    );
    if (parsed.result !== "packet" || parsed.packet.type !== "startup") throw new Error("refused");
    expect(parsed.packet.minor).toBe(2);
    expect(parsed.packet.options).toEqual(["_pq_.a", "_pq_.b"]);
    expect([...parsed.packet.parameters.keys()]).toEqual(["user"]);
  });

  test("is refused where a pair is cut short or something follows the terminator", () => {
    const layout = invalidPacket("invalid startup packet layout: expected terminator as last byte");
    expect(parse(startupPacket(3 << 16, "user", "u"))).toEqual(layout);
    expect(parse(startupPacket(3 << 16, "user", TERMINATOR))).toEqual(layout);
    expect(parse(startupPacket(3 << 16, Buffer.from("user")))).toEqual(layout);
    expect(parse(startupPacket(3 << 16, "user", "u", TERMINATOR, "x"))).toEqual(layout);
  });

  test("of another major version is refused by naming both", () => {
    expect(parse(startupPacket(2 << 16, TERMINATOR))).toEqual(
      invalidPacket("unsupported frontend protocol 2.0: server supports 3.0 to 3.2"),
    );
    expect(parse(startupPacket((4 << 16) | 7, TERMINATOR))).toEqual(
      invalidPacket("unsupported frontend protocol 4.7: server supports 3.0 to 3.2"),
    );
  });
});

describe("the length of a first packet", () => {
  const wrong = invalidPacket("invalid length of startup packet");

  test("is checked before anything else of it has come", () => {
    expect(parse(hex("7fffffff"))).toEqual(wrong);
    expect(parse(hex("ffffffff"))).toEqual(wrong);
    expect(parse(hex("00000000"))).toEqual(wrong);
    expect(parse(hex("00000007"))).toEqual(wrong);
    expect(parse(hex("00002711"))).toEqual(wrong); // 10,001
    expect(parse(Buffer.from("GET / HTTP/1.1\r\n"))).toEqual(wrong);
  });

  test("may be what the server allows, and no more", () => {
    const pairsOverhead = 4 + 4 + "user\0".length + 1 + 1;
    const value = "u".repeat(STARTUP_BYTES_MAX - pairsOverhead);
    const longest = startupPacket(3 << 16, "user", value, TERMINATOR);
    expect(longest.length).toBe(10_000);
    expect(parse(longest).result).toBe("packet");
    expect(parse(startupPacket(3 << 16, "user", `${value}u`, TERMINATOR))).toEqual(wrong);
  });
});

describe("the untyped requests", () => {
  test("for TLS and GSS encryption are eight bytes", () => {
    expect(parse(hex("00000008 04d2162f"))).toEqual({
      result: "packet",
      packet: { type: "ssl" },
      bytes: 8,
    });
    expect(parse(hex("00000008 04d21630"))).toEqual({
      result: "packet",
      packet: { type: "gss" },
      bytes: 8,
    });
    expect(parse(startupPacket(STARTUP.sslRequest, TERMINATOR)).result).toBe("invalid");
    expect(parse(startupPacket(STARTUP.gssEncRequest, TERMINATOR)).result).toBe("invalid");
  });

  test("to cancel carry a key of 4 to 256 bytes", () => {
    const cancel = (keyBytes: number): StartupParse =>
      parse(startupPacket(STARTUP.cancelRequest, 0x8000_0001, new Uint8Array(keyBytes).fill(7)));
    for (const keyBytes of [4, 32, 256]) {
      expect(cancel(keyBytes)).toEqual({
        result: "packet",
        packet: { type: "cancel", pid: 0x8000_0001, key: new Uint8Array(keyBytes).fill(7) },
        bytes: 12 + keyBytes,
      });
    }
    expect(cancel(3)).toEqual(invalidPacket("invalid cancel request"));
    expect(cancel(257)).toEqual(invalidPacket("invalid cancel request"));
    expect(parse(hex("00000008 04d2162e"))).toEqual(invalidPacket("invalid cancel request"));
  });
});

describe("wherever it is cut", () => {
  const packets = [
    typed,
    startupPacket((3 << 16) | 2, "user", "u", "_pq_.a", "", TERMINATOR),
    startupPacket(STARTUP.sslRequest),
    startupPacket(STARTUP.gssEncRequest),
    startupPacket(STARTUP.cancelRequest, 1, new Uint8Array(32)),
  ];

  test("a packet is waited for until its last byte, and then read as if whole", () => {
    for (const packet of packets) {
      for (let end = 0; end < packet.length; end++) {
        expect(parse(packet.subarray(0, end))).toEqual({ result: "incomplete" });
      }
      expect(parse(packet).result).toBe("packet");
    }
  });

  test("what surrounds a packet in its buffer changes nothing", () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...packets),
        fc.uint8Array({ maxLength: 40 }),
        fc.uint8Array({ maxLength: 40 }),
        (packet, before, after) => {
          const bytes = Buffer.concat([before, packet, after]);
          const start = before.length;
          expect(parseStartup(bytes, start, bytes.length)).toEqual(parse(packet));
          expect(parseStartup(bytes, start, start + packet.length - 1)).toEqual({
            result: "incomplete",
          });
        },
      ),
      { seed },
    );
  });

  test("no bytes at all make it throw or read beyond its end", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        // A plausible length and version lead further in than noise would.
        const dressed = startupPacket(3 << 16, bytes);
        for (const candidate of [bytes, dressed]) {
          const parsed = parse(candidate);
          if (parsed.result === "packet")
            expect(parsed.bytes).toBeLessThanOrEqual(candidate.length);
        }
      }),
      { seed, numRuns: 500 },
    );
  });
});
