/**
 * A client's way in: TLS negotiation, StartupMessage, the SCRAM exchange, and the session that
 * comes of it. Straight-line code: it runs once per connection.
 */
import { type Denial, protocolViolation, replicationRefused, tlsRequired } from "../../denial.ts";
import { closeSession, isDenial, type Layers, logDenial, openSession } from "../../pipeline.ts";
import type { SubnetLimit } from "../../subnet-limit.ts";
import { enterAsOperator } from "./admin/operator-login.ts";
import { OPERATOR_USER, type Operators } from "./admin/operators.ts";
import type { CancelKey, CancelRegistry } from "./cancel-registry.ts";
import { startupRefusal } from "./capped-settings.ts";
import type { ClientConnection, TlsContext } from "./client-connection.ts";
import {
  authenticationOk,
  backendKeyData,
  negotiateProtocolVersion,
  parameterStatuses,
  readyIdle,
} from "./messages.ts";
import { Relay } from "./relay.ts";
import { proveByScram } from "./scram-login.ts";
import type { StartupPacket } from "./startup.ts";
import type { UpstreamPools } from "./upstream-pools.ts";

export type LoginOptions = {
  readonly layers: Layers;
  readonly cancels: CancelRegistry;
  /** Nobody authenticates a cancel request: beyond this its key is not looked at. */
  readonly cancelLimit: SubnetLimit;
  readonly tls: TlsContext;
  readonly requireTls: boolean;
  readonly nowMs: () => number;
  readonly pools: UpstreamPools;
  /** Null where there is no operator key: then there is no such user either. */
  readonly operators: Operators | null;
  /** The connection has logged in: it no longer counts as a stranger. */
  readonly authenticated: (connection: ClientConnection) => void;
};

type Startup = Extract<StartupPacket, { type: "startup" }>;

/** As PostgreSQL cuts names. */
const NAME_CHARS_MAX = 63;
const SSL_YES = Uint8Array.of(0x53);
const SSL_NO = Uint8Array.of(0x4e);
/** The newest minor version of protocol 3 that is spoken here. */
const MINOR_MAX = 2;
/** PostgreSQL 18 sends keys of this length in protocol 3.2. */
const LONG_CANCEL_KEY_BYTES = 32;

/**
 * Runs a connection's login; resolves when its relay has taken over, or when it has been refused.
 */
export async function login(connection: ClientConnection, options: LoginOptions): Promise<void> {
  const startup = await negotiate(connection, options);
  if (startup === null) return;
  const { layers } = options;
  const user = (startup.parameters.get("user") ?? "").slice(0, NAME_CHARS_MAX);
  const refuse = (denial: Denial): void => {
    if (denial.code === "authentication_failed") layers.metrics.loginsFailed += 1;
    logDenial(layers, denial, { orgId: user, protocol: "postgres", address: connection.address });
    connection.refuse(denial);
  };
  if (options.requireTls && !connection.encrypted) return refuse(tlsRequired());
  if (user === "") return refuse(protocolViolation("no user name in the startup packet"));
  if (wantsReplication(startup)) return refuse(replicationRefused());
  if (startup.minor > MINOR_MAX || startup.options.length > 0 || startup.minor === 1) {
    const minor = startup.minor >= MINOR_MAX ? MINOR_MAX : 0;
    connection.write(negotiateProtocolVersion(minor, startup.options));
  }
  if (options.operators !== null && user === OPERATOR_USER) {
    const database = startup.parameters.get("database") ?? user;
    const denial = await enterAsOperator(connection, options, options.operators, database);
    if (denial !== null) refuse(denial);
    return;
  }
  await enter(connection, options, startup, user, refuse);
}

async function enter(
  connection: ClientConnection,
  options: LoginOptions,
  startup: Startup,
  user: string,
  refuse: (denial: Denial) => void,
): Promise<void> {
  const { layers, cancels, nowMs } = options;
  let relay: Relay | null = null;
  const session = await openSession(layers, {
    protocol: "postgres",
    user,
    database: (startup.parameters.get("database") || user).slice(0, NAME_CHARS_MAX),
    address: connection.address,
    kinds: ["postgres", "neon"],
    prove: (attempt) => proveByScram(connection, options.tls, attempt),
    // Before the relay stands, there is nothing to end but the connection.
    end: (denial) => (relay === null ? connection.refuse(denial) : relay.end(denial)),
    tick: (now) => relay?.tick(now),
    part: (parting, now) => relay?.part(parting, now),
    activity: () =>
      relay?.activity() ?? { state: "logging in", held: null, lastTrafficMs: nowMs() },
  });
  if (isDenial(session)) return refuse(session);
  options.authenticated(connection);
  const pool = options.pools.join(session, forwardedParameters(startup));
  let cancelKey: CancelKey | null = null;
  connection.whenClosed(() => {
    if (cancelKey !== null) cancels.delete(cancelKey.pid);
    options.pools.leave(pool);
    closeSession(layers, session);
  });
  const refused = startupRefusal(startup.parameters, session.tenant);
  if (refused !== null) return refuse(refused);
  const reported = await pool.reportedParameters(session);
  if (isDenial(reported)) return refuse(reported);
  if (connection.closed) return;
  layers.metrics.sessionsOpened += 1;
  relay = new Relay({ layers, session, client: connection, pool, nowMs });
  const keyBytes = startup.minor >= MINOR_MAX ? LONG_CANCEL_KEY_BYTES : 4;
  cancelKey = cancels.register(relay, keyBytes);
  connection.write(
    Buffer.concat([
      authenticationOk,
      parameterStatuses(reported),
      backendKeyData(cancelKey.pid, cancelKey.key),
      readyIdle,
    ]),
  );
  connection.handTo(relay);
}

/**
 * Takes untyped packets until a StartupMessage comes; null when the connection was for something
 * else or is over.
 */
async function negotiate(
  connection: ClientConnection,
  options: LoginOptions,
): Promise<Startup | null> {
  let askedSsl = false;
  let askedGss = false;
  for (;;) {
    const packet = await connection.nextStartup();
    if (packet === null) return null;
    if (packet.type === "startup") return packet;
    if (packet.type === "cancel") {
      options.layers.metrics.cancels += 1;
      if (options.cancelLimit.admit(connection.address)) {
        options.cancels.request(packet.pid, packet.key);
      }
      connection.close();
      return null;
    }
    if (packet.type === "tls") {
      if (askedSsl || askedGss || connection.encrypted || !(await connection.secure(options.tls))) {
        connection.destroy();
        return null;
      }
      continue;
    }
    const repeated = packet.type === "ssl" ? askedSsl || connection.encrypted : askedGss;
    // Bytes that came along in clear would be taken for encrypted ones later (CVE-2021-23214).
    if (repeated || connection.hasPendingBytes) {
      connection.refuse(protocolViolation("received unencrypted data after SSL request"));
      return null;
    }
    if (packet.type === "gss") {
      askedGss = true;
      connection.write(SSL_NO);
      continue;
    }
    askedSsl = true;
    connection.write(SSL_YES);
    if (!(await connection.upgrade(options.tls))) return null;
  }
}

function wantsReplication(startup: Startup): boolean {
  const value = startup.parameters.get("replication")?.toLowerCase();
  return value !== undefined && !["false", "off", "no", "0"].includes(value);
}

/** What goes on to the server: everything but who and where, which are O7s's own there. */
function forwardedParameters(startup: Startup): ReadonlyMap<string, string> {
  const forwarded = new Map(startup.parameters);
  for (const name of ["user", "database", "replication"]) forwarded.delete(name);
  return forwarded;
}
