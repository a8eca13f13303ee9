/**
 * The server's side of a client's SCRAM exchange, over its connection (PostgreSQL documentation,
 * "SASL Authentication").
 */
import { timingSafeEqual } from "node:crypto";
import { uint32At, zeroIn } from "../../bytes.ts";
import { type Denial, protocolViolation } from "../../denial.ts";
import type { ScramAttempt } from "../../layers/authentication.ts";
import { isDenial } from "../../pipeline.ts";
import type { ClientConnection, TlsContext } from "./client-connection.ts";
import {
  authenticationSasl,
  authenticationSaslContinue,
  authenticationSaslFinal,
} from "./messages.ts";
import { newNonce, parseClientFinal, parseClientFirst, serverFirst } from "./scram-exchange.ts";

/**
 * Runs the exchange up to the client's proof; the connection's end counts as an attempt that
 * failed.
 */
export async function proveByScram<Identity extends object>(
  connection: ClientConnection,
  tls: TlsContext,
  attempt: ScramAttempt<Identity>,
): Promise<Identity | Denial> {
  const mechanisms = connection.encrypted
    ? ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"]
    : ["SCRAM-SHA-256"];
  connection.write(authenticationSasl(mechanisms));
  const initial = await connection.nextPassword();
  if (initial === null) return attempt.abandon();
  const response = parseInitialResponse(initial);
  if (response === null || !mechanisms.includes(response.mechanism)) {
    return protocolViolation("malformed SCRAM message");
  }
  const first = parseClientFirst(response.text);
  const bound = response.mechanism === "SCRAM-SHA-256-PLUS";
  if (first === null || bound !== (first.channelBinding === "tls-server-end-point")) {
    return protocolViolation("malformed SCRAM message");
  }
  // "I would have bound the channel, but you do not offer it": somebody in between has struck it
  // from our offer.
  if (first.channelBinding === "not-offered" && connection.encrypted) {
    return protocolViolation("SCRAM channel binding negotiation error");
  }
  const nonce = first.nonce + newNonce();
  const challenge = serverFirst(nonce, attempt.scram);
  connection.write(authenticationSaslContinue(challenge));
  const finalBytes = await connection.nextPassword();
  if (finalBytes === null) return attempt.abandon();
  const final = parseClientFinal(Buffer.from(finalBytes).toString());
  if (final === null || final.nonce !== nonce) return protocolViolation("malformed SCRAM message");
  const header = Buffer.from(first.gs2Header);
  const expected = bound ? Buffer.concat([header, tls.certificateHash]) : header;
  const binding = Buffer.from(final.channelBinding);
  if (binding.length !== expected.length || !timingSafeEqual(binding, expected)) {
    return protocolViolation("SCRAM channel binding check failed");
  }
  const authMessage = `${first.bare},${challenge},${final.withoutProof}`;
  const outcome = attempt.checkProof(authMessage, final.proof);
  if (!isDenial(outcome)) connection.write(authenticationSaslFinal(`v=${outcome.serverSignature}`));
  return outcome;
}

/** SASLInitialResponse: the mechanism's name, and the client's first message with its length. */
function parseInitialResponse(body: Uint8Array): { mechanism: string; text: string } | null {
  const nameEnd = zeroIn(body, 0, body.length);
  if (nameEnd < 0 || body.length < nameEnd + 5) return null;
  const length = uint32At(body, nameEnd + 1);
  if (length !== body.length - nameEnd - 5) return null;
  const text = new TextDecoder();
  return {
    mechanism: text.decode(body.subarray(0, nameEnd)),
    text: text.decode(body.subarray(nameEnd + 5)),
  };
}
