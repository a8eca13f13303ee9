/** What acting on the control plane can be refused with. */

export type PlatformErrorCode =
  | "invalid"
  | "org_not_found"
  | "org_suspended"
  | "token_not_found"
  | "token_limit"
  | "database_not_found"
  | "database_exists"
  | "database_limit"
  | "database_busy"
  | "kind_unavailable"
  | "not_applicable"
  | "provisioning_failed"
  | "unavailable";

/**
 * A refusal. Its code is stable; its message is for people, says what to do, and gives nothing
 * away.
 */
export class PlatformError extends Error {
  override readonly name = "PlatformError";
  readonly code: PlatformErrorCode;

  constructor(code: PlatformErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
