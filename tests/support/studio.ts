/** Studio as a process of its own, on a control plane and a shared server of its own. */
import { randomBytes } from "node:crypto";
import { type Service, startService } from "../../scripts/bench/service.ts";
import { createControlPlane } from "./control-plane.ts";
import { startPostgres, type TestPostgres } from "./postgres-server.ts";

export type TestStudio = {
  readonly url: string;
  readonly operatorKey: string;
  readonly server: TestPostgres;
  /** What the process was started with. */
  readonly environment: Readonly<Record<string, string>>;
  readonly service: Service;
  /** An API call as the operator, under `/api/v1`. */
  call(method: string, path: string, body?: unknown): Promise<ApiAnswer>;
  [Symbol.asyncDispose](): Promise<void>;
};

export type ApiAnswer = {
  readonly status: number;
  readonly requestId: string | null;
  // Tests look into answers freely; what they find is asserted.
  readonly body: Readonly<Record<string, unknown>> & {
    readonly error?: {
      readonly code: string;
      readonly message: string;
      readonly requestId: string;
    };
  };
};

export async function startStudio(): Promise<TestStudio> {
  // A test may kill the server: what was committed is to be there afterwards.
  const server = await startPostgres({ settings: { synchronous_commit: "on" } });
  const plane = await createControlPlane(server.adminUrl, { migrated: false });
  const operatorKey = randomBytes(24).toString("hex");
  const environment = {
    DATABASE_URL: plane.url,
    SHARED_POSTGRES_URLS: `main=${server.adminUrl}`,
    OGEL_MASTER_KEY: "5a".repeat(32),
    OGEL_OPERATOR_KEY: operatorKey,
    STUDIO_PORT: "0",
    O7S_POSTGRES_PORT: "6440",
  };
  const service = await startService("studio/main.ts", environment, "studio_ready");
  const url = `http://127.0.0.1:${service.started["port"]}`;
  return {
    url,
    operatorKey,
    server,
    environment,
    service,
    async call(method, path, body) {
      const response = await fetch(`${url}/api/v1${path}`, {
        method,
        headers: { authorization: `Bearer ${operatorKey}`, "content-type": "application/json" },
        ...(body !== undefined && { body: JSON.stringify(body) }),
      });
      return await answerOf(response);
    },
    async [Symbol.asyncDispose]() {
      await service.stop();
      await plane[Symbol.asyncDispose]();
      await server.stop();
    },
  };
}

export async function answerOf(response: Response): Promise<ApiAnswer> {
  const text = await response.text();
  return {
    status: response.status,
    requestId: response.headers.get("x-request-id"),
    body: text === "" ? {} : JSON.parse(text),
  };
}
