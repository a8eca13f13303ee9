/** What is counted equals what happened, whatever happens to the proxy. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import type { OrgId } from "../../platform/ids.ts";
import { flushUsage } from "../../platform/usage/flush.ts";
import type { UsageFigures } from "../../platform/usage/quantities.ts";
import { periodOf, readUsage } from "../../platform/usage/report.ts";
import { message } from "../../proxy/protocols/postgres/messages.ts";
import { startPlatform, type TestOrg, type TestPlatform } from "../support/platform.ts";
import { isInstalled, run } from "../support/programs.ts";
import { until } from "../support/until.ts";
import { extended, typesOf, WireClient } from "../support/wire.ts";

let platform: TestPlatform;
const scratch = mkdtempSync(path.join(tmpdir(), "ogel-metering-"));

beforeAll(async () => {
  platform = await startPlatform();
}, 60_000);

afterAll(async () => {
  await platform[Symbol.asyncDispose]();
  rmSync(scratch, { recursive: true, force: true });
}, 60_000);

async function newOrg(): Promise<TestOrg> {
  const org = await platform.createOrg("ENTERPRISE", { limitQps: 1_000_000 });
  await platform.createDatabase(org, "app");
  return org;
}

const open = (org: TestOrg): Promise<WireClient> =>
  WireClient.login(
    { port: platform.postgresPort },
    { user: org.orgId, password: org.token, database: "app" },
  );

async function usageOf(orgId: OrgId): Promise<UsageFigures> {
  expect(await flushUsage(platform.sql, 10_000)).toEqual({ complete: true });
  return (await readUsage(platform.sql, orgId, periodOf(Date.now()))).quantities;
}

/** Waits until the files that dead proxies left have been reported. */
async function inherited(): Promise<void> {
  const directory = path.join(platform.environment["O7S_DATA_DIR"] ?? "", "usage");
  await until("the inheritance", () => readdirSync(directory).length === 1);
}

describe.skipIf(!isInstalled("pgbench"))("a known run of pgbench", () => {
  test.each(["simple", "extended", "prepared"])(
    "in %s mode is counted exactly",
    async (mode) => {
      const org = await newOrg();
      const script = path.join(scratch, "script.sql");
      writeFileSync(script, "SELECT generate_series(1, 7);\nINSERT INTO ran VALUES (1), (2);\n");
      {
        await using client = await open(org);
        await client.query("CREATE TABLE ran (a int)");
      }
      const before = await usageOf(org.orgId);
      expect(before.queries).toBe(1);
      const bench = ["pgbench", "-n", "-M", mode, "-c", "4", "-t", "50", "-f", script];
      const { stdout } = await run([...bench, platform.url(org, "app")]);
      expect(stdout).toContain("number of transactions actually processed: 200/200");
      const after = await usageOf(org.orgId);
      expect(after.queries - before.queries).toBe(400);
      expect(after.rows - before.rows).toBe(200 * (7 + 2));
      // Each transaction's statements are some 60 bytes of text at least, its rows 7 times a
      // DataRow of 12 or so.
      expect(after.bytesIn - before.bytesIn).toBeGreaterThan(mode === "simple" ? 12_000 : 2_000);
      expect(after.bytesIn - before.bytesIn).toBeLessThan(200 * 1_000);
      expect(after.bytesOut - before.bytesOut).toBeGreaterThan(200 * 7 * 12);
      expect(after.bytesOut - before.bytesOut).toBeLessThan(200 * 2_000);
      expect(after.busyMs).toBeGreaterThan(before.busyMs);
    },
    30_000,
  );
});

