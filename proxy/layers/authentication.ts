/**
 * Layer 1, authentication: who is this? The user names an org, the password is one of its tokens.
 *
 * An unknown org gets a verifier that nothing fits, so that its exchange looks and lasts like one
 * with a wrong token. Failures are limited per org and address, and more widely per org; addresses
 * from which the org has logged in before are spared the wide limit, or one bad client could lock
 * everyone out.
 */
import { createHmac, timingSafeEqual } from "node:crypto";
import { type OrgId, parseOrgId, type TokenId } from "../../platform/ids.ts";
import {
  SCRAM_ITERATIONS,
  type ScramKeys,
  type ScramParameters,
  serverSignature,
  verifyProof,
} from "../../platform/scram.ts";
import type { Tenant } from "../../platform/tenants.ts";
import { tokenSha256 } from "../../platform/tokens.ts";
import { BoundedMap } from "../bounded-map.ts";
import {
  authenticationBlocked,
  authenticationFailed,
  type Denial,
  directoryUnavailable,
} from "../denial.ts";
import { partyOf } from "../subnet-limit.ts";

/** Who a session belongs to, and by which token. */
export type Principal = { readonly tenant: Tenant; readonly tokenId: TokenId };

/**
 * What a SCRAM exchange needs of whoever knows the verifiers; a proof that fits tells an identity.
 */
export type ScramAttempt<Identity> = {
  /** Salt and iterations to offer; of an unknown org they are made up, the same each time. */
  readonly scram: ScramParameters;
  /** Checks a SCRAM client proof (RFC 5802) against each token of the org. */
  checkProof(
    authMessage: string,
    proof: Uint8Array,
  ): (Identity & { readonly serverSignature: string }) | Denial;
  /** Notes an attempt that failed before there was anything to check. */
  abandon(): Denial;
};

export type LoginAttempt = ScramAttempt<Principal> & {
  /** Checks a token that came in clear, which only happens inside TLS or on loopback. */
  checkSecret(secret: string): Principal | Denial;
};

export type Authentication = {
  /** `address` is the client's, without port. A denial says that the attempt is not looked at. */
  begin(user: string, address: string): Promise<LoginAttempt | Denial>;
};

export type AuthenticationOptions = {
  /** The tenant of that id from the cache or the control plane; rejects when neither can tell. */
  readonly findTenant: (orgId: OrgId) => Promise<Tenant | null>;
  /** Keys the made-up salts, so that they are stable and cannot be predicted. */
  readonly mockKey: Uint8Array;
  readonly nowMs: () => number;
};

/**
 * At least so many verifiers are tried for each proof, so that the time does not tell how many
 * there are.
 */
const CHECKS_MIN = 2;
/** No more tokens than this are tried; an org cannot have more valid ones. */
export const TOKENS_MAX = 20;

const FAILURE_WINDOW_MS = 150_000;
const FAILURES_PER_ADDRESS_MAX = 10;
const FAILURES_PER_ORG_MAX = 200;
const TRACKED_MAX = 50_000;

export function createAuthentication(options: AuthenticationOptions): Authentication {
  const failures = new FailureWindow(options.nowMs);
  return {
    async begin(user, address) {
      const orgId = parseOrgId(user);
      // What cannot be an org's id is counted under one name, so that made-up names take no memory.
      const failing = { user: orgId ?? "", address: partyOf(address) };
      const blockedMs = failures.blockedForMs(failing);
      if (blockedMs > 0) return authenticationBlocked(Math.ceil(blockedMs / 1_000));
      let tenant: Tenant | null = null;
      try {
        if (orgId !== null) tenant = await options.findTenant(orgId);
      } catch (error) {
        return directoryUnavailable(`tenant directory failed: ${String(error)}`);
      }
      return attempt(user, failing, tenant, mockCredentials(options.mockKey, user), failures);
    },
  };
}

function attempt(
  user: string,
  source: Source,
  tenant: Tenant | null,
  mock: ScramParameters & ScramKeys,
  failures: FailureWindow,
): LoginAttempt {
  const abandon = (): Denial => {
    failures.failed(source);
    return authenticationFailed(user);
  };
  const succeed = (known: Tenant, tokenId: TokenId): Principal => {
    failures.succeeded(source);
    return { tenant: known, tokenId };
  };
  return {
    scram: tenant?.scram ?? mock,
    abandon,
    checkProof(authMessage, proof) {
      const tokens = tenant?.tokens.slice(0, TOKENS_MAX) ?? [];
      const match = tokens.filter((token) => verifyProof(token, authMessage, proof))[0];
      for (let tried = tokens.length; tried < CHECKS_MIN; tried++) {
        verifyProof(mock, authMessage, proof);
      }
      if (tenant === null || match === undefined) return abandon();
      return {
        ...succeed(tenant, match.tokenId),
        serverSignature: serverSignature(match, authMessage),
      };
    },
    checkSecret(secret) {
      const digest = tokenSha256(secret);
      const tokens = tenant?.tokens.slice(0, TOKENS_MAX) ?? [];
      const match = tokens.filter((token) => timingSafeEqual(token.sha256, digest))[0];
      return tenant === null || match === undefined ? abandon() : succeed(tenant, match.tokenId);
    },
  };
}

function mockCredentials(key: Uint8Array, user: string): ScramParameters & ScramKeys {
  const derive = (what: string): Buffer =>
    createHmac("sha256", key).update(`${what}\0${user}`).digest();
  return {
    salt: derive("salt").subarray(0, 16),
    iterations: SCRAM_ITERATIONS,
    storedKey: derive("stored key"),
    serverKey: derive("server key"),
  };
}

/** Whose failures are counted together; `user` is empty where it is no org's id. */
type Source = { readonly user: string; readonly address: string };

type Failures = { count: number; sinceMs: number };

/** Counts failures in fixed windows, in bounded memory: the oldest entries make room. */
export class FailureWindow {
  readonly #nowMs: () => number;
  readonly #byAddress = new BoundedMap<string, Failures>(TRACKED_MAX);
  readonly #byOrg = new BoundedMap<string, Failures>(TRACKED_MAX);
  readonly #trusted = new BoundedMap<string, true>(TRACKED_MAX);

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
  }

  blockedForMs({ user, address }: Source): number {
    const key = `${user}\0${address}`;
    const byAddress = this.#remainingMs(this.#byAddress.get(key), FAILURES_PER_ADDRESS_MAX);
    if (byAddress > 0 || user === "" || this.#trusted.get(key) === true) return byAddress;
    return this.#remainingMs(this.#byOrg.get(user), FAILURES_PER_ORG_MAX);
  }

  failed({ user, address }: Source): void {
    this.#count(this.#byAddress, `${user}\0${address}`);
    this.#count(this.#byOrg, user);
  }

  succeeded({ user, address }: Source): void {
    const key = `${user}\0${address}`;
    this.#byAddress.delete(key);
    this.#trusted.set(key, true);
  }

  #remainingMs(failures: Failures | undefined, max: number): number {
    if (failures === undefined || failures.count < max) return 0;
    return failures.sinceMs + FAILURE_WINDOW_MS - this.#nowMs();
  }

  #count(map: BoundedMap<string, Failures>, key: string): void {
    const now = this.#nowMs();
    const failures = map.get(key);
    if (failures === undefined || failures.sinceMs + FAILURE_WINDOW_MS <= now) {
      map.set(key, { count: 1, sinceMs: now });
    } else {
      failures.count += 1;
    }
  }
}
