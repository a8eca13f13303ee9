/**
 * The Postgres port: accepts sockets, bounds those that have not logged in, and hands each to its
 * login.
 */
import type { Socket } from "bun";
import { protocolViolation, shuttingDown, unauthenticatedLimit } from "../../denial.ts";
import type { Layers } from "../../pipeline.ts";
import { SubnetLimit } from "../../subnet-limit.ts";
import type { Operators } from "./admin/operators.ts";
import { CancelRegistry, type CancelRouting } from "./cancel-registry.ts";
import { ClientConnection, type TlsContext } from "./client-connection.ts";
import { login } from "./client-login.ts";
import type { UpstreamPools } from "./upstream-pools.ts";

export type PostgresListenerOptions = {
  readonly layers: Layers;
  readonly hostname: string;
  readonly port: number;
  /** Whether another process may listen on the port at the same time. */
  readonly reusePort: boolean;
  /** Null for a proxy without other workers. */
  readonly cancelRouting: CancelRouting | null;
  readonly tls: TlsContext;
  readonly requireTls: boolean;
  readonly pools: UpstreamPools;
  readonly operators: Operators | null;
  readonly nowMs: () => number;
  /** Sockets that have not logged in: how many at one time, and for how long. */
  readonly strangersMax: number;
  readonly loginDeadlineMs: number;
};

export type PostgresListener = {
  readonly port: number;
  /** Sockets that have not logged in. */
  strangers(): number;
  /** Bytes that clients have not taken yet. */
  backlogBytes(): number;
  /** A cancel request that reached another worker. */
  cancel(pid: number, key: Uint8Array): void;
  /** Ends those with a last message. */
  refuseStrangers(): void;
  /** Takes no more connections; those that are open stay. */
  stopAccepting(): void;
  /** Takes no more connections, and ends those that are open with a last message. */
  close(): Promise<void>;
};

const SWEEP_INTERVAL_MS = 250;
/** From one subnet; each costs the server behind a connection. */
const CANCELS_PER_SECOND_MAX = 50;
/** How long `close` waits for clients to take their last message. */
const CLOSE_DEADLINE_MS = 1_000;

/** Rejects when the port cannot be listened on. */
export function listenPostgres(options: PostgresListenerOptions): PostgresListener {
  const { layers } = options;
  const cancels = new CancelRegistry(options.cancelRouting);
  const cancelLimit = new SubnetLimit(CANCELS_PER_SECOND_MAX, options.nowMs);
  const open = new Set<ClientConnection>();
  const strangers = new Strangers(options.strangersMax, options.loginDeadlineMs, options.nowMs);

  const accept = (socket: Socket<ClientConnection>): void => {
    const connection = new ClientConnection(socket);
    socket.data = connection;
    layers.metrics.connectionsAccepted += 1;
    open.add(connection);
    strangers.add(connection);
    connection.whenClosed(() => {
      open.delete(connection);
      strangers.delete(connection);
    });
    login(connection, {
      layers,
      cancels,
      cancelLimit,
      tls: options.tls,
      requireTls: options.requireTls,
      nowMs: options.nowMs,
      pools: options.pools,
      operators: options.operators,
      authenticated: (known) => strangers.delete(known),
    }).catch((error: unknown) => {
      layers.log.error("login_failed_unexpectedly", { reason: String(error) });
      connection.destroy();
    });
  };

  const { hostname, port, reusePort } = options;
  const server = Bun.listen<ClientConnection>({
    // Bun takes `reusePort` here, though its types do not name it.
    ...{ hostname, port, reusePort },
    socket: {
      open: accept,
      data(socket, bytes) {
        if (socket.data.isCurrent(socket)) socket.data.received(bytes);
      },
      drain(socket) {
        if (socket.data.isCurrent(socket)) socket.data.drained();
      },
      close(socket) {
        socket.data?.ended();
      },
      error() {},
    },
  });
  const sweep = setInterval(() => {
    strangers.sweep();
    options.pools.sweep(options.nowMs());
  }, SWEEP_INTERVAL_MS);

  return {
    port: server.port,
    strangers: () => strangers.size,
    cancel: (pid, key) => cancels.requestHere(pid, key),
    backlogBytes: () => {
      let bytes = 0;
      for (const connection of open) bytes += connection.backlogBytes;
      return bytes;
    },
    refuseStrangers: () => strangers.refuseAll(),
    stopAccepting: () => server.stop(),
    async close() {
      clearInterval(sweep);
      server.stop();
      for (const session of layers.sessions.all()) {
        if (session.protocol === "postgres") session.end(shuttingDown());
      }
      options.operators?.endAll(shuttingDown());
      const deadline = options.nowMs() + CLOSE_DEADLINE_MS;
      while (open.size > 0 && options.nowMs() < deadline) await Bun.sleep(5);
      for (const connection of open) connection.destroy();
      options.pools.close();
    },
  };
}

/**
 * Sockets that have not logged in. There are at most so many; one more costs the oldest its place,
 * so that sockets which say nothing cannot keep others out.
 */
class Strangers {
  readonly #sinceMs = new Map<ClientConnection, number>();
  readonly #max: number;
  readonly #deadlineMs: number;
  readonly #nowMs: () => number;

  constructor(max: number, deadlineMs: number, nowMs: () => number) {
    this.#max = max;
    this.#deadlineMs = deadlineMs;
    this.#nowMs = nowMs;
  }

  get size(): number {
    return this.#sinceMs.size;
  }

  add(connection: ClientConnection): void {
    this.#sinceMs.set(connection, this.#nowMs());
    if (this.#sinceMs.size <= this.#max) return;
    const oldest = this.#sinceMs.keys().next();
    if (oldest.done) return;
    this.delete(oldest.value);
    oldest.value.refuse(unauthenticatedLimit());
    oldest.value.destroy();
  }

  delete(connection: ClientConnection): void {
    this.#sinceMs.delete(connection);
  }

  refuseAll(): void {
    for (const connection of [...this.#sinceMs.keys()]) {
      this.delete(connection);
      connection.refuse(shuttingDown());
    }
  }

  sweep(): void {
    const now = this.#nowMs();
    for (const [connection, sinceMs] of this.#sinceMs) {
      if (now - sinceMs < this.#deadlineMs) return; // In order of arrival: the rest is younger.
      this.delete(connection);
      connection.refuse(protocolViolation("the login took too long"));
      connection.destroy();
    }
  }
}
