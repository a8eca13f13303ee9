/**
 * Rubbish on the Postgres port: each piece is bounded, closed or answered, and nobody else notices.
 */
import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import postgres, { type Sql } from "postgres";
import { message, STARTUP, startupPacket } from "../../proxy/protocols/postgres/messages.ts";
import { startPlatform, type TestOrg, type TestPlatform } from "../support/platform.ts";
import { until } from "../support/until.ts";
import {
  errorText,
  extended,
  fieldsOf,
  rowsOf,
  startupOf,
  typesOf,
  WireClient,
  type WireMessage,
} from "../support/wire.ts";

const STRANGERS_MAX = 300;
const SSL_REQUEST = startupPacket(STARTUP.sslRequest);
const GSS_REQUEST = startupPacket(STARTUP.gssEncRequest);

let platform: TestPlatform;
let org: TestOrg;
/** Somebody else, who must not notice. */
let bystander: Sql;

beforeAll(async () => {
  platform = await startPlatform({
    environment: {
      O7S_UNAUTHENTICATED_MAX: String(STRANGERS_MAX),
      O7S_LOGIN_DEADLINE_MS: "700",
    },
  });
  org = await platform.createOrg("PRO", { limitQps: 100_000 });
  await platform.createDatabase(org, "app");
  bystander = postgres(platform.url(org, "app"), { max: 1 });
  await bystander`SELECT 1`;
}, 60_000);

afterAll(async () => {
  await bystander.end();
  await platform[Symbol.asyncDispose]();
}, 60_000);

afterEach(async () => {
  expect([...(await bystander`SELECT 42 AS answer`)]).toEqual([{ answer: 42 }]);
});

const connect = (): Promise<WireClient> => WireClient.connect({ port: platform.postgresPort });

const login = (): Promise<WireClient> =>
  WireClient.login(
    { port: platform.postgresPort },
    { user: org.orgId, password: org.token, database: "app" },
  );

function onlyError(messages: readonly WireMessage[]): string {
  expect(typesOf(messages)).toBe("E");
  const [error] = messages;
  return error === undefined ? "" : `${fieldsOf(error)["S"]} ${errorText(error)}`;
}

/** What a stranger is told before the connection ends. */
async function answerTo(...parts: readonly Uint8Array[]): Promise<string> {
  await using client = await connect();
  client.send(...parts);
  return onlyError(await client.untilClosed());
}

async function metric(name: string): Promise<number> {
  const text = await (await fetch(`http://127.0.0.1:${platform.httpPort}/metrics`)).text();
  return Number(new RegExp(`^${name} (\\S+)$`, "m").exec(text)?.[1]);
}

describe("before the login", () => {
  test("garbage is answered with a protocol error and the end", async () => {
    const refused = "FATAL 08P01 invalid length of startup packet";
    expect(await answerTo(Buffer.from("GET / HTTP/1.1\r\n\r\n"))).toBe(refused);
    expect(await answerTo(new Uint8Array(4_096).fill(0xff))).toBe(refused);
    expect(await answerTo(new Uint8Array(64))).toBe(refused);
  });

  test("a length of 2 GB is refused at once, not waited for", async () => {
    expect(await answerTo(Buffer.from("7fffffff", "hex"))).toBe(
      "FATAL 08P01 invalid length of startup packet",
    );
  });

  test("an unknown protocol version is refused by naming those that are known", async () => {
    expect(await answerTo(startupPacket(2 << 16, Uint8Array.of(0)))).toBe(
      "FATAL 08P01 unsupported frontend protocol 2.0: server supports 3.0 to 3.2",
    );
    expect(await answerTo(startupPacket(1234 << 16, Uint8Array.of(0)))).toContain(
      "unsupported frontend protocol 1234.0",
    );
  });

  test("half a startup packet is given up when the deadline has passed", async () => {
    const packet = startupOf({ user: org.orgId, database: "app" });
    expect(await answerTo(packet.subarray(0, packet.length - 5))).toBe(
      "FATAL 08P01 the login took too long",
    );
  });

  test("half a startup packet and then the end leaves nothing behind", async () => {
    const client = await connect();
    client.send(startupOf({ user: org.orgId, database: "app" }).subarray(0, 9));
    client.destroy();
    await until("no strangers", async () => (await metric("o7s_strangers")) === 0);
  });

  test("a login that stops in the middle is given up, and takes no slot of the org", async () => {
    await using client = await connect();
    client.send(startupOf({ user: org.orgId, database: "app" }));
    expect((await client.message()).type).toBe("R");
    expect(onlyError(await client.untilClosed())).toContain("08P01 the login took too long");
    expect(await metric("o7s_sessions")).toBe(1);
  });

  test("something else than a password message is refused", async () => {
    await using client = await connect();
    client.send(startupOf({ user: org.orgId, database: "app" }), message("Q", "SELECT 1"));
    const [offer, ...rest] = await client.untilClosed();
    expect(offer?.type).toBe("R");
    expect(onlyError(rest)).toBe("FATAL 08P01 expected a password message");
  });

  test("a malformed SCRAM message is refused", async () => {
    for (const first of ["", "n,,n=,r=", "rubbish"]) {
      await using client = await connect();
      client.send(startupOf({ user: org.orgId, database: "app" }));
      await client.message();
      const text = Buffer.from(first);
      client.send(message("p", "SCRAM-SHA-256", text.length, text));
      expect(onlyError(await client.untilClosed())).toBe("FATAL 08P01 malformed SCRAM message");
    }
  });

  test("a flood is cut off, however it is dressed", async () => {
    await using client = await connect();
    client.send(startupOf({ user: org.orgId, database: "app" }));
    await client.message();
    client.send(Buffer.from("7000001000", "hex"), new Uint8Array(200_000));
    expect(onlyError(await client.untilClosed())).toContain("FATAL 08P01");
  });

  test("a startup packet without a user is refused", async () => {
    expect(await answerTo(startupPacket(3 << 16, Uint8Array.of(0)))).toBe(
      "FATAL 08P01 no user name in the startup packet",
    );
  });

  test("replication is refused", async () => {
    for (const replication of ["database", "true", "1", "on"]) {
      const parameters = { replication };
      expect(await answerTo(startupOf({ user: org.orgId, database: "app", parameters }))).toBe(
        "FATAL 0A000 replication connections are not available for this database",
      );
    }
  });
});