describe("what counts as a query and as a row", () => {
  const cases: readonly (readonly [string, Uint8Array[], number, number, number])[] = [
    ["a SELECT", [message("Q", "SELECT generate_series(1, 5)")], 1, 1, 5],
    ["each statement of a message", [message("Q", "SELECT 1; SELECT 2; SELECT 3")], 1, 3, 3],
    ["a failed statement", [message("Q", "SELECT 1/0")], 1, 1, 0],
    ["those before a failure, and it", [message("Q", "SELECT 1; SELECT 1/0; SELECT 2")], 1, 2, 1],
    ["an empty query", [message("Q", ";")], 1, 1, 0],
    ["rows that were changed", [message("Q", "UPDATE counted SET a = a + 1")], 1, 1, 3],
    ["rows that were copied out", [message("Q", "COPY counted TO STDOUT")], 1, 1, 3],
    [
      "an Execute, not its Parse, Bind and Describe",
      [
        extended.parse("", "SELECT generate_series(1, 4)"),
        extended.describeStatement(""),
        extended.bind("", ""),
        extended.describePortal(""),
        extended.execute(""),
        extended.sync,
      ],
      1,
      1,
      4,
    ],
    [
      "each Execute of a portal, and each row once",
      [
        extended.parse("", "SELECT generate_series(1, 5)"),
        extended.bind("", ""),
        extended.execute("", 2),
        extended.execute("", 2),
        extended.execute("", 2),
        extended.sync,
      ],
      1,
      3,
      5,
    ],
    ["a Parse alone as nothing", [extended.parse("", "SELECT 1"), extended.sync], 1, 0, 0],
  ];
  test.each(cases)("%s", async (_, messages, readies, queries, rows) => {
    const org = await newOrg();
    await using client = await open(org);
    await client.query("CREATE TABLE counted AS SELECT generate_series(1, 3) AS a");
    const before = await usageOf(org.orgId);
    client.send(...messages);
    await client.untilReady(readies);
    const after = await usageOf(org.orgId);
    expect(after.queries - before.queries).toBe(queries);
    expect(after.rows - before.rows).toBe(rows);
  });

  test("rows copied in", async () => {
    const org = await newOrg();
    await using client = await open(org);
    await client.query("CREATE TABLE counted (a int)");
    const before = await usageOf(org.orgId);
    client.send(message("Q", "COPY counted FROM STDIN"));
    await client.message();
    client.send(message("d", Buffer.from("1\n2\n3\n4\n")), message("c"));
    expect(typesOf(await client.untilReady())).toBe("CZ");
    const after = await usageOf(org.orgId);
    expect(after.queries - before.queries).toBe(1);
    expect(after.rows - before.rows).toBe(4);
  });

  test("bytes are those after the login, each way, to the byte", async () => {
    const org = await newOrg();
    await using client = await open(org);
    const sent = message("Q", "SELECT repeat('x', 1000) FROM generate_series(1, 100)");
    client.send(sent);
    const replies = await client.untilReady();
    const received = replies.reduce((bytes, { body }) => bytes + 5 + body.length, 0);
    const usage = await usageOf(org.orgId);
    expect(usage.bytesIn).toBe(sent.length);
    expect(usage.bytesOut).toBe(received);
  });

  test("time is the database's, not the client's own slowness between its queries", async () => {
    const org = await newOrg();
    await using client = await open(org);
    await client.query("SELECT pg_sleep(0.2)");
    const { busyMs } = await usageOf(org.orgId);
    expect(busyMs).toBeGreaterThanOrEqual(200);
    // Asking for the usage takes time in which this session is idle: it must not count.
    const again = await usageOf(org.orgId);
    expect(again.busyMs).toBe(busyMs);
  });
});

/** A client that always has `depth` queries under way, and knows how many have been answered. */
class Load {
  sent = 0;
  answered = 0;
  readonly #client: WireClient;

  constructor(client: WireClient) {
    this.#client = client;
  }

  async run(depth: number): Promise<void> {
    const batch = Array.from({ length: depth }, () => message("Q", "SELECT 1"));
    try {
      for (;;) {
        this.#client.send(...batch);
        this.sent += depth;
        for (let left = depth / 2; left > 0; ) {
          const { type } = await this.#client.message();
          if (type === "C") this.answered += 1;
          if (type === "Z") left -= 1;
        }
        // From here on half a batch is always under way when the next is sent.
        batch.length = depth / 2;
        depth = batch.length * 2;
      }
    } catch {
      // The proxy has been killed; what had arrived by then has been taken.
    }
  }
}

test("after kill -9 under pipelined load, usage lies between what was seen and what was sent", async () => {
  const org = await newOrg();
  let [seen, sent] = [0, 0];
  for (let kill = 1; kill <= 3; kill++) {
    const loads = await Promise.all([1, 2, 3].map(async () => new Load(await open(org))));
    const runs = loads.map((load) => load.run(40));
    await until("load", () => loads.every((load) => load.answered > 300 * kill));
    await platform.proxy.kill();
    await Promise.all(runs);
    for (const load of loads) {
      seen += load.answered;
      sent += load.sent;
    }
    await platform.restartProxy();
    await inherited();
    const { queries, rows } = await usageOf(org.orgId);
    expect(queries).toBeGreaterThanOrEqual(seen);
    expect(queries).toBeLessThanOrEqual(sent);
    expect(rows).toBe(queries);
  }
}, 60_000);

test("restarts, clean or not, neither lose nor double what was counted", async () => {
  const org = await newOrg();
  for (let n = 1; n <= 20; n++) {
    await using client = await open(org);
    await client.query("SELECT 1");
  }
  expect((await usageOf(org.orgId)).queries).toBe(20);
  for (const end of ["kill", "kill", "stop", "stop"] as const) {
    await platform.proxy[end]();
    await platform.restartProxy();
    await inherited();
    expect((await usageOf(org.orgId)).queries).toBe(20);
  }
}, 30_000);

test("what is counted while the control plane is away is reported when it is back", async () => {
  const org = await newOrg();
  await using client = await open(org);
  await client.query("SELECT 1");
  await platform.control.kill();
  for (let n = 0; n < 10; n++) await client.query("SELECT 1");
  await platform.control.restart();
  await until("the report", async () => {
    const usage = await readUsage(platform.sql, org.orgId, periodOf(Date.now())).catch(() => null);
    return usage?.quantities.queries === 11;
  });
}, 30_000);
