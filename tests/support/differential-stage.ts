/** Two databases of one org, the same at the start: one reached through O7s, one directly. */
import { parseMasterKey, upstreamPassword } from "../../platform/upstream-credentials.ts";
import { FIXTURE, SESSIONS, type Side } from "./differential.ts";
import { startPlatform, type TestPlatform } from "./platform.ts";
import { WireClient } from "./wire.ts";

export type DifferentialStage = {
  readonly platform: TestPlatform;
  readonly direct: Side;
  readonly proxied: Side;
};

export async function startDifferentialStage(): Promise<DifferentialStage> {
  // As many connections as sessions, so that none waits for a transaction of another, and all are
  // handed around.
  const platform = await startPlatform({ environment: { O7S_POOL_MAX: String(SESSIONS) } });
  const org = await platform.createOrg("ENTERPRISE", { limitQps: 1_000_000 });
  await platform.createDatabase(org, "proxied");
  const databaseId = await platform.createDatabase(org, "direct");
  const masterKey = parseMasterKey(platform.environment["OGEL_MASTER_KEY"] ?? "");
  const [row] = await platform.sql<{ generation: number }[]>`
    SELECT credential_generation AS generation FROM org WHERE org_id = ${org.orgId}`;
  if (masterKey === null || row === undefined) throw new Error("no credentials");
  const { socketDirectory, port } = platform.shared;
  const direct: Side = {
    where: { path: `${socketDirectory}/.s.PGSQL.${port}` },
    login: {
      user: org.orgId,
      password: upstreamPassword(masterKey, org.orgId, row.generation),
      database: databaseId,
    },
  };
  const proxied: Side = {
    where: { port: platform.postgresPort },
    login: { user: org.orgId, password: org.token, database: "proxied" },
  };
  for (const side of [direct, proxied]) {
    await using client = await WireClient.login(side.where, side.login);
    for (const statement of FIXTURE) await client.query(statement);
  }
  return { platform, direct, proxied };
}
