/** The Studio API as the CLI calls it: its only way to the platform. */
import { CommandError } from "./command.ts";

export type StudioAccess = {
  /** Without a path, e.g. `http://127.0.0.1:5444`. */
  readonly url: string;
  readonly operatorKey: string;
};

export type StudioClient = {
  /**
   * The answer's JSON, `null` for an empty one. Throws a `CommandError` with the API's own
   * message.
   */
  call<T>(
    method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE",
    path: string,
    body?: object,
  ): Promise<T>;
};

/** Making a database may take a minute, and the one before it in the queue another. */
const DEADLINE_MS = 180_000;

export const START_HINT = "Start the platform with ./scripts/up.";

export function createStudioClient(access: StudioAccess): StudioClient {
  return {
    async call<T>(method: string, path: string, body?: object): Promise<T> {
      const response = await send(access, method, path, body);
      const text = await response.text();
      if (response.ok) return (text === "" ? null : JSON.parse(text)) as T;
      throw new CommandError(problem(response, text));
    },
  };
}

async function send(
  access: StudioAccess,
  method: string,
  path: string,
  body: object | undefined,
): Promise<Response> {
  try {
    return await fetch(`${access.url}/api/v1${path}`, {
      method,
      headers: {
        authorization: `Bearer ${access.operatorKey}`,
        ...(body !== undefined && { "content-type": "application/json" }),
      },
      ...(body !== undefined && { body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(DEADLINE_MS),
    });
  } catch (error) {
    if (error instanceof Error && error.name === "TimeoutError") {
      throw new CommandError(`Studio at ${access.url} did not answer in time. Try again.`);
    }
    throw new CommandError(
      `The platform is not running: nothing answers at ${access.url}. ${START_HINT}`,
    );
  }
}

function problem(response: Response, text: string): string {
  try {
    const { error } = JSON.parse(text) as { error?: { message?: unknown; requestId?: unknown } };
    if (typeof error?.message === "string") {
      return response.status >= 500 && typeof error.requestId === "string"
        ? `${error.message} (request ${error.requestId})`
        : error.message;
    }
  } catch {
    // Not from Studio; said below.
  }
  return `What answers at ${response.url} is not Studio (HTTP ${response.status}).`;
}
