/** From an operator's StartupMessage to the console. */
import { type Denial, unknownDatabase } from "../../../denial.ts";
import { isDenial } from "../../../pipeline.ts";
import type { ClientConnection, TlsContext } from "../client-connection.ts";
import { authenticationOk, parameterStatuses, readyIdle } from "../messages.ts";
import { proveByScram } from "../scram-login.ts";
import { OPERATOR_DATABASE, type Operators } from "./operators.ts";

/**
 * What clients look at before they send anything. The version is the oldest that every psql still
 * talks to without a warning.
 */
const PARAMETERS: ReadonlyMap<string, string> = new Map([
  ["server_version", "10.0 (O7s)"],
  ["server_encoding", "UTF8"],
  ["client_encoding", "UTF8"],
  ["standard_conforming_strings", "on"],
  ["integer_datetimes", "on"],
  ["DateStyle", "ISO, MDY"],
  ["TimeZone", "UTC"],
]);

/** Null when the console has taken over, or the client has gone. */
export async function enterAsOperator(
  connection: ClientConnection,
  options: {
    readonly tls: TlsContext;
    readonly authenticated: (connection: ClientConnection) => void;
  },
  operators: Operators,
  database: string,
): Promise<Denial | null> {
  const attempt = operators.begin(connection.address);
  if (isDenial(attempt)) return attempt;
  const operator = await proveByScram(connection, options.tls, attempt);
  if (isDenial(operator)) return operator;
  if (database !== OPERATOR_DATABASE) return unknownDatabase(database);
  const console = operators.open(connection);
  if (isDenial(console)) return console;
  options.authenticated(connection);
  connection.whenClosed(() => operators.leave(console));
  connection.write(Buffer.concat([authenticationOk, parameterStatuses(PARAMETERS), readyIdle]));
  connection.handTo(console);
  return null;
}
