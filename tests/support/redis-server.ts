/** A real Redis server to throw away, on a port of its own and without persistence. */
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { Redis } from "ioredis";
import { until } from "./until.ts";

export type TestRedis = {
  readonly url: string;
  /** A client of the tests' own. */
  readonly client: Redis;
  /** Ends the process as a crash would. */
  kill(): Promise<void>;
  /** Starts it again after `kill`, empty. */
  restart(): Promise<void>;
  /** Keeps it from answering, with its connections open; `resume` lets it go on. */
  freeze(): void;
  resume(): void;
  [Symbol.asyncDispose](): Promise<void>;
};

export async function startRedis(): Promise<TestRedis> {
  const home = mkdtempSync(path.join(tmpdir(), "ogel-redis-"));
  const port = await freePort();
  const spawn = () =>
    Bun.spawn(
      ["redis-server", "--port", String(port), "--bind", "127.0.0.1", "--save", "", "--dir", home],
      { stdin: "ignore", stdout: "ignore", stderr: "inherit" },
    );
  const client = new Redis(port, "127.0.0.1", { lazyConnect: true, retryStrategy: () => 10 });
  client.on("error", () => {});
  const answers = (): Promise<boolean> =>
    client.ping().then(
      () => true,
      () => false,
    );
  let server = spawn();
  await until("Redis", answers);
  return {
    url: `redis://127.0.0.1:${port}`,
    client,
    async kill() {
      server.kill("SIGKILL");
      await server.exited;
    },
    async restart() {
      server = spawn();
      await until("Redis", answers);
    },
    freeze: () => server.kill("SIGSTOP"),
    resume: () => server.kill("SIGCONT"),
    async [Symbol.asyncDispose]() {
      client.disconnect();
      server.kill("SIGKILL");
      await server.exited;
      rmSync(home, { recursive: true, force: true });
    },
  };
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen({ port: 0, host: "127.0.0.1" }, () => {
      const address = server.address();
      server.close(() => {
        if (typeof address === "object" && address !== null) resolve(address.port);
        else reject(new Error("no port"));
      });
    });
  });
}
