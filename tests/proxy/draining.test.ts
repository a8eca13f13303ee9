/** Replacing a running proxy: who is served until when, and that nobody loses anything by it. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { Client } from "pg";
import { message } from "../../proxy/protocols/postgres/messages.ts";
import { type Service, startService } from "../../scripts/bench/service.ts";
import { refusalOf } from "../support/outcome.ts";
import { startPlatform, type TestOrg, type TestPlatform } from "../support/platform.ts";
import { until } from "../support/until.ts";
import { errorText, rowsOf, typesOf, WireClient } from "../support/wire.ts";

const RESTARTING = "57P01 terminating connection: this proxy is being restarted";

// Draining takes its time, and machines that run tests are busy.
setDefaultTimeout(30_000);

let platform: TestPlatform;
let org: TestOrg;

beforeAll(async () => {
  platform = await startPlatform();
  org = await platform.createOrg("ENTERPRISE", { limitQps: 1_000_000 });
  await platform.createDatabase(org, "app");
}, 60_000);

afterAll(async () => {
  await platform[Symbol.asyncDispose]();
}, 60_000);

type OwnProxy = { readonly service: Service; readonly port: number; readonly httpPort: number };

let directories = 0;

/** A proxy of a test's own, on ports that others may share. */
async function startProxy(environment: Readonly<Record<string, string>>): Promise<OwnProxy> {
  directories += 1;
  const service = await startService(
    "proxy/main.ts",
    {
      ...platform.environment,
      O7S_DATA_DIR: `${platform.environment["O7S_DATA_DIR"]}-drain-${directories}`,
      ...environment,
    },
    "started",
  );
  const { postgresPort, httpPort } = service.started;
  return { service, port: Number(postgresPort), httpPort: Number(httpPort) };
}

const open = ({ port }: OwnProxy): Promise<WireClient> =>
  WireClient.login({ port }, { user: org.orgId, password: org.token, database: "app" });

const isDraining = ({ service }: OwnProxy): Promise<string> =>
  service.logged((line) => line.includes('"event":"draining"'));

describe("a proxy that drains", () => {
  test("ends idle sessions, finishes transactions, and takes no new connection", async () => {
    const proxy = await startProxy({ O7S_DRAIN_MS: "60000" });
    await using idle = await open(proxy);
    await using working = await open(proxy);
    await working.query("CREATE TABLE drained (a int)");
    await working.query("BEGIN");
    const ended = proxy.service.stop();
    await isDraining(proxy);
    expect((await idle.untilClosed()).map(errorText)).toEqual([RESTARTING]);
    expect((await refusalOf(open(proxy))).message).toContain("ECONNREFUSED");
    expect(typesOf(await working.query("INSERT INTO drained VALUES (1)"))).toBe("CZ");
    const last = await working.query("COMMIT");
    expect(typesOf(last)).toBe("CZ");
    expect((await working.untilClosed()).map(errorText)).toEqual([RESTARTING]);
    await ended;
    await using after = await WireClient.login(
      { port: platform.postgresPort },
      { user: org.orgId, password: org.token, database: "app" },
    );
    expect(rowsOf(await after.query("SELECT a FROM drained"))).toEqual([["1"]]);
  });

  test("says so on /healthz, so that no load is sent to it", async () => {
    const proxy = await startProxy({ O7S_DRAIN_MS: "60000" });
    await using working = await open(proxy);
    await working.query("BEGIN");
    const ended = proxy.service.stop();
    await isDraining(proxy);
    const health = await fetch(`http://127.0.0.1:${proxy.httpPort}/healthz`);
    expect(health.status).toBe(503);
    expect(await health.json()).toEqual({ ok: false, draining: true, troubles: [] });
    await working.query("ROLLBACK");
    await ended;
  });

  test("finishes a statement that runs, and ends its session together with the answer", async () => {
    const proxy = await startProxy({ O7S_DRAIN_MS: "60000" });
    await using working = await open(proxy);
    working.send(message("Q", "SELECT pg_sleep(2.5), 7"));
    const ended = proxy.service.stop();
    const replies = await working.untilReady();
    expect(rowsOf(replies)).toEqual([["", "7"]]);
    expect((await working.untilClosed()).map(errorText)).toEqual([RESTARTING]);
    await ended;
  });

  test("gives sessions that hold state half of the time, and open transactions all of it", async () => {
    const proxy = await startProxy({ O7S_DRAIN_MS: "2000" });
    await using stateful = await open(proxy);
    await stateful.query("CREATE TEMP TABLE mine (a int)");
    await using working = await open(proxy);
    await working.query("BEGIN");
    const ended = proxy.service.stop();
    expect((await stateful.untilClosed()).map(errorText)).toEqual([RESTARTING]);
    expect(typesOf(await working.query("SELECT 1"))).toBe("TDCZ");
    expect((await working.untilClosed()).map(errorText)).toEqual([RESTARTING]);
    await ended;
  });

  test("tells those who have not logged in after a moment, and does not wait for them", async () => {
    const proxy = await startProxy({ O7S_DRAIN_MS: "2000", O7S_LOGIN_DEADLINE_MS: "300000" });
    await using silent = await WireClient.connect({ host: "127.0.0.1", port: proxy.port });
    await using working = await open(proxy);
    await working.query("BEGIN");
    const ended = proxy.service.stop();
    expect((await silent.untilClosed()).map(errorText)).toEqual([RESTARTING]);
    expect(typesOf(await working.query("COMMIT"))).toBe("CZ");
    await ended;
  });

  test("hurries when it is told twice", async () => {
    const proxy = await startProxy({ O7S_DRAIN_MS: "600000" });
    await using working = await open(proxy);
    await working.query("BEGIN");
    const first = proxy.service.stop();
    await isDraining(proxy);
    await proxy.service.stop();
    await first;
    expect((await working.untilClosed()).map(errorText)).toEqual([RESTARTING]);
  });
});

