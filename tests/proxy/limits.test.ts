/** What the tiers allow, and what happens to open sessions when that changes. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import pg from "pg";
import { setAllowedNetworks } from "../../platform/control/databases.ts";
import { setLimits, setOrgStatus, setTier } from "../../platform/control/orgs.ts";
import { createToken, listTokens, revokeToken } from "../../platform/control/tokens.ts";
import { message } from "../../proxy/protocols/postgres/messages.ts";
import { refusalOf } from "../support/outcome.ts";
import { startPlatform, type TestOrg, type TestPlatform } from "../support/platform.ts";
import { until, within } from "../support/until.ts";
import {
  errorText,
  extended,
  fieldsOf,
  rowsOf,
  typesOf,
  WireClient,
  type WireMessage,
} from "../support/wire.ts";

const ACTOR = { name: "tests", requestId: null };
/** A change must reach open sessions within a second; the rest is for a busy machine. */
const EFFECT_DEADLINE_MS = 3_000;

let platform: TestPlatform;
/**
 * The replies to a statement that runs into its tier's timeout while the other tests run, and to
 * one after it.
 */
let overdue: Promise<readonly WireMessage[]>;

beforeAll(async () => {
  platform = await startPlatform();
  overdue = runOverdue(await orgWith("FREE"));
  overdue.catch(() => {}); // Awaited by its test.
}, 60_000);

afterAll(async () => {
  await platform[Symbol.asyncDispose]();
}, 60_000);

async function orgWith(...settings: Parameters<TestPlatform["createOrg"]>): Promise<TestOrg> {
  const org = await platform.createOrg(...settings);
  await platform.createDatabase(org, "app");
  return org;
}

async function open(org: TestOrg, token = org.token, database = "app"): Promise<WireClient> {
  return await WireClient.login(
    { port: platform.postgresPort },
    { user: org.orgId, password: token, database },
  );
}

async function runOverdue(org: TestOrg): Promise<readonly WireMessage[]> {
  await using client = await open(org);
  await client.query("SET statement_timeout = 0");
  const replies = await client.query("SELECT pg_sleep(600)");
  return [...replies, ...(await client.query("SELECT 'still here'"))];
}

function pgClient(org: TestOrg): pg.Client {
  const client = new pg.Client({ connectionString: platform.url(org, "app") });
  client.on("error", () => {});
  return client;
}

describe("the connection gate", () => {
  test("refuses a FREE org's sixth connection by tier, limit and remedy, until one closes", async () => {
    const org = await orgWith("FREE");
    await platform.createDatabase(org, "second");
    const clients = await Promise.all([1, 2, 3, 4].map(() => open(org)));
    clients.push(await open(org, org.token, "second"));
    expect(await refusalOf(pgClient(org).connect())).toEqual({
      code: "53300",
      message: "too many connections: the FREE tier allows 5 per org, over all its databases",
      hint: "Close a connection, make your client's pool smaller, or upgrade the tier.",
    });
    clients[2]?.destroy();
    const next = await until("a place", () =>
      open(org).catch((error: Error) => {
        expect(error.message).toStartWith("53300");
        return null;
      }),
    );
    for (const client of [...clients, next]) client.destroy();
  });

  test("admits exactly as many as the tier allows when all come at once", async () => {
    const org = await orgWith("FREE");
    const results = await Promise.allSettled(Array.from({ length: 30 }, () => open(org)));
    const admitted = results.filter((result) => result.status === "fulfilled");
    expect(admitted.length).toBe(5);
    for (const { value } of admitted) value.destroy();
  });

  test("loses no place to logins that fail or clients that vanish", async () => {
    const org = await orgWith("FREE");
    for (let time = 0; time < 8; time++) {
      await refusalOf(open(org, org.token, "nowhere"));
      (await open(org)).destroy();
    }
    const clients = await until("all five places", async () => {
      const results = await Promise.allSettled([1, 2, 3, 4, 5].map(() => open(org)));
      const admitted = results.flatMap((result) =>
        result.status === "fulfilled" ? [result.value] : [],
      );
      if (admitted.length === 5) return admitted;
      for (const client of admitted) client.destroy();
      return null;
    });
    for (const client of clients) client.destroy();
  });
});

