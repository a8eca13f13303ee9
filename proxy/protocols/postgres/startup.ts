/**
 * The first packet of a connection: SSLRequest, GSSENCRequest, CancelRequest or StartupMessage.
 * Source: PostgreSQL documentation, "Message Formats"; the bounds are those of the server
 * (`ProcessStartupPacket`).
 */
import { byteAt, copyOf, uint32At, zeroIn } from "../../bytes.ts";
import { STARTUP } from "./messages.ts";

export const STARTUP_BYTES_MIN = 8;
export const STARTUP_BYTES_MAX = 10_000;
const CANCEL_KEY_BYTES_MAX = 256;
/**
 * The record type with which every TLS connection begins (RFC 8446 section 5.1); no length starts
 * with it.
 */
const TLS_HANDSHAKE = 0x16;

export type StartupPacket =
  | { readonly type: "ssl" }
  | { readonly type: "gss" }
  /** A TLS ClientHello in place of a packet; it stays unread. */
  | { readonly type: "tls" }
  | { readonly type: "cancel"; readonly pid: number; readonly key: Uint8Array }
  | {
      readonly type: "startup";
      /** Minor version asked for; the major one is 3. */
      readonly minor: number;
      readonly parameters: ReadonlyMap<string, string>;
      /** Names of `_pq_.` protocol options, none of which is known here. */
      readonly options: readonly string[];
    };

export type StartupParse =
  | { readonly result: "incomplete" }
  | { readonly result: "invalid"; readonly reason: string }
  | { readonly result: "packet"; readonly packet: StartupPacket; readonly bytes: number };

const invalid = (reason: string): StartupParse => ({ result: "invalid", reason });

/**
 * Reads one packet from `bytes[start, end)`; the length is checked before anything is waited for.
 */
export function parseStartup(bytes: Uint8Array, start: number, end: number): StartupParse {
  if (end > start && byteAt(bytes, start) === TLS_HANDSHAKE) {
    return { result: "packet", packet: { type: "tls" }, bytes: 0 };
  }
  if (end - start < 4) return { result: "incomplete" };
  const length = uint32At(bytes, start);
  if (length < STARTUP_BYTES_MIN || length > STARTUP_BYTES_MAX) {
    return invalid("invalid length of startup packet");
  }
  if (end - start < length) return { result: "incomplete" };
  const code = uint32At(bytes, start + 4);
  const stop = start + length;
  const packet = (found: StartupPacket): StartupParse => ({
    result: "packet",
    packet: found,
    bytes: length,
  });
  if (code === STARTUP.sslRequest || code === STARTUP.gssEncRequest) {
    if (length !== 8) return invalid("invalid length of startup packet");
    return packet({ type: code === STARTUP.sslRequest ? "ssl" : "gss" });
  }
  if (code === STARTUP.cancelRequest) {
    const keyBytes = length - 12;
    if (keyBytes < 4 || keyBytes > CANCEL_KEY_BYTES_MAX) return invalid("invalid cancel request");
    const key = copyOf(bytes, start + 12, stop);
    return packet({ type: "cancel", pid: uint32At(bytes, start + 8), key });
  }
  if (code >>> 16 !== 3) {
    const version = `${code >>> 16}.${code & 0xffff}`;
    return invalid(`unsupported frontend protocol ${version}: server supports 3.0 to 3.2`);
  }
  const pairs = parsePairs(bytes, start + 8, stop);
  if (pairs === null)
    return invalid("invalid startup packet layout: expected terminator as last byte");
  const options = [...pairs.keys()].filter((name) => name.startsWith("_pq_."));
  for (const name of options) pairs.delete(name);
  return packet({ type: "startup", minor: code & 0xffff, parameters: pairs, options });
}

/** Name and value as C strings, again and again, and an empty name at the very end. */
function parsePairs(bytes: Uint8Array, start: number, end: number): Map<string, string> | null {
  const pairs = new Map<string, string>();
  const text = new TextDecoder();
  let at = start;
  for (;;) {
    const nameEnd = zeroIn(bytes, at, end);
    if (nameEnd < 0) return null;
    if (nameEnd === at) return nameEnd === end - 1 ? pairs : null;
    const valueEnd = zeroIn(bytes, nameEnd + 1, end);
    if (valueEnd < 0) return null;
    pairs.set(
      text.decode(bytes.subarray(at, nameEnd)),
      text.decode(bytes.subarray(nameEnd + 1, valueEnd)),
    );
    at = valueEnd + 1;
  }
}
