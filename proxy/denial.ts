/**
 * Denials: refusals by a layer. One shape for every protocol; each protocol folder encodes it in
 * its own error form. The message tells the client what happened and which limit it met, the hint
 * what to do next; neither tells anything about other tenants or about the inside of the platform.
 * The log text is for operators.
 */
import { type Database, databaseAddress } from "../platform/databases.ts";
import type { LogLevel } from "../platform/log.ts";
import type { Tenant } from "../platform/tenants.ts";

export type DenialCode =
  | "tls_required"
  | "authentication_failed"
  | "authentication_blocked"
  | "unauthenticated_limit"
  | "org_suspended"
  | "token_revoked"
  | "usage_exhausted"
  | "connection_limit"
  | "rate_limited"
  | "unknown_database"
  | "network_not_allowed"
  | "database_not_ready"
  | "database_dropped"
  | "pool_exhausted"
  | "upstream_unavailable"
  | "upstream_refused"
  | "upstream_lost"
  | "session_state_expired"
  | "transaction_idle"
  | "statement_timeout"
  | "setting_above_tier"
  | "query_too_expensive"
  | "replication_refused"
  | "protocol_violation"
  | "directory_unavailable"
  | "shutting_down";

export type Denial = {
  readonly code: DenialCode;
  readonly message: string;
  readonly hint: string | null;
  readonly log: string;
  readonly level: LogLevel;
  /** Set where a server's own refusal is passed on. */
  readonly sqlState?: string;
};

export function tlsRequired(): Denial {
  return {
    code: "tls_required",
    message: "this server only takes encrypted connections",
    hint: "Add sslmode=require to the connection string.",
    log: "cleartext connection refused",
    level: "info",
  };
}

/** The same words for an unknown org and for a wrong token. */
export function authenticationFailed(user: string): Denial {
  return {
    code: "authentication_failed",
    message: `password authentication failed for user "${user}"`,
    hint: "The user is the org's id (org_…) and the password one of its tokens, which have not been revoked.",
    log: "authentication failed",
    level: "info",
  };
}

export function authenticationBlocked(retryAfterSeconds: number): Denial {
  return {
    code: "authentication_blocked",
    message: `too many failed logins; the next is looked at in ${retryAfterSeconds} seconds`,
    hint: "Correct the password where it is configured, then try again after that time.",
    log: "login attempt while blocked for repeated failures",
    level: "warn",
  };
}

export function unauthenticatedLimit(): Denial {
  return {
    code: "unauthenticated_limit",
    message: "too many connections that have not logged in",
    hint: "Try again in a few seconds.",
    log: "connection cut: cap on unauthenticated sockets",
    level: "warn",
  };
}

export function orgSuspended(): Denial {
  return {
    code: "org_suspended",
    message: "this org is suspended",
    hint: "Its owner finds the reason in Studio; support can lift the suspension.",
    log: "connection of a suspended org",
    level: "info",
  };
}

export function tokenRevoked(): Denial {
  return {
    code: "token_revoked",
    message: "terminating connection: the token it logged in with has been revoked",
    hint: "Connect again with a valid token.",
    log: "session ended: token revoked",
    level: "info",
  };
}

export function usageExhausted(reason: string): Denial {
  return {
    code: "usage_exhausted",
    message: reason,
    hint: "Upgrade the tier or raise the spend cap in Studio.",
    log: "over a hard allowance",
    level: "info",
  };
}

export function connectionLimit(tenant: Tenant): Denial {
  const { connections } = tenant.limits;
  return {
    code: "connection_limit",
    message: `too many connections: the ${tenant.tier} tier allows ${connections} per org, over all its databases`,
    hint: "Close a connection, make your client's pool smaller, or upgrade the tier.",
    log: "connection limit reached",
    level: "info",
  };
}

/** `waitMs` is how long the request would have had to wait for its turn. */
export function rateLimited(tenant: Tenant, waitMs: number): Denial {
  const seconds = Math.max(0.1, Math.ceil(waitMs / 100) / 10);
  return {
    code: "rate_limited",
    message: `query rate exceeded: the ${tenant.tier} tier allows ${tenant.limits.limitQps} queries per second per org`,
    hint: `Retry in ${seconds} s, send fewer queries at once, or upgrade the tier.`,
    log: "query refused: rate limit",
    level: "info",
  };
}

/** The same words for a database of another org and for one that never was. */
export function unknownDatabase(name: string): Denial {
  return {
    code: "unknown_database",
    message: `database "${name}" does not exist`,
    hint: "The databases of your org are listed in Studio and by `ogel db list`.",
    log: "unknown database",
    level: "info",
  };
}

export function networkNotAllowed(address: string, database: Database): Denial {
  return {
    code: "network_not_allowed",
    message: `connections from ${address} are not allowed to database "${databaseAddress(database)}"`,
    hint: "Connect from a network that is listed for it, or list this one with `ogel db allow`.",
    log: "client from a network that is not allowed",
    level: "info",
  };
}

export function databaseNotReady(database: Database): Denial {
  return {
    code: "database_not_ready",
    message: `database "${databaseAddress(database)}" is not ready: it is ${database.status}`,
    hint:
      database.status === "provisioning"
        ? "Try again in a few seconds."
        : "Its page in Studio says why and how to go on.",
    log: "database not ready",
    level: "info",
  };
}

