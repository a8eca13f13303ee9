/**
 * Waiting for a condition that raises no event: asked again and again until it holds, up to a
 * deadline.
 */

const POLL_MS = 5;
/**
 * Shorter than the 30 seconds that a test has (see scripts/check.ts), so that it ends with a
 * reason.
 */
const DEADLINE_MS = 20_000;

/**
 * Resolves with the first answer of `ask` that is neither false, null nor undefined. Rejects past
 * the deadline, naming `what` was waited for.
 */
export async function until<T>(
  what: string,
  ask: () => T | Promise<T>,
  deadlineMs = DEADLINE_MS,
): Promise<Exclude<T, false | null | undefined>> {
  const deadline = performance.now() + deadlineMs;
  for (;;) {
    const answer = await ask();
    if (answer !== false && answer !== null && answer !== undefined) {
      return answer as Exclude<T, false | null | undefined>;
    }
    if (performance.now() > deadline) throw new Error(`waited in vain for ${what}`);
    await Bun.sleep(POLL_MS);
  }
}

/** Resolves like `promise`, or rejects past the deadline, naming `what` was waited for. */
export async function within<T>(
  what: string,
  promise: Promise<T>,
  deadlineMs = DEADLINE_MS,
): Promise<T> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => late.reject(new Error(`waited in vain for ${what}`)), deadlineMs);
  try {
    return await Promise.race([promise, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}