describe("a proxy that is replaced on its own ports", () => {
  test("costs clients that reconnect no query", async () => {
    const ports = await startProxy({ O7S_REUSE_PORT: "true" });
    const { port, httpPort } = ports;
    const sharing = {
      O7S_REUSE_PORT: "true",
      O7S_POSTGRES_PORT: String(port),
      O7S_HTTP_PORT: String(httpPort),
    };
    const load = new ReconnectingClients(port, 8);
    await load.passed(200);
    let present = ports;
    for (let replaced = 0; replaced < 2; replaced++) {
      const successor = await startProxy(sharing);
      expect([successor.port, successor.httpPort]).toEqual([port, httpPort]);
      await present.service.stop();
      present = successor;
      const health = await fetch(`http://127.0.0.1:${httpPort}/healthz`);
      expect(health.status).toBe(200);
      await load.passed(load.transactions + 200);
    }
    await load.end();
    expect(load.failures).toEqual([]);
    expect(load.connections).toBeGreaterThan(8);
    await present.service.stop();
  }, 60_000);
});

/**
 * Clients that run one transaction after the other, and connect again when they have been told to.
 */
class ReconnectingClients {
  transactions = 0;
  connections = 0;
  readonly failures: string[] = [];
  readonly #port: number;
  readonly #running: Promise<unknown>;
  #ending = false;

  constructor(port: number, clients: number) {
    this.#port = port;
    this.#running = Promise.all(Array.from({ length: clients }, () => this.#run()));
  }

  async passed(transactions: number): Promise<void> {
    await until(`${transactions} transactions`, () => this.transactions >= transactions, 30_000);
  }

  async end(): Promise<void> {
    this.#ending = true;
    await this.#running;
  }

  async #run(): Promise<void> {
    while (!this.#ending) {
      const client = await this.#connect();
      if (client === null) continue;
      let parted = false;
      client.on("error", () => {
        parted = true;
      });
      while (!(parted || this.#ending)) await this.#transaction(client);
      await client.end().catch(() => {});
    }
  }

  async #connect(): Promise<Client | null> {
    const client = new Client({
      host: "127.0.0.1",
      port: this.#port,
      user: org.orgId,
      password: org.token,
      database: "app",
    });
    try {
      await client.connect();
      this.connections += 1;
      return client;
    } catch {
      return null; // The listener closed while the connection was on its way: it is tried again.
    }
  }

  async #transaction(client: Client): Promise<void> {
    try {
      await client.query("BEGIN");
      await client.query("SELECT $1::int", [this.transactions]);
      await client.query("COMMIT");
      this.transactions += 1;
    } catch (error) {
      this.failures.push(String(error));
    }
  }
}
