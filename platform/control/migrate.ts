/** Bringing the control plane's schema up to date. */
import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import type { Sql, TransactionSql } from "postgres";

export type Migration = {
  /** The file's name without its ending, e.g. `0001-core`. */
  readonly name: string;
  readonly text: string;
};

/** The schema cannot be brought up to date; the message says why and what to do. */
export class MigrationError extends Error {
  override readonly name = "MigrationError";
}

/** Any number does that nothing else in this database locks. */
const MIGRATION_LOCK = 7_305_211_001;

/** The migrations beside this file, in the order in which they are applied. */
export async function readMigrations(): Promise<readonly Migration[]> {
  const directory = new URL("./migrations/", import.meta.url);
  const files = (await readdir(directory)).filter((file) => file.endsWith(".sql")).sort();
  return await Promise.all(
    files.map(async (file) => ({
      name: file.replace(/\.sql$/, ""),
      text: await readFile(new URL(file, directory), "utf8"),
    })),
  );
}

/**
 * Applies the migrations that have not been applied yet, each in a transaction of its own, and
 * returns their names. Services that start together wait for each other. Throws a
 * `MigrationError` when one that was applied has been edited since, or when the database has one
 * that this program does not know.
 */
export async function migrate(
  sql: Sql,
  migrations?: readonly Migration[],
): Promise<readonly string[]> {
  const known = migrations ?? (await readMigrations());
  const applied: string[] = [];
  for (;;) {
    const name = await sql.begin((tx) => applyNext(tx, known));
    if (name === null) return applied;
    applied.push(name);
  }
}

/**
 * One step under the lock: the name of the migration that it applied, or null when none was left.
 */
async function applyNext(tx: TransactionSql, known: readonly Migration[]): Promise<string | null> {
  await tx`SELECT pg_advisory_xact_lock(${MIGRATION_LOCK}::bigint)`;
  await tx`
    CREATE TABLE IF NOT EXISTS schema_migration (
      name       text        PRIMARY KEY,
      sha256     text        NOT NULL,
      applied_at timestamptz NOT NULL DEFAULT now()
    )`;
  const rows = await tx<{ name: string; sha256: string }[]>`
    SELECT name, sha256 FROM schema_migration`;
  const done = new Map(rows.map((row) => [row.name, row.sha256]));
  refuseStrangers(done, known);
  const next = known.find((migration) => !done.has(migration.name));
  if (next === undefined) return null;
  await tx.unsafe(next.text);
  await tx`INSERT INTO schema_migration ${tx({ name: next.name, sha256: checksum(next.text) })}`;
  return next.name;
}

function refuseStrangers(done: ReadonlyMap<string, string>, known: readonly Migration[]): void {
  for (const migration of known) {
    const recorded = done.get(migration.name);
    if (recorded !== undefined && recorded !== checksum(migration.text)) {
      throw new MigrationError(
        `Migration ${migration.name} was edited after it had been applied to this control plane. ` +
          "Restore the file, and put the change into a new migration.",
      );
    }
  }
  const names = new Set(known.map((migration) => migration.name));
  const stranger = [...done.keys()].find((name) => !names.has(name));
  if (stranger === undefined) return;
  throw new MigrationError(
    `The control plane has migration ${stranger}, which this version does not know: ` +
      "it was used by a newer version. Start that version.",
  );
}

/** Line endings do not count: a checkout may change them. */
function checksum(text: string): string {
  return createHash("sha256").update(text.replaceAll("\r\n", "\n")).digest("hex");
}
