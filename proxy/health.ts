/** What O7s depends on and can do without for a while. */
import type { Sql } from "postgres";

const ANSWER_DEADLINE_MS = 1_000;

/** Sentences about what does not answer; empty when all is well. */
export async function findTroubles(sql: Sql): Promise<readonly string[]> {
  let timer: Timer | undefined;
  const late = new Promise<string>((resolve) => {
    timer = setTimeout(() => resolve("late"), ANSWER_DEADLINE_MS);
  });
  const answer = await Promise.race([
    sql`SELECT 1`.then(
      () => "here",
      () => "away",
    ),
    late,
  ]);
  clearTimeout(timer);
  return answer === "here"
    ? []
    : ["The control plane does not answer: only orgs that are cached can log in, usage is kept."];
}
