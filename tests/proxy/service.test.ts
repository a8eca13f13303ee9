/** O7s as a service: its HTTP port, its start, its end. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { startService } from "../../scripts/bench/service.ts";
import { watchActivity } from "../support/activity.ts";
import { refusalOf } from "../support/outcome.ts";
import { startPlatform, type TestOrg, type TestPlatform } from "../support/platform.ts";
import { until } from "../support/until.ts";
import { errorText, WireClient } from "../support/wire.ts";

let platform: TestPlatform;
let org: TestOrg;

beforeAll(async () => {
  platform = await startPlatform();
  org = await platform.createOrg("PRO");
  await platform.createDatabase(org, "app");
}, 60_000);

afterAll(async () => {
  await platform[Symbol.asyncDispose]();
}, 60_000);

const http = (path: string, init?: RequestInit): Promise<Response> =>
  fetch(`http://127.0.0.1:${platform.httpPort}${path}`, init);

const open = (): Promise<WireClient> =>
  WireClient.login(
    { port: platform.postgresPort },
    { user: org.orgId, password: org.token, database: "app" },
  );

describe("the HTTP port", () => {
  test("says that the proxy is well", async () => {
    const response = await http("/healthz");
    expect(response.status).toBe(200);
    expect(await response.json()).toEqual({ ok: true, draining: false, troubles: [] });
  });

  test("gives metrics in the Prometheus text format, each family with its help and type", async () => {
    await using client = await open();
    await client.query("SELECT 1");
    const response = await http("/metrics");
    expect(response.headers.get("content-type")).toBe("text/plain; version=0.0.4; charset=utf-8");
    const lines = (await response.text()).split("\n");
    expect(lines.pop()).toBe("");
    const known = new Set<string>();
    for (const line of lines) {
      const comment = /^# (HELP|TYPE) ([a-z0-9_]+) (.+)$/.exec(line);
      if (comment !== null) {
        known.add(`${comment[1]} ${comment[2]}`);
        continue;
      }
      const sample = /^([a-z0-9_]+)(\{[^}]*\})? (\d+(\.\d+)?)$/.exec(line);
      expect(sample, line).not.toBeNull();
      const name = sample?.[1] ?? "";
      const part = /^(.+)_(?:bucket|sum|count)$/.exec(name)?.[1] ?? "";
      const family = known.has(`TYPE ${part}`) ? part : name;
      expect(known).toContain(`HELP ${family}`);
      expect(known).toContain(`TYPE ${family}`);
    }
    expect(lines).toContain("o7s_sessions 1");
    const queries = lines.find((line) => line.startsWith("o7s_queries_total "));
    expect(Number(queries?.split(" ")[1])).toBeGreaterThanOrEqual(1);
  });

  test("counts denials by their code, and names no org", async () => {
    await refusalOf(
      WireClient.login(
        { port: platform.postgresPort },
        { user: org.orgId, password: "wrong", database: "app" },
      ),
    );
    const text = await (await http("/metrics")).text();
    expect(text).toContain('o7s_denials_total{protocol="postgres",code="authentication_failed"} 1');
    expect(text).not.toContain(org.orgId);
  });

  test("answers what it does not have with an error in JSON", async () => {
    const missing = await http("/nothing");
    expect(missing.status).toBe(404);
    expect(await missing.json()).toEqual({ error: "not found" });
    expect((await http("/metrics", { method: "POST" })).status).toBe(405);
  });
});

describe("the start", () => {
  test("is refused by naming every variable at fault, and repeats no secret", async () => {
    const refusal = await refusalOf(
      startService(
        "proxy/main.ts",
        {
          OGEL_MASTER_KEY: "not hexadecimal",
          OGEL_OPERATOR_KEY: "a short secret",
          DATABASE_URL: "mysql://root:secret@nowhere",
          O7S_POSTGRES_PORT: "70000",
          O7S_TLS_CERT: "/a.crt",
          LOG_LEVEL: "loud",
        },
        "started",
      ),
    );
    for (const name of [
      "DATABASE_URL",
      "SHARED_POSTGRES_URLS",
      "OGEL_MASTER_KEY",
      "OGEL_OPERATOR_KEY",
      "O7S_DATA_DIR",
      "O7S_POSTGRES_PORT",
      "O7S_TLS_CERT",
      "LOG_LEVEL",
    ]) {
      expect(refusal.message).toContain(name);
    }
    expect(refusal.message).not.toContain("secret@");
    expect(refusal.message).not.toContain("not hexadecimal");
    expect(refusal.message).not.toContain("a short secret");
  });

  test("on a taken port is refused by naming the variable and the remedy", async () => {
    const taken = String(platform.postgresPort);
    const environment = {
      ...platform.environment,
      O7S_DATA_DIR: `${platform.environment["O7S_DATA_DIR"]}-second`,
      O7S_POSTGRES_PORT: taken,
    };
    const refusal = await refusalOf(startService("proxy/main.ts", environment, "started"));
    expect(refusal.message).toContain(taken);
    expect(refusal.message).toContain("O7S_POSTGRES_PORT");
    expect(refusal.message).toContain("set another");
  });
});

test("at its end sessions are told so, and nothing is left on the server", async () => {
  await using client = await open();
  await client.query("SELECT 1");
  await platform.proxy.stop();
  const ending = await client.untilClosed();
  expect(ending.map(errorText)).toEqual([
    "57P01 terminating connection: this proxy is being restarted",
  ]);
  await using activity = watchActivity(platform.shared);
  await until("its connections' end", async () => {
    return (await activity.backendsOf(org.orgId)).length === 0;
  });
  await platform.restartProxy();
});
