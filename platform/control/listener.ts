/**
 * Listening to a notification channel for as long as it takes: a connection that breaks is
 * replaced, and one that has silently died is found out.
 *
 * The driver's own `listen` gives up for good when one attempt to reconnect fails, and does not
 * notice a peer that vanished. Revocations have to arrive within a second, so neither will do
 * here.
 */
import postgres, { type Sql } from "postgres";
import type { Log } from "../log.ts";

export type ListenerOptions = {
  /** The pool whose server is listened to; the listener has a connection of its own. */
  readonly sql: Sql;
  readonly log: Log;
  readonly channel: string;
  readonly notified: (payload: string) => void;
  /** After a reconnection: what was announced in between is unknown. */
  readonly reset: () => void;
  /** How often the server is asked whether it is still there, and how long it has to answer. */
  readonly heartbeatMs?: number;
};

export type Listener = { close(): Promise<void> };

/** One connection that listens, and a promise that settles when it is gone. */
type Listening = { readonly client: Sql; readonly lost: Promise<void> };

const HEARTBEAT_MS = 5_000;
const RETRY_MIN_MS = 50;
const RETRY_MAX_MS = 2_000;

/**
 * Resolves once listening. Throws what the first connection throws; later ones are tried until
 * `close`.
 */
export async function startListener(options: ListenerOptions): Promise<Listener> {
  const closing = Promise.withResolvers<void>();
  let closed = false;
  let listening = await connect(options);

  const keepListening = async (): Promise<void> => {
    while (!closed) {
      await untilLost(listening, options.heartbeatMs ?? HEARTBEAT_MS, closing.promise);
      await listening.client.end({ timeout: 0 });
      if (closed) return;
      options.log.warn("listener_lost", { channel: options.channel });
      const next = await reconnect(options, closing.promise, () => closed);
      if (next === null) return;
      listening = next;
      options.log.info("listener_resumed", { channel: options.channel });
      options.reset();
    }
  };
  const done = keepListening();

  return {
    async close() {
      closed = true;
      closing.resolve();
      await done;
    },
  };
}

async function connect(options: ListenerOptions): Promise<Listening> {
  const lost = Promise.withResolvers<void>();
  const settings: object = {
    ...options.sql.options,
    max: 1,
    idle_timeout: undefined,
    max_lifetime: null,
    fetch_types: false,
    onclose: () => lost.resolve(),
    // The driver hands these to its own `listen` in the same way; its types leave the option out.
    onnotify(channel: string, payload: string) {
      if (channel === options.channel) options.notified(payload);
    },
  };
  const client = postgres(settings);
  try {
    await client.unsafe(`LISTEN "${options.channel}"`);
    return { client, lost: lost.promise };
  } catch (error) {
    await client.end({ timeout: 0 });
    throw error;
  }
}

/** Settles when the connection has closed, has not answered in time, or is no longer wanted. */
async function untilLost(
  { client, lost }: Listening,
  heartbeatMs: number,
  closing: Promise<void>,
): Promise<void> {
  const ended = Promise.race([lost, closing]).then(() => true);
  for (;;) {
    if (await Promise.race([ended, delay(heartbeatMs, false)])) return;
    const answered = client`SELECT 1`.then(
      () => false,
      () => true,
    );
    if (await Promise.race([ended, answered, delay(heartbeatMs, true)])) return;
  }
}

async function reconnect(
  options: ListenerOptions,
  closing: Promise<void>,
  isClosed: () => boolean,
): Promise<Listening | null> {
  for (let retryMs = RETRY_MIN_MS; !isClosed(); retryMs = Math.min(retryMs * 2, RETRY_MAX_MS)) {
    try {
      return await connect(options);
    } catch (error) {
      options.log.debug("listener_retry", { channel: options.channel, reason: String(error) });
      await Promise.race([closing, delay(retryMs, undefined)]);
    }
  }
  return null;
}

/** Does not keep the process alive. */
function delay<T>(ms: number, value: T): Promise<T> {
  return new Promise((resolve) => {
    const timer: unknown = setTimeout(() => resolve(value), ms);
    if (typeof timer === "object" && timer !== null && "unref" in timer) {
      (timer as { unref(): void }).unref();
    }
  });
}