describe("requests for encryption", () => {
  test("with something smuggled in behind them are refused", async () => {
    const startup = startupOf({ user: org.orgId, database: "app" });
    const refused = "FATAL 08P01 received unencrypted data after SSL request";
    expect(await answerTo(SSL_REQUEST, startup)).toBe(refused);
    expect(await answerTo(SSL_REQUEST, Uint8Array.of(0))).toBe(refused);
    expect(await answerTo(GSS_REQUEST, startup)).toBe(refused);
  });

  test("for GSS are declined, and TLS or cleartext may follow", async () => {
    await using client = await connect();
    client.send(GSS_REQUEST);
    expect(await client.byte()).toBe("N");
    const seen = await client.logIn({ user: org.orgId, password: org.token, database: "app" });
    expect(typesOf(seen)).toEndWith("Z");

    await using other = await connect();
    other.send(GSS_REQUEST);
    expect(await other.byte()).toBe("N");
    other.send(SSL_REQUEST);
    expect(await other.byte()).toBe("S");
  });

  test("for GSS come once", async () => {
    await using client = await connect();
    client.send(GSS_REQUEST);
    expect(await client.byte()).toBe("N");
    client.send(GSS_REQUEST);
    expect(onlyError(await client.untilClosed())).toContain("FATAL 08P01");
  });

  test("for TLS that are followed by no TLS end the connection", async () => {
    await using client = await connect();
    client.send(SSL_REQUEST);
    expect(await client.byte()).toBe("S");
    client.send(SSL_REQUEST);
    await client.ended();
  });
});

describe("protocol versions and options", () => {
  test("3.2 is spoken, with a long cancel key", async () => {
    await using client = await connect();
    const seen = await client.logIn({
      user: org.orgId,
      password: org.token,
      database: "app",
      minor: 2,
    });
    expect(seen.find(({ type }) => type === "K")?.body.length).toBe(4 + 32);
    expect(typesOf(seen)).not.toContain("v");
    expect(rowsOf(await client.query("SELECT 1"))).toEqual([["1"]]);
  });

  test("3.0 gets the short key", async () => {
    await using client = await connect();
    const seen = await client.logIn({ user: org.orgId, password: org.token, database: "app" });
    expect(seen.find(({ type }) => type === "K")?.body.length).toBe(4 + 4);
  });

  test("a later minor version, and options that nobody knows, are negotiated down", async () => {
    await using client = await connect();
    const seen = await client.logIn({
      user: org.orgId,
      password: org.token,
      database: "app",
      minor: 9_999,
      parameters: { "_pq_.colour": "blue", application_name: "x" },
    });
    expect(seen[0]?.type).toBe("v");
    expect(seen[0]?.body).toEqual(
      Buffer.concat([Buffer.from("0003000200000001", "hex"), Buffer.from("_pq_.colour\0")]),
    );
    expect(rowsOf(await client.query("SHOW application_name"))).toEqual([["x"]]);
  });
});

