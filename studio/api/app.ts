/** The Studio API: the platform's only HTTP API, under `/api/v1`. */
import { openapi } from "@elysiajs/openapi";
import { Elysia, t } from "elysia";
import { databaseRoutes } from "./databases.ts";
import { orgRoutes } from "./orgs.ts";
import type { ApiParts } from "./parts.ts";
import { ApiError, problemOf } from "./problems.ts";
import { tokenRoutes } from "./tokens.ts";
import { usageRoutes } from "./usage.ts";

/** No request has more to say than this. */
export const BODY_BYTES_MAX = 64 * 1_024;

const HEALTH_DEADLINE_MS = 2_000;

/** A handler of requests. It listens to nothing: `main.ts` does. */
export function createApi(parts: ApiParts): { fetch(request: Request): Promise<Response> } {
  const startedAtMs = new WeakMap<Request, number>();
  const app = new Elysia({ aot: true, normalize: true })
    .onRequest(({ request, set }) => {
      startedAtMs.set(request, parts.now());
      set.headers["x-request-id"] = `req_${crypto.randomUUID().replaceAll("-", "")}`;
      if (Number(request.headers.get("content-length") ?? 0) > BODY_BYTES_MAX) {
        throw new ApiError("too_large", `A body has at most ${BODY_BYTES_MAX} bytes.`);
      }
    })
    .onError(({ code, error, set, request }) => {
      const problem = problemOf(code, error);
      const requestId = String(set.headers["x-request-id"] ?? "");
      if (problem.code === "internal") {
        parts.log.error("request_failed", {
          requestId,
          path: new URL(request.url).pathname,
          reason: error instanceof Error ? (error.stack ?? error.message) : String(error),
        });
      }
      set.status = problem.status;
      return { error: { code: problem.code, message: problem.message, requestId } };
    })
    .onAfterResponse(({ request, set }) => {
      const ms = parts.now() - (startedAtMs.get(request) ?? parts.now());
      parts.log.info("request", {
        requestId: String(set.headers["x-request-id"] ?? ""),
        method: request.method,
        path: new URL(request.url).pathname,
        status: Number(set.status ?? 200),
        ms,
      });
    })
    .get("/healthz", ({ set }) => health(parts, set), {
      response: t.Object({ ok: t.Boolean() }),
      detail: { hide: true },
    })
    .use(documentation())
    .group("/api/v1", (api) =>
      api
        .use(orgRoutes(parts))
        .use(tokenRoutes(parts))
        .use(databaseRoutes(parts))
        .use(usageRoutes(parts)),
    );
  return { fetch: (request) => Promise.resolve(app.fetch(request)) };
}

/** Healthy is who can read the control plane. */
async function health(parts: ApiParts, set: { status?: number | string }) {
  const answered = parts.sql`SELECT 1`.then(
    () => true,
    () => false,
  );
  const late = new Promise<boolean>((resolve) => {
    setTimeout(resolve, HEALTH_DEADLINE_MS, false);
  });
  const ok = await Promise.race([answered, late]);
  if (!ok) set.status = 503;
  return { ok };
}

function documentation() {
  return openapi({
    path: "/api/v1/openapi",
    specPath: "/api/v1/openapi/json",
    documentation: {
      info: {
        title: "Ogel Cloud",
        version: "1",
        description: "Orgs, their tokens and databases, and what they used.",
      },
      components: { securitySchemes: { operator: { type: "http", scheme: "bearer" } } },
      security: [{ operator: [] }],
    },
  });
}
