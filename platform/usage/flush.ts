/**
 * Flush requests: a reader asks every writer to report what it has counted so far, so that usage
 * includes each reply that a client has received by then.
 */
import type { Sql } from "postgres";
import { type Listener, startListener } from "../control/listener.ts";
import type { Log } from "../log.ts";

const FLUSH_CHANNEL = "ogel_usage_flush";

/**
 * A writer that has not been seen for this long is gone, and so is what it had not reported: nobody
 * waits for it. Writers show themselves every few seconds, and a restarted one first reports for
 * its predecessor.
 */
const WRITER_LOST_AFTER_SECONDS = 15;
const POLL_MS = 15;

/**
 * Asks all writers to report and waits until they have, at most `deadlineMs`. `complete` is false
 * when a writer that was seen lately had not answered by then.
 */
export async function flushUsage(sql: Sql, deadlineMs: number): Promise<{ complete: boolean }> {
  const [request] = await sql<{ id: string }[]>`SELECT nextval('usage_flush_request') AS id`;
  const id = request?.id ?? "0";
  await sql.notify(FLUSH_CHANNEL, id);
  const deadline = performance.now() + deadlineMs;
  for (;;) {
    const [open] = await sql<{ writers: number }[]>`
      SELECT count(*)::int AS writers FROM usage_writer
      WHERE closed_at IS NULL AND flushed_request < ${id}
        AND seen_at > now() - make_interval(secs => ${WRITER_LOST_AFTER_SECONDS})`;
    if (open?.writers === 0) return { complete: true };
    if (performance.now() > deadline) return { complete: false };
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

/**
 * Calls `flush` with the number of each flush request, and with the latest after every
 * reconnection, when some may have been missed. Rejects when it cannot listen to begin with; from
 * then on it keeps listening until it is closed.
 */
export async function onFlushRequest(
  sql: Sql,
  log: Log,
  flush: (request: string) => void,
): Promise<Listener> {
  const flushLatest = (): void => {
    // A sequence that was never used shows its first number as its last one.
    sql<{ id: string }[]>`
      SELECT CASE WHEN is_called THEN last_value ELSE 0 END AS id FROM usage_flush_request`.then(
      ([row]) => flush(row?.id ?? "0"),
      () => {}, // The connection went again: the next one asks once more.
    );
  };
  const listener = await startListener({
    sql,
    log,
    channel: FLUSH_CHANNEL,
    notified: flush,
    reset: flushLatest,
  });
  flushLatest();
  return listener;
}

/** Notes that a writer has reported all it had counted when it heard of `request`. */
export async function answerFlush(sql: Sql, writerId: string, request: string): Promise<void> {
  await sql`
    UPDATE usage_writer SET flushed_request = greatest(flushed_request, ${request}), seen_at = now()
    WHERE writer_id = ${writerId}`;
}