export function databaseDropped(): Denial {
  return {
    code: "database_dropped",
    message: "terminating connection: the database has been dropped",
    hint: null,
    log: "session ended: database dropped",
    level: "info",
  };
}

export function wrongKind(database: Database): Denial {
  return {
    code: "unknown_database",
    message: `database "${databaseAddress(database)}" is of kind ${database.kind} and does not speak this protocol`,
    hint: "Its connection string is in Studio and in `ogel db list`.",
    log: "database of another kind",
    level: "info",
  };
}

/** `log` says what failed; the client only learns that it is not its fault. */
export function upstreamUnavailable(log: string): Denial {
  return {
    code: "upstream_unavailable",
    message: "the database cannot be reached right now",
    hint: "Try again in a few seconds. Nothing that was committed is lost.",
    log,
    level: "error",
  };
}

export function upstreamLost(log: string): Denial {
  return {
    code: "upstream_lost",
    message: "the connection to the database was lost",
    hint: "Connect again. A transaction that was open has been rolled back; one that was committing may have been committed.",
    log,
    level: "warn",
  };
}

export function sessionStateExpired(what: string, limitMs: number): Denial {
  return {
    code: "session_state_expired",
    message: `terminating idle session: it holds ${what}, which would keep its database awake, and has been idle for ${limitMs / 60_000} minutes`,
    hint: "Connect again and set the state up again, or upgrade the tier, whose limit is longer.",
    log: "stateful idle session ended so that its compute can sleep",
    level: "info",
  };
}

export function transactionIdle(limitMs: number): Denial {
  return {
    code: "transaction_idle",
    message: `terminating session: its transaction has been idle for ${limitMs / 60_000} minutes and would keep its database awake`,
    hint: "Connect again; the transaction has been rolled back.",
    log: "idle transaction ended so that its compute can sleep",
    level: "info",
  };
}

export function statementTimeout(tenant: Tenant): Denial {
  return {
    code: "statement_timeout",
    message: `canceling statement: the ${tenant.tier} tier allows ${tenant.limits.statementTimeoutMs / 1_000} seconds for a statement`,
    hint: "Make the statement do less at a time, or upgrade the tier.",
    log: "statement cancelled: timeout of the tier",
    level: "info",
  };
}

/** `value` is what the client asked for, `cap` what it may have, in the setting's own syntax. */
export function settingAboveTier(tenant: Tenant, name: string, value: string, cap: string): Denial {
  const shown = value.length <= 40 ? value : `${value.slice(0, 40)}…`;
  return {
    code: "setting_above_tier",
    message: `${name} cannot be set to "${shown}": the ${tenant.tier} tier allows at most ${cap}`,
    hint: `Set ${name} to ${cap} or less, or upgrade the tier.`,
    log: `${name} above the tier's cap refused`,
    level: "info",
  };
}

/** `cost` and `costMax` are in the planner's own units. */
export function queryTooExpensive(tenant: Tenant, cost: number, costMax: number): Denial {
  const figure = (value: number): string => Math.round(value).toLocaleString("en-US");
  return {
    code: "query_too_expensive",
    message: `statement not run: the planner expects it to cost ${figure(cost)}, and the ${tenant.tier} tier allows ${figure(costMax)}`,
    hint: "Narrow it by a condition, an index or a LIMIT (EXPLAIN shows what costs most, ANALYZE corrects estimates), or upgrade the tier.",
    log: `statement refused: planner cost ${Math.round(cost)} over ${costMax}`,
    level: "info",
  };
}

export function transactionTimeout(tenant: Tenant): Denial {
  const limitSeconds = tenant.limits.idleInTransactionTimeoutMs / 1_000;
  return {
    code: "transaction_idle",
    message: `terminating session: the ${tenant.tier} tier lets a transaction be idle for ${limitSeconds} seconds`,
    hint: "Connect again; the transaction has been rolled back. Commit or roll back sooner, or upgrade the tier.",
    log: "session ended: idle in a transaction for longer than the tier allows",
    level: "info",
  };
}

export function replicationRefused(): Denial {
  return {
    code: "replication_refused",
    message: "replication connections are not available for this database",
    hint: null,
    log: "replication connection refused",
    level: "info",
  };
}

export function poolExhausted(database: Database, waitMs: number): Denial {
  return {
    code: "pool_exhausted",
    message: `no connection to database "${databaseAddress(database)}" became free within ${waitMs / 1_000} seconds`,
    hint: "End transactions that are idle, or make statements shorter: they hold the connections.",
    log: "no free upstream in time",
    level: "warn",
  };
}

export function protocolViolation(message: string): Denial {
  return {
    code: "protocol_violation",
    message,
    hint: null,
    log: `protocol violation: ${message}`,
    level: "info",
  };
}

export function directoryUnavailable(log: string): Denial {
  return {
    code: "directory_unavailable",
    message: "logins cannot be checked right now",
    hint: "Try again in a few seconds.",
    log,
    level: "error",
  };
}

export function shuttingDown(): Denial {
  return {
    code: "shutting_down",
    message: "terminating connection: this proxy is being restarted",
    hint: "Connect again.",
    log: "session ended: shutdown",
    level: "info",
  };
}
