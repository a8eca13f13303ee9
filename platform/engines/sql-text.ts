/** Quoting for statements that take no parameters. */

/** As an SQL identifier, whatever it holds. */
export function identifier(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

/**
 * As an SQL string constant under `standard_conforming_strings`, which administrators' sessions
 * have.
 */
export function literal(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}
