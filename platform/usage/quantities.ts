/** What is metered per database, and the shape in which writers report it. */
import type { DatabaseId, OrgId } from "../ids.ts";

/**
 * The quantities, in the order in which counter files keep them. `busyMicros` is execution time
 * without the client's own stalls; `computeMillis` is the life of a scale-to-zero database's
 * processes.
 */
export const QUANTITIES = [
  "queries",
  "rows",
  "bytesIn",
  "bytesOut",
  "busyMicros",
  "computeMillis",
] as const;
export type Quantity = (typeof QUANTITIES)[number];
export type Quantities = Readonly<Record<Quantity, number>>;

/**
 * What a writer has counted for one database since it began: totals, so that reporting them twice
 * is harmless.
 */
export type UsageTotals = {
  readonly orgId: OrgId;
  readonly databaseId: DatabaseId;
  readonly totals: Quantities;
};

/** What people are shown of a database's usage in a period. */
export type UsageFigures = {
  readonly queries: number;
  readonly rows: number;
  readonly bytesIn: number;
  readonly bytesOut: number;
  readonly busyMs: number;
  readonly computeSeconds: number;
};

export type UsageReport = {
  readonly orgId: OrgId;
  readonly period: string;
  readonly quantities: UsageFigures;
  readonly byDatabase: readonly (UsageFigures & {
    readonly databaseId: DatabaseId;
    /** Null for a database that has been dropped. */
    readonly name: string | null;
  })[];
};

export function zeroQuantities(): Record<Quantity, number> {
  return { queries: 0, rows: 0, bytesIn: 0, bytesOut: 0, busyMicros: 0, computeMillis: 0 };
}
