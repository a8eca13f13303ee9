/**
 * An operator's session: it answers simple queries from views of this process and never goes to a
 * database.
 */
import { type Denial, protocolViolation } from "../../../denial.ts";
import type { ClientOwner } from "../client-connection.ts";
import { errorResponse } from "../errors.ts";
import { FATE, FrameReader, type FrameReceiver, typeSet } from "../frame-reader.ts";
import { CLIENT, message, readyIdle } from "../messages.ts";
import type { ClientLink } from "../relay.ts";
import { runCommands } from "./commands.ts";
import { errorReport } from "./result-messages.ts";
import type { View } from "./views.ts";

const QUERY_BYTES_MAX = 8_192;

const WHOLE = {
  types: typeSet([CLIENT.query]),
  bytesMax: QUERY_BYTES_MAX,
  beginningBytes: 5,
} as const;

const EXTENDED = new Set<number>([
  CLIENT.parse,
  CLIENT.bind,
  CLIENT.describe,
  CLIENT.execute,
  CLIENT.close,
  CLIENT.flush,
]);

const EMPTY_QUERY_RESPONSE = message("I");

export class OperatorConsole implements ClientOwner, FrameReceiver {
  readonly rewrittenBytes = 0;
  readonly #client: ClientLink;
  readonly #views: readonly View[];
  readonly #reader = new FrameReader(this, WHOLE);
  /** The client has not taken everything: nothing more is answered until it has. */
  #behind = false;
  /** After an error in a batch of the extended protocol, up to its Sync. */
  #ignoring = false;

  constructor(client: ClientLink, views: readonly View[]) {
    this.#client = client;
    this.#views = views;
  }

  end(denial: Denial): void {
    this.#client.write(errorResponse(denial, "FATAL"));
    this.clientClosed();
    this.#client.close();
  }

  // ——— ClientOwner ———

  clientData(bytes: Uint8Array): void {
    this.#reader.push(bytes);
  }

  clientDrained(): void {
    if (!this.#behind) return;
    this.#behind = false;
    this.#client.resumeReading();
    this.#reader.resume();
  }

  clientClosed(): void {
    this.#reader.stop();
  }

  // ——— FrameReceiver ———

  forward(): void {}

  boundary(): void {}

  malformed(): void {
    this.end(protocolViolation("invalid message length"));
  }

  message(type: number, bytes: Uint8Array, at: number, available: number, total: number): number {
    if (this.#behind) return FATE.wait;
    if (type === CLIENT.query) {
      this.#query(available === total ? textOf(bytes, at, total) : null);
    } else if (type === CLIENT.sync) {
      this.#ignoring = false;
      this.#write(readyIdle);
    } else if (type === CLIENT.terminate) {
      this.clientClosed();
      this.#client.close();
    } else if (EXTENDED.has(type)) {
      if (!this.#ignoring) this.#write(simpleOnly());
      this.#ignoring = true;
    } else {
      this.end(protocolViolation(`frontend message type ${type} is not known to this console`));
    }
    return FATE.discard;
  }

  /** `text` is null where it is too long. */
  #query(text: string | null): void {
    const answers =
      text === null
        ? [errorReport("54000", "the command is too long", "SHOW HELP lists the commands.")]
        : runCommands(text, this.#views);
    const said = answers.length === 0 ? [EMPTY_QUERY_RESPONSE] : answers;
    this.#write(Buffer.concat([...said, readyIdle]));
  }

  #write(bytes: Uint8Array): void {
    if (this.#client.write(bytes)) return;
    this.#behind = true;
    this.#client.pauseReading();
  }
}

function simpleOnly(): Uint8Array {
  return errorReport(
    "0A000",
    "this console takes simple queries only",
    "Use psql, or tell your client not to prepare statements.",
  );
}

function textOf(bytes: Uint8Array, at: number, total: number): string {
  return new TextDecoder().decode(bytes.subarray(at + 5, at + total - 1));
}
