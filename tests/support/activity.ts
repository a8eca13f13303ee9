/** What a server says of the connections that a role has to it. */
import type { Sql } from "postgres";
import { parseAdminServer } from "../../platform/endpoints.ts";
import { openPostgres } from "../../platform/postgres-client.ts";
import type { TestPostgres } from "./postgres-server.ts";

export type Backend = { readonly pid: number; readonly state: string; readonly query: string };

export type Activity = AsyncDisposable & {
  /** The connections of a role, whatever they do. */
  backendsOf(role: string): Promise<readonly Backend[]>;
  /** Ends connections of a role as an administrator would; returns how many. */
  terminate(role: string): Promise<number>;
};

export function watchActivity(server: TestPostgres): Activity {
  const admin = parseAdminServer(server.adminUrl);
  if (admin === null) throw new Error("malformed test configuration");
  const sql: Sql = openPostgres(admin, { applicationName: "activity", connectionsMax: 1 });
  return {
    backendsOf: async (role) => [
      ...(await sql<Backend[]>`
        SELECT pid, coalesce(state, '') AS state, query FROM pg_stat_activity
        WHERE usename = ${role}`),
    ],
    terminate: async (role) => {
      const rows = await sql`
        SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = ${role}`;
      return rows.length;
    },
    [Symbol.asyncDispose]: () => sql.end({ timeout: 1 }),
  };
}