describe("cancel requests", () => {
  const cancelOf = (pid: number, key: Uint8Array): Uint8Array =>
    startupPacket(STARTUP.cancelRequest, pid, key);

  test("for nobody get no answer and the end", async () => {
    for (const bytes of [4, 32, 256]) {
      await using client = await connect();
      client.send(cancelOf(12_345, new Uint8Array(bytes)));
      expect(await client.untilClosed()).toEqual([]);
    }
  });

  test("cancel what runs, if and only if the key is right", async () => {
    await using client = await connect();
    const seen = await client.logIn({ user: org.orgId, password: org.token, database: "app" });
    const key = seen.find(({ type }) => type === "K")?.body;
    if (key === undefined) throw new Error("no key");
    const runs = async (): Promise<boolean> => {
      const rows = await bystander`
        SELECT 1 FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600)' AND state = 'active'`;
      return rows.length > 0;
    };
    client.send(message("Q", "SELECT pg_sleep(600)"));
    await until("the query to run", runs);

    const wrong = Buffer.from(key.subarray(4));
    wrong[0] = (wrong[0] ?? 0) ^ 1;
    await using stranger = await connect();
    stranger.send(cancelOf(key.readUInt32BE(), wrong));
    await stranger.untilClosed();
    expect(await runs()).toBe(true);

    await using friend = await connect();
    friend.send(cancelOf(key.readUInt32BE(), key.subarray(4)));
    await friend.untilClosed();
    const replies = await client.untilReady();
    expect(replies.filter(({ type }) => type === "E").map(errorText)).toEqual([
      "57014 canceling statement due to user request",
    ]);
    expect(rowsOf(await client.query("SELECT 1"))).toEqual([["1"]]);
  });

  test("that come when nothing runs cancel nothing later", async () => {
    await using client = await connect();
    const seen = await client.logIn({ user: org.orgId, password: org.token, database: "app" });
    const key = seen.find(({ type }) => type === "K")?.body ?? Buffer.alloc(8);
    for (let time = 0; time < 5; time++) {
      await using friend = await connect();
      friend.send(cancelOf(key.readUInt32BE(), key.subarray(4)));
      await friend.untilClosed();
      expect(rowsOf(await client.query("SELECT pg_sleep(0.01), 1"))).toEqual([["", "1"]]);
    }
  });
});

describe("a thousand sockets that say nothing", () => {
  test("are bounded, keep nobody out, and are closed when their time is over", async () => {
    const silent = await Promise.all(Array.from({ length: 1_000 }, connect));
    expect(await metric("o7s_strangers")).toBeLessThanOrEqual(STRANGERS_MAX);
    await using client = await login();
    expect(rowsOf(await client.query("SELECT 1"))).toEqual([["1"]]);
    const endings = await Promise.all(silent.map((socket) => socket.untilClosed()));
    const told = endings.flatMap((ending) => ending.map(errorText));
    expect(new Set(told)).toEqual(
      new Set([
        "53300 too many connections that have not logged in",
        "08P01 the login took too long",
      ]),
    );
    await until("no strangers", async () => (await metric("o7s_strangers")) === 0);
  }, 30_000);
});

describe("after the login", () => {
  test("an unknown message type ends the session with a protocol error", async () => {
    await using client = await login();
    client.send(message("z", "what?"));
    expect(onlyError(await client.untilClosed())).toBe(
      `FATAL 08P01 invalid frontend message type ${"z".charCodeAt(0)}`,
    );
  });

  test("a length below four or beyond a gigabyte ends it at once", async () => {
    for (const length of ["00000003", "40000000", "7fffffff", "ffffffff"]) {
      await using client = await login();
      client.send(Buffer.from(`51${length}`, "hex"));
      expect(onlyError(await client.untilClosed())).toBe("FATAL 08P01 invalid message length");
    }
  });

  test("a huge frame is streamed through, not gathered", async () => {
    await using client = await login();
    const before = await metric("process_resident_memory_bytes");
    await client.query("CREATE TABLE frames (a text)");
    client.send(message("Q", "COPY frames FROM STDIN"));
    expect((await client.message()).type).toBe("G");
    const size = 60_000_000;
    const header = Buffer.from("6400000000", "hex");
    header.writeUInt32BE(size + 5, 1);
    client.send(header);
    const piece = Buffer.alloc(1_000_000, 0x78);
    let highest = 0;
    for (let sent = 0; sent < size; sent += piece.length) {
      await client.sendPieces([piece]);
      if (sent % 10_000_000 === 0) {
        highest = Math.max(highest, await metric("process_resident_memory_bytes"));
      }
    }
    client.send(Buffer.from("\n"), message("c"));
    expect(typesOf(await client.untilReady())).toBe("CZ");
    expect(highest - before).toBeLessThan(40_000_000);
  }, 30_000);

  test("a malformed message is the server's to refuse, and the session goes on", async () => {
    await using client = await login();
    client.send(message("D", Buffer.from("X"), "name"), extended.sync);
    const replies = await client.untilReady();
    expect(replies.filter(({ type }) => type === "E").map(errorText)).toEqual([
      "08P01 invalid DESCRIBE message subtype 88",
    ]);
    expect(rowsOf(await client.query("SELECT 1"))).toEqual([["1"]]);
  });

  test("a session that ends in the middle of a message leaves nothing running", async () => {
    const client = await login();
    await client.query("SELECT 1");
    client.send(message("Q", "SELECT pg_sleep(1000) -- half").subarray(0, 12));
    client.destroy();
    await until("the session's end", async () => (await metric("o7s_sessions")) === 1);
  });
});
