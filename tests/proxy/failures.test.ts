/** Things break; what survives is what was promised. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import postgres from "postgres";
import { setOrgStatus } from "../../platform/control/orgs.ts";
import { newOrgId } from "../../platform/ids.ts";
import { message } from "../../proxy/protocols/postgres/messages.ts";
import { type Activity, watchActivity } from "../support/activity.ts";
import { refusalOf } from "../support/outcome.ts";
import { startPlatform, type TestOrg, type TestPlatform } from "../support/platform.ts";
import { until } from "../support/until.ts";
import { errorText, extended, rowsOf, typesOf, WireClient } from "../support/wire.ts";

const ACTOR = { name: "tests", requestId: null };

let platform: TestPlatform;
let activity: Activity;

beforeAll(async () => {
  platform = await startPlatform();
  activity = watchActivity(platform.shared);
}, 60_000);

afterAll(async () => {
  await activity[Symbol.asyncDispose]();
  await platform[Symbol.asyncDispose]();
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

async function residentBytes(): Promise<number> {
  const text = await (await fetch(`http://127.0.0.1:${platform.httpPort}/metrics`)).text();
  return Number(/^process_resident_memory_bytes (\d+)/m.exec(text)?.[1]);
}

async function runs(org: TestOrg, query: string): Promise<boolean> {
  const backends = await activity.backendsOf(org.orgId);
  return backends.some((backend) => backend.state === "active" && backend.query === query);
}

describe("clients that vanish", () => {
  test("in the middle of a query leave nothing running", async () => {
    const org = await newOrg();
    for (const vanish of ["destroy", "endWriting"] as const) {
      const client = await open(org);
      client.send(message("Q", "SELECT pg_sleep(600)"));
      await until("the query", () => runs(org, "SELECT pg_sleep(600)"));
      client[vanish]();
      await until("its end", async () => !(await runs(org, "SELECT pg_sleep(600)")));
      client.destroy();
    }
  });

  test("in the middle of a transaction give up its locks and its changes", async () => {
    const org = await newOrg();
    await using other = await open(org);
    await other.query("CREATE TABLE locked AS SELECT 1 AS a");
    const client = await open(org);
    await client.query("BEGIN");
    await client.query("UPDATE locked SET a = 2");
    client.destroy();
    expect(typesOf(await other.query("UPDATE locked SET a = a + 10"))).toBe("CZ");
    expect(rowsOf(await other.query("SELECT a FROM locked"))).toEqual([["11"]]);
  });

  test("in the middle of a COPY leave none of its rows", async () => {
    const org = await newOrg();
    await using other = await open(org);
    await other.query("CREATE TABLE copied (a int)");
    const client = await open(org);
    client.send(message("Q", "COPY copied FROM STDIN"));
    await client.message();
    client.send(message("d", Buffer.from("1\n2\n")));
    client.destroy();
    await until("its end", async () => !(await runs(org, "COPY copied FROM STDIN")));
    expect(rowsOf(await other.query("SELECT count(*) FROM copied"))).toEqual([["0"]]);
  });

  test("leave no state to whoever comes next", async () => {
    const org = await newOrg();
    const client = await open(org);
    await client.query("SET application_name = 'left over'");
    await client.query("CREATE TEMP TABLE left_over (a int)");
    await client.query("SELECT pg_advisory_lock(42)");
    await client.query("LISTEN left_over");
    client.destroy();
    for (let time = 0; time < 3; time++) {
      await using next = await open(org);
      const seen = await next.query(`
        SELECT current_setting('application_name'), to_regclass('pg_temp.left_over'),
          pg_try_advisory_lock(42), (SELECT count(*) FROM pg_listening_channels())`);
      expect(rowsOf(seen)).toEqual([["", null, "t", "0"]]);
      await next.query("SELECT pg_advisory_unlock(42)");
    }
  });
});

describe("a client that does not read", () => {
  test("holds up nobody and costs no memory, however much it has asked for", async () => {
    const org = await newOrg();
    await using other = await open(org);
    await other.query("SELECT 1");
    const before = await residentBytes();
    await using slow = await open(org);
    slow.pause();
    const query = "SELECT repeat('x', 1000) FROM generate_series(1, 300000)";
    slow.send(message("Q", query));
    await until("the server to be held up", async () => {
      const [wait] = rowsOf(
        await other.query(
          `SELECT wait_event FROM pg_stat_activity WHERE query LIKE 'SELECT repeat(%' AND state = 'active'`,
        ),
      );
      return wait?.[0] === "ClientWrite";
    });
    expect((await residentBytes()) - before).toBeLessThan(50_000_000);
    expect(rowsOf(await other.query("SELECT 2"))).toEqual([["2"]]);
    slow.resume();
    let rows = 0;
    for (let type = ""; type !== "Z"; ) {
      ({ type } = await slow.message());
      if (type === "D") rows += 1;
    }
    expect(rows).toBe(300_000);
  }, 60_000);

  test("and goes on sending does not lock up: everything is answered once it reads", async () => {
    const org = await newOrg();
    await using client = await open(org);
    client.pause();
    const count = 3_000;
    const padding = "x".repeat(2_000);
    client.send(
      ...Array.from({ length: count }, (_, n) =>
        message("Q", `SELECT ${n}, repeat('y', 2000) /* ${padding} */`),
      ),
    );
    client.resume();
    const replies = await client.untilReady(count);
    expect(rowsOf(replies).map(([n]) => Number(n))).toEqual(
      Array.from({ length: count }, (_, n) => n),
    );
  }, 60_000);
});

describe("when the server behind it goes away", () => {
  test("sessions that hold nothing do not notice a restart", async () => {
    const org = await newOrg();
    const sql = postgres(platform.url(org, "app"), { max: 1, idle_timeout: 600 });
    const client = await open(org);
    await sql`SELECT ${"prepared"} AS before`;
    await client.query("SELECT 1");
    await platform.shared.kill();
    await platform.shared.restart();
    expect([...(await sql`SELECT ${"prepared"} AS before`)]).toEqual([{ before: "prepared" }]);
    expect(rowsOf(await client.query("SELECT 2"))).toEqual([["2"]]);
    await sql.end();
    client.destroy();
  }, 30_000);

  test("a session in a transaction is told the truth, in the server's own words where it has any", async () => {
    const org = await newOrg();
    const told = await open(org);
    await told.query("BEGIN");
    expect(await activity.terminate(org.orgId)).toBe(1);
    const ending = await told.untilClosed();
    expect(ending.map(errorText)).toEqual([
      "57P01 terminating connection due to administrator command",
    ]);
  });

  test("a session whose server process dies without a word is told that the connection is lost", async () => {
    const org = await newOrg();
    const client = await open(org);
    await client.query("BEGIN");
    const [backend] = await activity.backendsOf(org.orgId);
    if (backend === undefined) throw new Error("no server process");
    process.kill(backend.pid, "SIGKILL");
    const ending = await client.untilClosed();
    expect(ending.map(errorText)).toEqual(["08006 the connection to the database was lost"]);
    // The server restarts itself after such a death.
    await until("the server", async () => {
      const again = await open(org).catch(() => null);
      const answer = await again?.query("SELECT 1").catch(() => []);
      again?.destroy();
      return rowsOf(answer ?? []).length === 1;
    });
  }, 30_000);

  test("a running statement is told the truth, and not run again", async () => {
    const org = await newOrg();
    await using client = await open(org);
    client.send(message("Q", "SELECT pg_sleep(600)"));
    await until("the query", () => runs(org, "SELECT pg_sleep(600)"));
    await activity.terminate(org.orgId);
    const ending = await client.untilClosed();
    expect(ending.filter(({ type }) => type === "E").map(errorText)).toEqual([
      "57P01 terminating connection due to administrator command",
    ]);
    expect(await runs(org, "SELECT pg_sleep(600)")).toBe(false);
  });

  test("new connections are told to try again, and get in when it is back", async () => {
    const org = await newOrg();
    await platform.shared.kill();
    const refusal = await refusalOf(open(org));
    expect(refusal.message).toBe("57P03 the database cannot be reached right now");
    await platform.shared.restart();
    await using client = await until("the way in", () => open(org).catch(() => null));
    expect(rowsOf(await client.query("SELECT 1"))).toEqual([["1"]]);
  }, 30_000);
});

describe("when the control plane goes away", () => {
  test("who is known goes on, who is not is told to come again, and changes arrive afterwards", async () => {
    const org = await newOrg();
    const client = await open(org);
    // Servers in tests commit without waiting for their disks: what was done so far is to survive
    // the kill.
    await platform.sql.unsafe("CHECKPOINT");
    await platform.control.kill();
    expect(rowsOf(await client.query("SELECT 1"))).toEqual([["1"]]);
    (await open(org)).destroy();
    const stranger = WireClient.login(
      { port: platform.postgresPort },
      { user: newOrgId(), password: "any", database: "app" },
    );
    expect((await refusalOf(stranger)).message).toBe("57P03 logins cannot be checked right now");
    await platform.control.restart();
    await until("the control plane", () =>
      setOrgStatus(platform.sql, org.orgId, "suspended", ACTOR).catch(() => null),
    );
    const ending = await client.untilClosed();
    expect(ending.map(errorText)).toEqual(["28000 this org is suspended"]);
  }, 30_000);
});

describe("COPY in the extended protocol", () => {
  test("with the Sync that clients send along leaves the session idle and in step", async () => {
    const org = await newOrg();
    await using client = await open(org);
    await client.query("CREATE TABLE copied (a int)");
    client.send(
      extended.parse("", "COPY copied FROM STDIN"),
      extended.bind("", ""),
      extended.execute(""),
      extended.sync,
    );
    expect(typesOf([await client.message(), await client.message(), await client.message()])).toBe(
      "12G",
    );
    // The server ignores a Sync while it copies, so there is one ReadyForQuery for two of them.
    client.send(message("d", Buffer.from("1\n2\n")), message("c"), extended.sync);
    expect(typesOf(await client.untilReady())).toBe("CZ");
    expect(rowsOf(await client.query("SELECT count(*) FROM copied"))).toEqual([["2"]]);
    // A session that owes nothing has given its connection back to the pool.
    const lent = async (): Promise<string | undefined> => {
      const text = await (await fetch(`http://127.0.0.1:${platform.httpPort}/metrics`)).text();
      return /^o7s_upstreams_lent (\d+)/m.exec(text)?.[1];
    };
    await until("the connection to be given back", async () => (await lent()) === "0");
  });

  test("that fails is skipped to its Sync", async () => {
    const org = await newOrg();
    await using client = await open(org);
    await client.query("CREATE TABLE copied (a int)");
    client.send(
      extended.parse("", "COPY copied FROM STDIN"),
      extended.bind("", ""),
      extended.execute(""),
      extended.flush,
    );
    for (const type of "12G") expect((await client.message()).type).toBe(type);
    client.send(message("f", "changed my mind"), extended.parse("", "SELECT 1"), extended.sync);
    const replies = await client.untilReady();
    expect(typesOf(replies)).toBe("EZ");
    expect(replies.slice(0, 1).map(errorText)).toEqual([
      "57014 COPY from stdin failed: changed my mind",
    ]);
    expect(rowsOf(await client.query("SELECT 1"))).toEqual([["1"]]);
  });
});
