/** TLS from the first byte, as libpq's `sslnegotiation=direct` and pg's do it. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { connect, type TLSSocket } from "node:tls";
import { Client } from "pg";
import { startPlatform, type TestOrg, type TestPlatform } from "../support/platform.ts";

let platform: TestPlatform;
let org: TestOrg;

beforeAll(async () => {
  platform = await startPlatform();
  org = await platform.createOrg("ENTERPRISE");
  await platform.createDatabase(org, "app");
}, 60_000);

afterAll(async () => {
  await platform[Symbol.asyncDispose]();
}, 60_000);

function directClient(): Client {
  return new Client({
    connectionString: platform.url(org, "app"),
    ssl: { rejectUnauthorized: false },
    sslnegotiation: "direct",
  });
}

test("a client that begins with TLS logs in and reads results larger than any buffer", async () => {
  const client = directClient();
  await client.connect();
  const { rows } = await client.query(
    "SELECT repeat('x', 1000) AS x FROM generate_series(1, 20000)",
  );
  expect(rows.length).toBe(20_000);
  expect(rows.every(({ x }: { x: string }) => x.length === 1_000)).toBe(true);
  await client.end();
});

test("its session is ended like any other, with the last message encrypted too", async () => {
  const client = directClient();
  client.on("error", () => {});
  await client.connect();
  await expect(client.query("SELECT 1 / 0")).rejects.toMatchObject({ code: "22012" });
  const { rows } = await client.query("SELECT 1 AS one");
  expect(rows).toEqual([{ one: 1 }]);
  await client.end();
});

test("one that does not name the protocol by ALPN is not let in", async () => {
  const socket: TLSSocket = connect({
    port: platform.postgresPort,
    host: "127.0.0.1",
    rejectUnauthorized: false,
  });
  const received: Buffer[] = [];
  socket.on("data", (bytes: Buffer) => received.push(bytes));
  socket.on("secureConnect", () => socket.write(Buffer.from([0, 0, 0, 8, 4, 210, 22, 47])));
  const { promise, resolve } = Promise.withResolvers<void>();
  socket.on("error", () => {});
  socket.on("close", () => resolve());
  await promise;
  expect(Buffer.concat(received).length).toBe(0);
});

test("a handshake of rubbish costs nothing but itself", async () => {
  const closed = Promise.withResolvers<void>();
  const socket = await Bun.connect({
    hostname: "127.0.0.1",
    port: platform.postgresPort,
    socket: {
      data() {},
      close: () => closed.resolve(),
    },
  });
  socket.write(Buffer.concat([Buffer.from([0x16, 3, 1, 2, 0]), Buffer.alloc(600, 0xaa)]));
  await closed.promise;
  const client = directClient();
  await client.connect();
  await client.end();
});
