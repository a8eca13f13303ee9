/** Scale-to-zero databases, made through a real compute host over its HTTP interface. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import postgres from "postgres";
import { readConfiguration } from "../../../computes/configuration.ts";
import { type ComputesService, startComputes } from "../../../computes/service.ts";
import type { ComputeHost } from "../../../platform/compute-host.ts";
import { createComputeHostClient } from "../../../platform/compute-host-client.ts";
import type { PlacedDatabase } from "../../../platform/engines/engine.ts";
import { createNeonEngine } from "../../../platform/engines/neon.ts";
import { newDatabaseId, newOrgId } from "../../../platform/ids.ts";
import { silentLog } from "../../../platform/log.ts";
import { upstreamPassword } from "../../../platform/upstream-credentials.ts";
import { failureCode, TEST_MASTER_KEY } from "../../support/control-plane.ts";

/** Servers are started here, on a machine that may be busy. */
setDefaultTimeout(60_000);

const secret = randomBytes(24).toString("hex");
let home: string;
let service: ComputesService;
let client: ComputeHost;

beforeAll(async () => {
  home = mkdtempSync(path.join(tmpdir(), "ogel-neon-"));
  chmodSync(home, 0o711);
  const socket = path.join(home, "host.sock");
  const environment = {
    COMPUTE_DATA_DIR: path.join(home, "data"),
    COMPUTE_LISTEN: `unix:${socket}`,
    COMPUTE_HOST_SECRET: secret,
    COMPUTE_SPARES: "0",
  };
  service = await startComputes(readConfiguration(environment), silentLog);
  const address = { name: "local", url: "http://compute-host", unixSocket: socket };
  client = createComputeHostClient({ address, secret });
});

afterAll(async () => {
  await service.close();
  rmSync(home, { recursive: true, force: true });
});

test("a database is made, woken, repaired after its tenant broke it, and dropped", async () => {
  const hosts = new Map([["local", client]]);
  const engine = createNeonEngine({ masterKey: TEST_MASTER_KEY, computeHosts: hosts });
  const created = { databaseId: newDatabaseId(), orgId: newOrgId(), name: "scratch" };
  const endpoint = await engine.place(created);
  expect(endpoint).toEqual({
    via: "compute",
    host: "local",
    computeId: created.databaseId,
    databaseName: "scratch",
    roleName: created.orgId,
  });
  const database: PlacedDatabase = {
    ...created,
    endpoint,
    credentialGeneration: 1,
    tempFileLimitBytes: 1_048_576,
  };
  await engine.provision(database);
  await engine.provision(database);

  const login = async (statement: string, generation = 1): Promise<string> => {
    const lease = { holder: "test", leaseMs: 10_000, deadlineMs: 10_000 };
    const { address } = await client.wake(created.databaseId, lease);
    if (address.transport !== "unix") throw new Error("Computes listen on unix sockets.");
    const sql = postgres({
      path: `${address.directory}/.s.PGSQL.${address.port}`,
      user: created.orgId,
      password: upstreamPassword(TEST_MASTER_KEY, created.orgId, generation),
      database: "scratch",
      max: 1,
    });
    const code = await failureCode(sql.unsafe(statement));
    await sql.end({ timeout: 1 });
    return code;
  };
  expect(await login("CREATE TABLE t (a int)")).toBe("no error");
  expect(await login(`ALTER ROLE ${created.orgId} PASSWORD 'mine'`)).toBe("no error");
  expect(await login("SELECT 1")).toBe("28P01");
  await engine.repairLogin(database);
  expect(await login("SELECT * FROM t")).toBe("no error");
  await engine.rotateCredentials({ ...database, credentialGeneration: 2 });
  expect(await login("SELECT 1", 2)).toBe("no error");
  expect(await engine.sizeBytes(database)).toBeGreaterThan(1_000_000);
  await engine.drop(database);
  await engine.drop(database);
  expect(await client.status(created.databaseId)).toBeNull();
  expect(await client.list()).toEqual([]);
});

test("a host that refuses, does not answer, or is not there, is told apart", async () => {
  const socket = path.join(home, "host.sock");
  const at = (unixSocket: string, key = secret) =>
    createComputeHostClient({
      address: { name: "local", url: "http://compute-host", unixSocket },
      secret: key,
      answerDeadlineMs: 50,
    });
  expect(await failureCode(at(socket, "wrong-secret-wrong-secret").list())).toBe("unauthorized");
  expect(await failureCode(at(path.join(home, "nowhere.sock")).list())).toBe("unreachable");
  const mute = path.join(home, "mute.sock");
  using listener = Bun.listen({ unix: mute, socket: { data() {} } });
  expect(await failureCode(at(mute).list())).toBe("deadline");
  expect(listener.unix).toBe(mute);
  const gone = { holder: "test", leaseMs: 1_000, deadlineMs: 1_000 };
  expect(await failureCode(client.wake(newDatabaseId(), gone))).toBe("not_found");
});

test("a host that went away while a database was on it is named", () => {
  const engine = createNeonEngine({ masterKey: TEST_MASTER_KEY, computeHosts: new Map() });
  const endpoint = {
    via: "compute",
    host: "gone",
    computeId: newDatabaseId(),
    databaseName: "app",
    roleName: newOrgId(),
  } as const;
  const database = {
    databaseId: newDatabaseId(),
    orgId: newOrgId(),
    name: "app",
    endpoint,
    credentialGeneration: 1,
    tempFileLimitBytes: 1_048_576,
  };
  expect(engine.drop(database)).rejects.toThrow("not in COMPUTE_HOST_URLS");
});

test("a host is reached from Deno over its unix socket too", async () => {
  const repository = path.join(import.meta.dirname, "../../..");
  const deno = path.join(repository, "node_modules/deno/deno");
  const script = path.join(repository, "tests/support/compute-cases.ts");
  const permissions = ["--allow-env", "--allow-net", "--allow-read", "--allow-write"];
  const socket = path.join(home, "host.sock");
  const child = Bun.spawn([deno, "run", "--no-prompt", ...permissions, script, socket, secret], {
    cwd: repository,
    stdout: "pipe",
    stderr: "inherit",
  });
  const stdout = await new Response(child.stdout).text();
  expect(JSON.parse(stdout)).toEqual({ isList: true, unknown: null, refusal: "not_found" });
});