describe("the rate limiter", () => {
  test("slows sequential queries down to the tier's rate, and refuses none", async () => {
    const org = await orgWith("FREE", { limitQps: 20 });
    await using client = await open(org);
    const started = performance.now();
    for (let n = 0; n < 30; n++) {
      expect(rowsOf(await client.query(`SELECT ${n}`))).toEqual([[String(n)]]);
    }
    // A burst of 20, then one every 50 ms: this cannot be done faster, however fast the machine.
    expect(performance.now() - started).toBeGreaterThanOrEqual(499);
  });

  test("refuses what would wait too long in a pipeline, and runs the rest in its order", async () => {
    const org = await orgWith("FREE", { limitQps: 10 });
    await using client = await open(org);
    const count = 40;
    client.send(...Array.from({ length: count }, (_, n) => message("Q", `SELECT ${n}`)));
    const replies = await client.untilReady(count);
    const refused = replies.filter(({ type }) => type === "E");
    // A burst of ten and a second's worth of waiting run; what would have to wait longer does not.
    expect(refused.length).toBeGreaterThanOrEqual(10);
    expect(refused.length).toBeLessThanOrEqual(25);
    const fields = refused.map(fieldsOf)[0] ?? {};
    expect(fields["S"]).toBe("ERROR");
    expect(fields["C"]).toBe("53400");
    expect(fields["M"]).toBe(
      "query rate exceeded: the FREE tier allows 10 queries per second per org",
    );
    expect(fields["H"]).toMatch(/^Retry in [\d.]+ s, send fewer queries at once, or upgrade/);
    const answered = rowsOf(replies).map(([value]) => Number(value));
    expect(answered.length).toBe(count - refused.length);
    expect(answered).toEqual([...answered].sort((a, b) => a - b));
  }, 20_000);

  test("skips a refused batch up to its Sync, as the server does after an error", async () => {
    const org = await orgWith("FREE", { limitQps: 5 });
    await using client = await open(org);
    const batch = [
      extended.parse("", "SELECT 1"),
      extended.bind("", ""),
      extended.execute(""),
      extended.sync,
    ];
    client.send(...Array.from({ length: 20 }, () => batch).flat());
    const replies = typesOf(await client.untilReady(20));
    expect(replies).toMatch(/^(12DCZ|12EZ|1EZ|EZ)+$/);
    expect(replies).toContain("E");
    expect(await client.query("SELECT 1").then(typesOf)).toMatch(/^(TDCZ|EZ)$/);
  }, 20_000);

  test("makes a transaction wait rather than fail, however long", async () => {
    const org = await orgWith("FREE", { limitQps: 10 });
    await using client = await open(org);
    await client.query("BEGIN");
    const count = 25;
    client.send(...Array.from({ length: count }, (_, n) => message("Q", `SELECT ${n}`)));
    const replies = await client.untilReady(count);
    expect(replies.filter(({ type }) => type === "E")).toEqual([]);
    expect(rowsOf(replies).map(([value]) => Number(value))).toEqual(
      Array.from({ length: count }, (_, n) => n),
    );
  }, 20_000);

  test("charges for every statement of a message", async () => {
    const org = await orgWith("FREE", { limitQps: 10 });
    await using client = await open(org);
    const replies = await client.query("SELECT 1;".repeat(15));
    expect(rowsOf(replies).length).toBe(15);
    const started = performance.now();
    await client.query("SELECT 2");
    // Fifteen where ten may be at once: half a second is owed, and one more to come.
    expect(performance.now() - started).toBeGreaterThanOrEqual(400);
  });

  test("leaves other orgs their own rates", async () => {
    const [slow, other] = [await orgWith("FREE", { limitQps: 1 }), await orgWith("FREE")];
    await using client = await open(slow);
    await client.query("SELECT 1");
    client.send(message("Q", "SELECT 2"));
    await using free = await open(other);
    for (let n = 0; n < 5; n++) await free.query("SELECT 1");
    expect(client.pendingBytes).toBe(0);
    await client.untilReady();
  });
});

