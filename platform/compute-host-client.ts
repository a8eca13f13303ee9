/**
 * A compute host over its HTTP interface: a unix socket on one machine, TCP with a secret between
 * machines.
 */
import { request as httpRequest, type IncomingMessage, type RequestOptions } from "node:http";
import { request as httpsRequest } from "node:https";
import {
  type ComputeHost,
  ComputeHostError,
  type ComputeLease,
  type ComputeStatus,
  type NewCompute,
} from "./compute-host.ts";
import type { ComputeHostAddress } from "./endpoints.ts";
import type { DatabaseId } from "./ids.ts";

export type ComputeHostClientOptions = {
  readonly address: ComputeHostAddress;
  /** What the host was given as `COMPUTE_HOST_SECRET`. */
  readonly secret: string;
  /** For calls that make, copy or remove data. */
  readonly workDeadlineMs?: number;
  /** For calls that only look, and on top of the deadline that a wake was given. */
  readonly answerDeadlineMs?: number;
};

type Call = {
  readonly method: "GET" | "PUT" | "POST" | "DELETE";
  readonly path: string;
  readonly body?: unknown;
  readonly deadlineMs: number;
};

type Answer = { readonly status: number; readonly body: unknown };

const WORK_DEADLINE_MS = 60_000;
const ANSWER_DEADLINE_MS = 5_000;
const ANSWER_BYTES_MAX = 16 * 1_048_576;

/** All of its calls throw `ComputeHostError`s, and none goes on for longer than its deadline. */
export function createComputeHostClient(options: ComputeHostClientOptions): ComputeHost {
  const workDeadlineMs = options.workDeadlineMs ?? WORK_DEADLINE_MS;
  const answerDeadlineMs = options.answerDeadlineMs ?? ANSWER_DEADLINE_MS;
  const path = (computeId: DatabaseId, act = ""): string =>
    `/v1/computes/${encodeURIComponent(computeId)}${act}`;
  const work = async (method: Call["method"], at: string, body?: unknown): Promise<void> => {
    await succeed(options, { method, path: at, body, deadlineMs: workDeadlineMs });
  };

  return {
    create: (compute) => work("PUT", path(compute.computeId), loginOf(compute)),
    async wake(computeId, lease) {
      const body = await succeed(options, {
        method: "POST",
        path: path(computeId, "/wake"),
        body: lease,
        deadlineMs: lease.deadlineMs + answerDeadlineMs,
      });
      return body as ComputeLease;
    },
    suspend: (computeId) => work("POST", path(computeId, "/suspend"), {}),
    repairLogin: (compute) =>
      work("POST", path(compute.computeId, "/repair-login"), loginOf(compute)),
    drop: (computeId) => work("DELETE", path(computeId)),
    async status(computeId) {
      const call = { method: "GET", path: path(computeId), deadlineMs: answerDeadlineMs } as const;
      const answer = await send(options, call);
      return answer.status === 404 ? null : (bodyOf(answer, options) as ComputeStatus);
    },
    async list() {
      const call = { method: "GET", path: "/v1/computes", deadlineMs: answerDeadlineMs } as const;
      const body = await succeed(options, call);
      return (body as { computes: readonly ComputeStatus[] }).computes;
    },
  };
}

function loginOf({ databaseName, roleName, passwordVerifier }: NewCompute): object {
  return { databaseName, roleName, passwordVerifier };
}

async function succeed(options: ComputeHostClientOptions, call: Call): Promise<unknown> {
  return bodyOf(await send(options, call), options);
}

/** The body of a success; a failure is thrown with the host's own code and message. */
function bodyOf({ status, body }: Answer, { address }: ComputeHostClientOptions): unknown {
  if (status >= 200 && status < 300) return body;
  const { code, message } = (typeof body === "object" && body !== null ? body : {}) as {
    code?: unknown;
    message?: unknown;
  };
  if (typeof code === "string" && typeof message === "string") {
    throw new ComputeHostError(code, message);
  }
  throw new ComputeHostError("unreachable", `Compute host ${address.name} answered ${status}.`);
}

/**
 * One exchange. `node:http` rather than `fetch`, because it reaches unix sockets on every runtime.
 */
function send(options: ComputeHostClientOptions, call: Call): Promise<Answer> {
  const { address, secret } = options;
  const payload = call.body === undefined ? null : Buffer.from(JSON.stringify(call.body));
  const base = new URL(address.url);
  const request = base.protocol === "https:" ? httpsRequest : httpRequest;
  const target: RequestOptions =
    address.unixSocket === null
      ? { hostname: base.hostname.replace(/^\[|\]$/g, ""), port: base.port }
      : { socketPath: address.unixSocket };
  const signal = AbortSignal.timeout(call.deadlineMs);
  return new Promise((resolve, reject) => {
    const fail = (error: unknown): void => reject(failure(error, address.name, signal));
    const outgoing = request(
      {
        ...target,
        method: call.method,
        path: call.path,
        headers: {
          host: base.host,
          authorization: `Bearer ${secret}`,
          ...(payload !== null && {
            "content-type": "application/json",
            "content-length": payload.length,
          }),
        },
        signal,
      },
      (incoming) => {
        readAnswer(incoming).then(resolve, fail);
      },
    );
    outgoing.on("error", fail);
    outgoing.end(payload ?? undefined);
  });
}

async function readAnswer(incoming: IncomingMessage): Promise<Answer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of incoming as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > ANSWER_BYTES_MAX) throw new Error("its answer is too long");
    chunks.push(chunk);
  }
  const text = Buffer.concat(chunks).toString("utf8");
  return { status: incoming.statusCode ?? 0, body: text === "" ? {} : JSON.parse(text) };
}

function failure(error: unknown, host: string, signal: AbortSignal): ComputeHostError {
  if (signal.aborted) {
    return new ComputeHostError("deadline", `Compute host ${host} did not answer in time.`);
  }
  const reason = error instanceof Error ? error.message : String(error);
  return new ComputeHostError("unreachable", `Compute host ${host} cannot be used: ${reason}.`);
}
