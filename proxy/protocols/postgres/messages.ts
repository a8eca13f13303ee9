/**
 * Messages of the PostgreSQL wire protocol, version 3: type bytes, and builders for those that O7s
 * writes itself. Source: PostgreSQL documentation, "Message Formats".
 */

const code = (letter: string): number => letter.charCodeAt(0);

/** From a client. */
export const CLIENT = {
  bind: code("B"),
  close: code("C"),
  copyData: code("d"),
  copyDone: code("c"),
  copyFail: code("f"),
  describe: code("D"),
  execute: code("E"),
  flush: code("H"),
  functionCall: code("F"),
  parse: code("P"),
  password: code("p"),
  query: code("Q"),
  sync: code("S"),
  terminate: code("X"),
} as const;

/** From a server. */
export const SERVER = {
  authentication: code("R"),
  backendKeyData: code("K"),
  bindComplete: code("2"),
  closeComplete: code("3"),
  commandComplete: code("C"),
  copyBothResponse: code("W"),
  copyInResponse: code("G"),
  copyOutResponse: code("H"),
  dataRow: code("D"),
  emptyQueryResponse: code("I"),
  errorResponse: code("E"),
  functionCallResponse: code("V"),
  noData: code("n"),
  noticeResponse: code("N"),
  notificationResponse: code("A"),
  parameterDescription: code("t"),
  parameterStatus: code("S"),
  parseComplete: code("1"),
  portalSuspended: code("s"),
  readyForQuery: code("Z"),
  rowDescription: code("T"),
} as const;

/** Transaction status in ReadyForQuery. */
export const STATUS = { idle: code("I"), inTransaction: code("T"), failed: code("E") } as const;

/** Codes of the untyped first packet. */
export const STARTUP = {
  cancelRequest: 80_877_102,
  sslRequest: 80_877_103,
  gssEncRequest: 80_877_104,
} as const;

export const AUTHENTICATION = {
  ok: 0,
  cleartextPassword: 3,
  md5Password: 5,
  sasl: 10,
  saslContinue: 11,
  saslFinal: 12,
} as const;

/**
 * Parts of a message's body: text is written as a C string, bytes as they are, numbers as int32.
 */
type Part = string | Uint8Array | number;

/** A typed message; `type` is its letter. */
export function message(type: string, ...parts: readonly Part[]): Uint8Array {
  const body = bodyOf(parts);
  const out = Buffer.allocUnsafe(5 + body.length);
  out[0] = code(type);
  out.writeUInt32BE(4 + body.length, 1);
  out.set(body, 5);
  return out;
}

/** The untyped first packet of a connection. */
export function startupPacket(...parts: readonly Part[]): Uint8Array {
  const body = bodyOf(parts);
  const out = Buffer.allocUnsafe(4 + body.length);
  out.writeUInt32BE(4 + body.length, 0);
  out.set(body, 4);
  return out;
}

function bodyOf(parts: readonly Part[]): Uint8Array {
  return Buffer.concat(
    parts.map((part) => {
      if (typeof part === "string") return Buffer.from(`${part}\0`);
      if (typeof part !== "number") return part;
      const int32 = Buffer.allocUnsafe(4);
      int32.writeUInt32BE(part >>> 0, 0);
      return int32;
    }),
  );
}

export const authenticationOk = message("R", AUTHENTICATION.ok);
export const readyIdle = message("Z", Uint8Array.of(STATUS.idle));
export const syncMessage = message("S");
export const terminateMessage = message("X");

export function readyForQuery(status: number): Uint8Array {
  return message("Z", Uint8Array.of(status));
}

export function parameterStatus(name: string, value: string): Uint8Array {
  return message("S", name, value);
}

export function backendKeyData(pid: number, key: Uint8Array): Uint8Array {
  return message("K", pid, key);
}

/**
 * Offers the newest minor version that is spoken here, and names the options that are not known.
 */
export function negotiateProtocolVersion(
  minor: number,
  unknownOptions: readonly string[],
): Uint8Array {
  return message("v", (3 << 16) | minor, unknownOptions.length, ...unknownOptions);
}

export function authenticationSasl(mechanisms: readonly string[]): Uint8Array {
  return message("R", AUTHENTICATION.sasl, ...mechanisms, Uint8Array.of(0));
}

export function authenticationSaslContinue(text: string): Uint8Array {
  return message("R", AUTHENTICATION.saslContinue, Buffer.from(text));
}

export function authenticationSaslFinal(text: string): Uint8Array {
  return message("R", AUTHENTICATION.saslFinal, Buffer.from(text));
}

export function parameterStatuses(parameters: ReadonlyMap<string, string>): Uint8Array {
  return Buffer.concat([...parameters].map(([name, value]) => parameterStatus(name, value)));
}

/** The text fields of an error or notice by their letter, read from the body of the message. */
export function errorFields(body: Uint8Array): ReadonlyMap<string, string> {
  const fields = new Map<string, string>();
  for (let at = 0; at < body.length && body[at] !== 0; ) {
    const end = body.indexOf(0, at + 1);
    if (end < 0) break;
    const letter = String.fromCharCode(body[at] ?? 0);
    fields.set(letter, new TextDecoder().decode(body.subarray(at + 1, end)));
    at = end + 1;
  }
  return fields;
}

/** An ErrorResponse with these fields, in their order. */
export function errorMessage(fields: ReadonlyMap<string, string>): Uint8Array {
  const texts = [...fields].map(([letter, text]) => letter + text);
  return message("E", ...texts, Uint8Array.of(0));
}