describe("a change in the control plane reaches open sessions", () => {
  test("a higher tier lets more in and runs faster", async () => {
    const org = await orgWith("FREE");
    await using client = await open(org);
    await setTier(platform.sql, org.orgId, "PRO", ACTOR);
    const clients = await until(
      "the sixth place",
      async () => {
        const results = await Promise.allSettled([1, 2, 3, 4, 5].map(() => open(org)));
        const admitted = results.flatMap((result) =>
          result.status === "fulfilled" ? [result.value] : [],
        );
        if (admitted.length === 5) return admitted;
        for (const one of admitted) one.destroy();
        return null;
      },
      EFFECT_DEADLINE_MS,
    );
    // 60 queries would take five seconds at 10 per second; the longest wait of all is refused.
    client.send(...Array.from({ length: 60 }, () => message("Q", "SELECT 1")));
    const replies = await client.untilReady(60);
    expect(replies.filter(({ type }) => type === "E")).toEqual([]);
    for (const one of clients) one.destroy();
  });

  test("a lower limit ends the youngest sessions, and says why", async () => {
    const org = await orgWith("PRO");
    await using oldest = await open(org);
    await using youngest = await open(org);
    await setLimits(platform.sql, org.orgId, { connections: 1 }, ACTOR);
    const [error] = await within("its end", youngest.untilClosed(), EFFECT_DEADLINE_MS);
    expect(error && errorText(error)).toBe(
      "53300 too many connections: the PRO tier allows 1 per org, over all its databases",
    );
    expect(rowsOf(await oldest.query("SELECT 1"))).toEqual([["1"]]);
  });

  test("a revoked token ends its sessions and no others, and lets nobody in any more", async () => {
    const org = await orgWith("PRO");
    const [first] = await listTokens(platform.sql, org.orgId);
    if (first === undefined) throw new Error("no token");
    const second = await createToken(platform.sql, org.orgId, ACTOR);
    await using revoked = await open(org);
    await using kept = await until("the new token", () =>
      open(org, second.secret).catch(() => null),
    );
    await revokeToken(platform.sql, org.orgId, first.tokenId, ACTOR);
    const [error] = await within("its end", revoked.untilClosed(), EFFECT_DEADLINE_MS);
    expect(error && errorText(error)).toBe(
      "57P01 terminating connection: the token it logged in with has been revoked",
    );
    expect(rowsOf(await kept.query("SELECT 1"))).toEqual([["1"]]);
    expect((await refusalOf(open(org))).message).toStartWith(
      "28P01 password authentication failed",
    );
  });

  test("a database's networks let in who is listed, and end the sessions of others", async () => {
    const org = await orgWith("PRO");
    await platform.createDatabase(org, "second");
    const allow = (...networks: readonly string[]) =>
      setAllowedNetworks(platform.sql, { orgId: org.orgId, address: "app", networks }, ACTOR);
    const denied = '28000 connections from 127.0.0.1 are not allowed to database "app"';
    await using here = await open(org);
    await using elsewhere = await open(org, org.token, "second");
    await allow("203.0.113.0/24", "2001:db8::/32");
    const [error] = await within("its end", here.untilClosed(), EFFECT_DEADLINE_MS);
    expect(error && errorText(error)).toBe(denied);
    expect((await refusalOf(open(org))).message).toBe(denied);
    expect((await refusalOf(open(org, "ogel_wrong"))).message).toStartWith("28P01 ");
    expect(rowsOf(await elsewhere.query("SELECT 1"))).toEqual([["1"]]);
    await allow("203.0.113.0/24", "127.0.0.0/8");
    await using listed = await until("the list", () => open(org).catch(() => null));
    await allow();
    expect(rowsOf(await listed.query("SELECT 1"))).toEqual([["1"]]);
  });

  test("a suspension ends sessions also while they run something, and a resumption undoes it", async () => {
    const org = await orgWith("PRO");
    await using idle = await open(org);
    await using busy = await open(org);
    busy.send(message("Q", "SELECT pg_sleep(600)"));
    await setOrgStatus(platform.sql, org.orgId, "suspended", ACTOR);
    for (const client of [idle, busy]) {
      const ending = await within("its end", client.untilClosed(), EFFECT_DEADLINE_MS);
      expect(ending.slice(-1).map(errorText)).toEqual(["28000 this org is suspended"]);
    }
    expect((await refusalOf(open(org))).message).toBe("28000 this org is suspended");
    await setOrgStatus(platform.sql, org.orgId, "active", ACTOR);
    await using again = await until("the resumption", () => open(org).catch(() => null));
    expect(rowsOf(await again.query("SELECT 1"))).toEqual([["1"]]);
  });
});

describe("the tier's statement timeout", () => {
  test("cancels a statement though the tenant has set its way past the server's", async () => {
    const replies = await within("the cancellation", overdue, 25_000);
    const [error] = replies.filter(({ type }) => type === "E");
    if (error === undefined) throw new Error("not cancelled");
    expect(errorText(error)).toBe(
      "57014 canceling statement: the FREE tier allows 15 seconds for a statement",
    );
    expect(fieldsOf(error)["H"]).toBe("Make the statement do less at a time, or upgrade the tier.");
    expect(rowsOf(replies)).toEqual([["still here"]]);
  }, 40_000);
});
