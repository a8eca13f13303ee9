/** What became of a promise, as a value: for tests that expect a refusal. */

export type Refusal = { readonly code: string; readonly message: string; readonly hint: string };

/**
 * The error that `promise` rejects with, in the fields that PostgreSQL clients give it. Throws when
 * it resolves.
 */
export async function refusalOf(promise: PromiseLike<unknown>): Promise<Refusal> {
  let value: unknown;
  try {
    value = await promise;
  } catch (error) {
    const { code, message, hint } = error as Partial<Refusal>;
    return { code: code ?? "", message: message ?? String(error), hint: hint ?? "" };
  }
  throw new Error(`not refused: ${JSON.stringify(value)}`);
}
