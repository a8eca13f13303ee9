/** Who is calling: operators, by the operator key. */
import { createHash, timingSafeEqual } from "node:crypto";
import { Elysia } from "elysia";
import type { Actor } from "../../platform/control/audit.ts";
import { ApiError } from "./problems.ts";

/** The operator key as the API keeps it: its SHA-256. */
export type OperatorKey = Uint8Array & { readonly __brand: "OperatorKey" };

const KEY_CHARS_MIN = 24;

/** Null for a key too short to withstand guessing. */
export function parseOperatorKey(text: string): OperatorKey | null {
  return text.length < KEY_CHARS_MIN ? null : (sha256(text) as OperatorKey);
}

function sha256(text: string): Uint8Array {
  return createHash("sha256").update(text).digest();
}

/** Digests are compared, so that the time taken says nothing of the key, not even its length. */
function isOperator(authorization: string | null, key: OperatorKey): boolean {
  const presented = /^Bearer +(\S{1,200}) *$/i.exec(authorization ?? "")?.[1] ?? "";
  return timingSafeEqual(sha256(presented), key);
}

/**
 * Gives the routes that use it an `actor`, and refuses everybody else before anything of the
 * request is looked at.
 */
export function session(key: OperatorKey) {
  const authenticate = (request: Request): void => {
    if (isOperator(request.headers.get("authorization"), key)) return;
    throw new ApiError("unauthorized", "Send the operator key as Authorization: Bearer …");
  };
  return new Elysia({ name: "session" })
    .onParse({ as: "scoped" }, ({ request }) => authenticate(request))
    .derive({ as: "scoped" }, ({ request, set }): { actor: Actor } => {
      authenticate(request);
      return { actor: { name: "operator", requestId: String(set.headers["x-request-id"] ?? "") } };
    });
}
