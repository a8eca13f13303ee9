/**
 * A real compute host in a directory of its own, for tests. It can be killed and started again on
 * the same directory.
 */
import { createHash } from "node:crypto";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
} from "node:fs";
import path from "node:path";
import postgres, { type Sql } from "postgres";
import { copyDirectory } from "../../computes/copy-directory.ts";
import { reapComputes } from "../../computes/reap.ts";
import type { ComputeHost, ComputeLease, NewCompute } from "../../platform/compute-host.ts";
import { createComputeHostClient } from "../../platform/compute-host-client.ts";
import { newDatabaseId, newOrgId } from "../../platform/ids.ts";
import {
  type MasterKey,
  parseMasterKey,
  upstreamPassword,
  upstreamVerifier,
} from "../../platform/upstream-credentials.ts";
import { type Service, startService } from "../../scripts/bench/service.ts";
import { whenKilled } from "../../scripts/supervisor/watchdog.ts";
import { temporaryRoot } from "./temporary-root.ts";

const MASTER_KEY = parseMasterKey("7c".repeat(32)) as MasterKey;
const SECRET = "a-secret-of-this-test";

export type TestComputeHost = {
  readonly directory: string;
  readonly socket: string;
  readonly client: ComputeHost;
  /** Null while it is down. */
  service: Service | null;
  start(environment?: Readonly<Record<string, string>>): Promise<void>;
  kill(): Promise<void>;
  stop(): Promise<void>;
  /** One request as it is, with the secret unless another authorization is given. */
  request(method: string, route: string, body?: unknown, authorization?: string): Promise<Response>;
  [Symbol.asyncDispose](): Promise<void>;
};

export async function startComputeHost(
  environment: Readonly<Record<string, string>> = {},
): Promise<TestComputeHost> {
  const directory = mkdtempSync(path.join(temporaryRoot(), "ogel-ch-"));
  chmodSync(directory, 0o711); // The servers' user has to get to its own directories in it.
  const watchdog = watchOver(directory);
  await layTemplate(directory);
  const socket = path.join(directory, "host.sock");
  const host: TestComputeHost = {
    directory,
    socket,
    client: createComputeHostClient({
      address: { name: "local", url: "http://compute-host", unixSocket: socket },
      secret: SECRET,
    }),
    service: null,
    async start(again = {}) {
      host.service = await startService(
        "computes/main.ts",
        {
          COMPUTE_DATA_DIR: directory,
          COMPUTE_LISTEN: `unix:${socket}`,
          COMPUTE_HOST_SECRET: SECRET,
          COMPUTE_SPARES: "0",
          ...environment,
          ...again,
        },
        "listening",
      );
    },
    async kill() {
      await host.service?.kill();
      host.service = null;
    },
    async stop() {
      await host.service?.stop();
      host.service = null;
    },
    request: (method, route, body, authorization = `Bearer ${SECRET}`) =>
      fetch(`http://compute-host${route}`, {
        unix: socket,
        method,
        headers: { authorization },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      }),
    async [Symbol.asyncDispose]() {
      await host.stop();
      await reapComputes(directory);
      rmSync(directory, { recursive: true, force: true });
      watchdog.end();
    },
  };
  await host.start();
  await keepTemplate(directory);
  return host;
}

/**
 * Making a template takes seconds, so test hosts share one, with the superuser's password that is
 * in it. Where it does not fit any more, a host makes its own.
 */
const TEMPLATE_PARTS = ["superuser", "templates"] as const;

function templateCache(): string {
  const source = readFileSync(new URL("../../computes/template.ts", import.meta.url));
  const hash = createHash("sha256").update(source).digest("hex").slice(0, 12);
  return path.join(temporaryRoot(), `ogel-tests-${process.getuid?.() ?? 0}`, `computes-${hash}`);
}

async function layTemplate(directory: string): Promise<void> {
  const cache = templateCache();
  if (!existsSync(cache)) return;
  for (const part of TEMPLATE_PARTS) {
    await copyDirectory(path.join(cache, part), path.join(directory, part));
  }
}

async function keepTemplate(directory: string): Promise<void> {
  const cache = templateCache();
  if (existsSync(cache)) return;
  mkdirSync(path.dirname(cache), { recursive: true });
  const half = mkdtempSync(`${cache}.`);
  for (const part of TEMPLATE_PARTS) {
    await copyDirectory(path.join(directory, part), path.join(half, part));
  }
  try {
    renameSync(half, cache);
  } catch {
    rmSync(half, { recursive: true, force: true }); // Another test process was faster.
  }
}

/**
 * Ends the host and removes its files should the test process be killed: a shell waits for the end
 * of its input. The host's lock says which process it is; it stops its computes itself.
 */
function watchOver(directory: string): { end(): void } {
  const script = `pid=$(sed -n 's/.*"pid":\\([0-9]*\\).*/\\1/p' "$0/host.lock")
    test -n "$pid" && kill -TERM "$pid"
    for try in 1 2 3 4 5 6 7 8 9 10; do kill -0 "$pid" || break; sleep 0.3; done
    rm -rf "$0"`;
  return whenKilled(script, [directory]);
}

/** A compute to be: ids of its own, and a verifier of the password that `connectTo` uses. */
export function newCompute(databaseName = "shop"): NewCompute {
  const roleName = newOrgId();
  return {
    computeId: newDatabaseId(),
    databaseName,
    roleName,
    passwordVerifier: upstreamVerifier(MASTER_KEY, roleName, 1),
  };
}

/** Makes a compute and returns what it was made of. */
export async function makeCompute(host: TestComputeHost): Promise<NewCompute> {
  const compute = newCompute();
  await host.client.create(compute);
  return compute;
}

/** A connection to a compute, as its tenant unless told otherwise. */
export function connectTo(
  compute: NewCompute,
  { address }: ComputeLease,
  as: { user?: string; password?: string; database?: string } = {},
): Sql & AsyncDisposable {
  if (address.transport !== "unix") throw new Error("Computes here are on unix sockets.");
  const sql = postgres({
    host: address.directory,
    port: address.port,
    user: as.user ?? compute.roleName,
    password: as.password ?? upstreamPassword(MASTER_KEY, compute.roleName, 1),
    database: as.database ?? compute.databaseName,
    max: 1,
    fetch_types: false,
    connection: { application_name: "test" },
    onnotice: () => {},
  });
  return Object.assign(sql, { [Symbol.asyncDispose]: () => sql.end({ timeout: 1 }) });
}
