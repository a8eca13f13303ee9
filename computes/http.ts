/**
 * The compute host's HTTP interface. Internal: its callers are O7s and provisioning, and they know
 * the secret.
 */
import { createHash, timingSafeEqual } from "node:crypto";
import { ComputeHostError, type NewCompute } from "../platform/compute-host.ts";
import { type DatabaseId, parseDatabaseId } from "../platform/ids.ts";
import type { Log } from "../platform/log.ts";
import type { WakeRequest } from "./compute.ts";
import type { LocalComputeHost } from "./host.ts";
import { type Histogram, renderGauge } from "./metrics.ts";

export type HttpParts = {
  readonly host: LocalComputeHost;
  readonly secret: string;
  readonly log: Log;
  readonly wakeMillis: Histogram;
};

const BODY_BYTES_MAX = 16_384;
const LEASE_MS_MAX = 3_600_000;
const DEADLINE_MS_MAX = 600_000;

/** Answers one request; for `Bun.serve`, with this bound on bodies. */
export function createHandler(parts: HttpParts): {
  fetch(request: Request): Promise<Response>;
  maxRequestBodySize: number;
} {
  return {
    maxRequestBodySize: BODY_BYTES_MAX,
    async fetch(request) {
      try {
        return await route(parts, request);
      } catch (error) {
        if (error instanceof ComputeHostError) return refusal(error.code, error.message);
        parts.log.error("request_failed", { url: request.url, reason: String(error) });
        return refusal("internal", "The compute host met an unexpected fault; its log has it.");
      }
    },
  };
}

async function route(parts: HttpParts, request: Request): Promise<Response> {
  const { host } = parts;
  const path = new URL(request.url).pathname;
  if (path === "/healthz" && request.method === "GET") return Response.json({ ok: true });
  if (!isAuthorized(request, parts.secret)) {
    return refusal("unauthorized", "Send COMPUTE_HOST_SECRET as a bearer token.");
  }
  if (path === "/metrics" && request.method === "GET") return metrics(parts);
  const match = /^\/v1\/computes(?:\/([^/]+)(?:\/(wake|suspend|repair-login))?)?$/.exec(path);
  if (match === null) return refusal("not_found", "There is no such route.");
  const [, idText, action] = match;
  if (idText === undefined) {
    if (request.method !== "GET") return methodRefusal();
    return Response.json({ computes: await host.list() });
  }
  const computeId = parseDatabaseId(idText);
  if (computeId === null) throw new ComputeHostError("invalid", "That is no compute id.");
  switch (`${request.method} ${action ?? ""}`) {
    case "PUT ":
      await host.create(await readNewCompute(request, computeId));
      return Response.json({});
    case "GET ": {
      const status = await host.status(computeId);
      return status === null
        ? refusal("not_found", "There is no such compute on this host.")
        : Response.json(status);
    }
    case "DELETE ":
      await host.drop(computeId);
      return Response.json({});
    case "POST wake":
      return Response.json(await host.wake(computeId, await readWakeRequest(request)));
    case "POST suspend":
      await host.suspend(computeId);
      return Response.json({});
    case "POST repair-login":
      await host.repairLogin(await readNewCompute(request, computeId));
      return Response.json({});
    default:
      return methodRefusal();
  }
}

/** Compares digests: they are of one length, and how far they agree says nothing of the secret. */
function isAuthorized(request: Request, secret: string): boolean {
  const given = request.headers.get("authorization") ?? "";
  return timingSafeEqual(digest(given), digest(`Bearer ${secret}`));
}

function digest(text: string): Uint8Array {
  return createHash("sha256").update(text).digest();
}

async function readNewCompute(request: Request, computeId: DatabaseId): Promise<NewCompute> {
  const body = await readObject(request);
  return {
    computeId,
    databaseName: textField(body, "databaseName"),
    roleName: textField(body, "roleName"),
    passwordVerifier: textField(body, "passwordVerifier"),
  };
}

async function readWakeRequest(request: Request): Promise<WakeRequest> {
  const body = await readObject(request);
  const holder = textField(body, "holder");
  if (!/^[\w.:-]{1,100}$/.test(holder)) {
    throw new ComputeHostError("invalid", "holder must be 1 to 100 of: letters, digits, _ . : -");
  }
  return {
    holder,
    leaseMs: millisField(body, "leaseMs", LEASE_MS_MAX),
    deadlineMs: millisField(body, "deadlineMs", DEADLINE_MS_MAX),
  };
}

async function readObject(request: Request): Promise<Readonly<Record<string, unknown>>> {
  let body: unknown = null;
  try {
    body = await request.json();
  } catch {
    // Told below, like any other body that is no object.
  }
  if (typeof body === "object" && body !== null && !Array.isArray(body)) {
    return body as Record<string, unknown>;
  }
  throw new ComputeHostError("invalid", "The body must be a JSON object.");
}

function textField(body: Readonly<Record<string, unknown>>, name: string): string {
  const value = body[name];
  if (typeof value === "string") return value;
  throw new ComputeHostError("invalid", `${name} must be a string.`);
}

function millisField(body: Readonly<Record<string, unknown>>, name: string, max: number): number {
  const value = body[name];
  if (typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= max) {
    return value;
  }
  throw new ComputeHostError("invalid", `${name} must be a whole number from 0 to ${max}.`);
}

const STATUS_OF_CODE: Readonly<Record<string, number>> = {
  invalid: 400,
  unauthorized: 401,
  not_found: 404,
  method: 405,
  conflict: 409,
  internal: 500,
  start_failed: 500,
  capacity: 503,
  unreachable: 503,
  deadline: 504,
};

function refusal(code: string, message: string): Response {
  return Response.json({ code, message }, { status: STATUS_OF_CODE[code] ?? 500 });
}

function methodRefusal(): Response {
  return refusal("method", "That method is not answered here.");
}

function metrics({ host, wakeMillis }: HttpParts): Response {
  const text = [
    renderGauge("ogel_computes", "Computes on this host.", host.known),
    renderGauge("ogel_computes_running", "Computes with a running process.", host.running),
    renderGauge("ogel_computes_waiting", "Wakes in line for room to run.", host.waiting),
    wakeMillis.render("ogel_compute_wake_seconds", "From the start of a process to readiness."),
  ].join("\n");
  return new Response(`${text}\n`, {
    headers: { "content-type": "text/plain; version=0.0.4; charset=utf-8" },
  });
}
