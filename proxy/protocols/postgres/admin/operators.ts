/**
 * Operators' way in: a user and a virtual database that no org can have, the operator key as the
 * password, over the same SCRAM exchange and under the same limits for failures as everyone's.
 */
import { randomBytes } from "node:crypto";
import {
  deriveKeys,
  SCRAM_ITERATIONS,
  serverSignature,
  verifyProof,
} from "../../../../platform/scram.ts";
import { authenticationBlocked, authenticationFailed, type Denial } from "../../../denial.ts";
import { FailureWindow, type ScramAttempt } from "../../../layers/authentication.ts";
import type { ClientLink } from "../relay.ts";
import { OperatorConsole } from "./console.ts";
import type { View } from "./views.ts";

/** Not an org's id, which begins with `org_`. */
export const OPERATOR_USER = "o7s_operator";
export const OPERATOR_DATABASE = "o7s";

const CONSOLES_MAX = 16;

export type Operator = { readonly operator: true };

export type Operators = {
  /** A denial says that the attempt is not looked at. */
  begin(address: string): ScramAttempt<Operator> | Denial;
  /** A console for an operator that has logged in; `leave` it when its connection is over. */
  open(client: ClientLink): OperatorConsole | Denial;
  leave(console: OperatorConsole): void;
  /** Ends all consoles with this as their last message. */
  endAll(denial: Denial): void;
};

export function createOperators(options: {
  readonly operatorKey: string;
  readonly views: readonly View[];
  readonly nowMs: () => number;
}): Operators {
  const scram = { salt: new Uint8Array(randomBytes(16)), iterations: SCRAM_ITERATIONS };
  const keys = deriveKeys(options.operatorKey, scram);
  const failures = new FailureWindow(options.nowMs);
  const consoles = new Set<OperatorConsole>();
  return {
    begin(address) {
      const source = { user: OPERATOR_USER, address };
      const blockedMs = failures.blockedForMs(source);
      if (blockedMs > 0) return authenticationBlocked(Math.ceil(blockedMs / 1_000));
      const abandon = (): Denial => {
        failures.failed(source);
        return authenticationFailed(OPERATOR_USER);
      };
      return {
        scram,
        abandon,
        checkProof(authMessage, proof) {
          if (!verifyProof(keys, authMessage, proof)) return abandon();
          failures.succeeded(source);
          return { operator: true, serverSignature: serverSignature(keys, authMessage) };
        },
      };
    },
    open(client) {
      if (consoles.size >= CONSOLES_MAX) return tooManyConsoles();
      const console = new OperatorConsole(client, options.views);
      consoles.add(console);
      return console;
    },
    leave: (console) => consoles.delete(console),
    endAll(denial) {
      for (const console of consoles) console.end(denial);
    },
  };
}

function tooManyConsoles(): Denial {
  return {
    code: "connection_limit",
    message: `too many operators: there are ${CONSOLES_MAX} consoles at one time`,
    hint: "Close one of them.",
    log: "too many operator consoles",
    level: "warn",
  };
}
