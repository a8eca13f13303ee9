/**
 * Errors as the API answers them: a stable code, a message for people, the request's id. Nothing
 * of the inside.
 */
import { ComputeHostError } from "../../platform/compute-host.ts";
import { PlatformError, type PlatformErrorCode } from "../../platform/control/errors.ts";
import { EngineError } from "../../platform/engines/engine.ts";

export type ApiErrorCode =
  | PlatformErrorCode
  | "unauthorized"
  | "not_found"
  | "too_large"
  | "internal";

/** A refusal by the API itself. */
export class ApiError extends Error {
  override readonly name = "ApiError";
  readonly code: ApiErrorCode;

  constructor(code: ApiErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}

export type Problem = {
  readonly status: number;
  readonly code: ApiErrorCode;
  readonly message: string;
};

const STATUS: Readonly<Record<ApiErrorCode, number>> = {
  invalid: 400,
  unauthorized: 401,
  not_found: 404,
  org_not_found: 404,
  token_not_found: 404,
  database_not_found: 404,
  org_suspended: 409,
  database_exists: 409,
  database_busy: 409,
  database_limit: 409,
  token_limit: 409,
  too_large: 413,
  kind_unavailable: 422,
  not_applicable: 422,
  internal: 500,
  provisioning_failed: 502,
  unavailable: 503,
};

/**
 * What a caller is told of `error`. Anything unforeseen is `internal`, and only the log says what
 * it was.
 */
export function problemOf(kind: string | number, error: unknown): Problem {
  if (error instanceof ApiError || error instanceof PlatformError) {
    return problem(error.code, error.message);
  }
  if (error instanceof ComputeHostError || error instanceof EngineError) {
    return error.code === "refused" || error.code === "invalid"
      ? problem("provisioning_failed", error.message)
      : problem("unavailable", error.message);
  }
  // What a hook throws while a body is read arrives wrapped.
  if (kind === "PARSE" && error instanceof Error && error.cause instanceof ApiError) {
    return problem(error.cause.code, error.cause.message);
  }
  if (kind === "NOT_FOUND") return problem("not_found", "There is no such route.");
  if (kind === "PARSE") return problem("invalid", "The body is not valid JSON.");
  if (kind === "VALIDATION") return problem("invalid", validationMessage(error));
  if (isConnectionFailure(error)) {
    return problem("unavailable", "The control plane cannot be reached just now. Try again.");
  }
  return problem("internal", "Something went wrong on our side. Try again; quote the request id.");
}

function problem(code: ApiErrorCode, message: string): Problem {
  return { status: STATUS[code], code, message };
}

/** Names the first field at fault, and what it has to be. */
function validationMessage(error: unknown): string {
  const { all, type } = (typeof error === "object" && error !== null ? error : {}) as {
    all?: readonly { path?: string; summary?: string; message?: string }[];
    type?: string;
  };
  const [first] = all ?? [];
  const field = first?.path?.replace(/^\//, "").replaceAll("/", ".") ?? "";
  const said = first?.summary ?? first?.message ?? "it does not have the expected shape";
  const where = field === "" ? `The ${type ?? "request"}` : `${field} in the ${type ?? "request"}`;
  return `${where} is not valid: ${said}.`;
}

function isConnectionFailure(error: unknown): boolean {
  const code = typeof error === "object" && error !== null && "code" in error ? error.code : null;
  if (typeof code !== "string") return false;
  return (
    ["ECONNREFUSED", "ENOENT", "ECONNRESET", "57P01", "57P03", "53300"].includes(code) ||
    code.startsWith("CONNECT") ||
    code.startsWith("CONNECTION_")
  );
}
