/** Denials as PostgreSQL errors: SQLSTATE, severity, message and hint. */
import type { Denial, DenialCode } from "../../denial.ts";
import { message } from "./messages.ts";

/** PostgreSQL documentation, appendix A, "Error Codes". */
const SQLSTATE: Readonly<Record<DenialCode, string>> = {
  tls_required: "28000",
  authentication_failed: "28P01",
  authentication_blocked: "28000",
  unauthenticated_limit: "53300",
  org_suspended: "28000",
  token_revoked: "57P01",
  usage_exhausted: "53400",
  connection_limit: "53300",
  rate_limited: "53400",
  unknown_database: "3D000",
  network_not_allowed: "28000",
  database_not_ready: "57P03",
  database_dropped: "57P01",
  pool_exhausted: "53300",
  upstream_unavailable: "57P03",
  upstream_refused: "57P03",
  upstream_lost: "08006",
  session_state_expired: "57P05",
  transaction_idle: "25P03",
  statement_timeout: "57014",
  setting_above_tier: "22023",
  query_too_expensive: "54001",
  replication_refused: "0A000",
  protocol_violation: "08P01",
  directory_unavailable: "57P03",
  shutting_down: "57P01",
};

export function sqlState(denial: Denial): string {
  return denial.sqlState ?? SQLSTATE[denial.code];
}

/** `ERROR` ends a statement and leaves the session; `FATAL` ends the session. */
export function errorResponse(denial: Denial, severity: "ERROR" | "FATAL"): Uint8Array {
  const fields = [`S${severity}`, `V${severity}`, `C${sqlState(denial)}`, `M${denial.message}`];
  if (denial.hint !== null) fields.push(`H${denial.hint}`);
  return message("E", ...fields, Uint8Array.of(0));
}
