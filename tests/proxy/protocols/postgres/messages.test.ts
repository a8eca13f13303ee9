import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  AUTHENTICATION,
  authenticationOk,
  authenticationSasl,
  authenticationSaslContinue,
  authenticationSaslFinal,
  backendKeyData,
  errorFields,
  message,
  negotiateProtocolVersion,
  parameterStatus,
  parameterStatuses,
  readyForQuery,
  readyIdle,
  STARTUP,
  STATUS,
  startupPacket,
  syncMessage,
  terminateMessage,
} from "../../../../proxy/protocols/postgres/messages.ts";
import { seed } from "../../../support/seed.ts";

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
const text = (value: string): string => Buffer.from(value).toString("hex");

/** Byte for byte as in PostgreSQL's documentation, "Message Formats". */
describe("messages are written byte for byte as documented", () => {
  test("those without a body", () => {
    expect(hex(syncMessage)).toBe("5300000004");
    expect(hex(terminateMessage)).toBe("5800000004");
  });

  test("ReadyForQuery", () => {
    expect(hex(readyIdle)).toBe("5a0000000549");
    expect(hex(readyForQuery(STATUS.inTransaction))).toBe("5a0000000554");
    expect(hex(readyForQuery(STATUS.failed))).toBe("5a0000000545");
  });

  test("the authentication requests", () => {
    expect(hex(authenticationOk)).toBe("520000000800000000");
    expect(hex(authenticationSasl(["SCRAM-SHA-256"]))).toBe(
      `52000000170000000a${text("SCRAM-SHA-256\0\0")}`,
    );
    expect(hex(authenticationSaslContinue("r=x"))).toBe(`520000000b0000000b${text("r=x")}`);
    expect(hex(authenticationSaslFinal("v=x"))).toBe(`520000000b0000000c${text("v=x")}`);
    expect(AUTHENTICATION.cleartextPassword).toBe(3);
  });

  test("BackendKeyData, with the short and the long key", () => {
    expect(hex(backendKeyData(0x8000_0001, Uint8Array.of(1, 2, 3, 4)))).toBe(
      "4b0000000c8000000101020304",
    );
    expect(hex(backendKeyData(1, new Uint8Array(32)))).toBe(`4b0000002800000001${"00".repeat(32)}`);
  });

  test("ParameterStatus, one and several", () => {
    expect(hex(parameterStatus("TimeZone", "UTC"))).toBe(`5300000011${text("TimeZone\0UTC\0")}`);
    expect(
      hex(
        parameterStatuses(
          new Map([
            ["a", ""],
            ["b", "ü"],
          ]),
        ),
      ),
    ).toBe(`5300000007${text("a\0\0")}5300000009${text("b\0ü\0")}`);
    expect(hex(parameterStatuses(new Map()))).toBe("");
  });

  test("NegotiateProtocolVersion, in the form of PostgreSQL 18", () => {
    expect(hex(negotiateProtocolVersion(2, []))).toBe("760000000c0003000200000000");
    expect(hex(negotiateProtocolVersion(0, ["_pq_.a", "_pq_.b"]))).toBe(
      `760000001a0003000000000002${text("_pq_.a\0_pq_.b\0")}`,
    );
  });

  test("the untyped packets", () => {
    expect(hex(startupPacket(STARTUP.sslRequest))).toBe("0000000804d2162f");
    expect(hex(startupPacket(STARTUP.cancelRequest, 1, 0xffff_ffff))).toBe(
      "0000001004d2162e00000001ffffffff",
    );
  });
});

test("the length of a message counts bytes, not characters", () => {
  expect(hex(message("Q", "größe"))).toBe(`510000000c${text("größe\0")}`);
});

describe("the fields of an error", () => {
  test("are found by their letters", () => {
    const body = Buffer.from("SFATAL\0VFATAL\0C28P01\0Mno such größe\0\0");
    expect([...errorFields(body)]).toEqual([
      ["S", "FATAL"],
      ["V", "FATAL"],
      ["C", "28P01"],
      ["M", "no such größe"],
    ]);
  });

  test("that is cut short or empty are those that are whole", () => {
    expect([...errorFields(Buffer.from("SERROR\0C42"))]).toEqual([["S", "ERROR"]]);
    expect(errorFields(new Uint8Array(0)).size).toBe(0);
  });

  test("never make it throw", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (body) => {
        errorFields(body);
      }),
      { seed },
    );
  });
});
