/**
 * A PostgreSQL client that shows the wire as it is: every message in its order, bytes sent exactly
 * as given. For what real clients hide or refuse to do.
 */
import { connect, type NetConnectOpts, type Socket } from "node:net";
import { clientProof, saltPassword } from "../../platform/scram.ts";
import { message, startupPacket } from "../../proxy/protocols/postgres/messages.ts";
import { newNonce, parseServerFirst } from "../../proxy/protocols/postgres/scram-exchange.ts";
import { within } from "./until.ts";

export type WireMessage = { readonly type: string; readonly body: Buffer };

export type WireLogin = {
  readonly user: string;
  readonly password: string;
  readonly database: string;
  readonly parameters?: Readonly<Record<string, string>>;
  /** Minor version of protocol 3. */
  readonly minor?: number;
};

const TERMINATOR = Uint8Array.of(0);
/** Longer than any statement that a test lets run into its tier's timeout. */
const MESSAGE_DEADLINE_MS = 30_000;

export class WireClient implements AsyncDisposable {
  readonly #socket: Socket;
  #received: Buffer = Buffer.alloc(0);
  #closed = false;
  #wake: (() => void)[] = [];

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.setNoDelay(true);
    socket.on("data", (chunk) => {
      const bytes = typeof chunk === "string" ? Buffer.from(chunk) : chunk;
      this.#received = Buffer.concat([this.#received, bytes]);
      this.#notify();
    });
    socket.on("error", () => {});
    socket.on("close", () => {
      this.#closed = true;
      this.#notify();
    });
  }

  static async connect(where: NetConnectOpts): Promise<WireClient> {
    const socket = connect(where);
    await within(
      "a connection",
      new Promise<void>((resolve, reject) => {
        socket.once("connect", resolve);
        socket.once("error", reject);
      }),
    );
    return new WireClient(socket);
  }

  /** Connects and logs in by SCRAM-SHA-256; rejects with the server's error message. */
  static async login(where: NetConnectOpts, login: WireLogin): Promise<WireClient> {
    const client = await WireClient.connect(where);
    await client.logIn(login);
    return client;
  }

  /** All that was sent to it, from AuthenticationOk to the first ReadyForQuery, in its order. */
  async logIn(login: WireLogin): Promise<readonly WireMessage[]> {
    this.send(startupOf(login));
    const seen: WireMessage[] = [];
    const nonce = newNonce();
    const first = Buffer.from(`n,,n=,r=${nonce}`);
    for (;;) {
      const next = await this.message();
      seen.push(next);
      if (next.type === "E") throw new Error(errorText(next));
      if (next.type === "Z") return seen;
      if (next.type !== "R") continue;
      const step = next.body.readUInt32BE();
      if (step === 10) this.send(message("p", "SCRAM-SHA-256", first.length, first));
      if (step === 11) this.send(answer(next.body.subarray(4).toString(), nonce, login.password));
    }
  }

  send(...parts: readonly Uint8Array[]): void {
    this.#socket.write(Buffer.concat(parts));
  }

  /** Sends each piece by itself, so that the other side reads them one by one. */
  async sendPieces(pieces: readonly Uint8Array[]): Promise<void> {
    for (const piece of pieces) {
      await new Promise<void>((sent) => this.#socket.write(piece, () => sent()));
    }
  }

  /** The next message; rejects when the connection ends before it. */
  async message(): Promise<WireMessage> {
    const received = await this.#take((bytes) => {
      if (bytes.length < 5) return 0;
      const total = bytes.readUInt32BE(1) + 1;
      return bytes.length < total ? 0 : total;
    });
    return { type: String.fromCharCode(received[0] ?? 0), body: received.subarray(5) };
  }

  /** The next byte, which is no message: the answer to an SSLRequest. */
  async byte(): Promise<string> {
    return (await this.#take((bytes) => Math.min(1, bytes.length))).toString("latin1");
  }

  /** All messages up to and with the `count`th ReadyForQuery from here. */
  async untilReady(count = 1): Promise<readonly WireMessage[]> {
    const seen: WireMessage[] = [];
    for (let ready = 0; ready < count; ) {
      const next = await this.message();
      seen.push(next);
      if (next.type === "Z") ready += 1;
    }
    return seen;
  }

  /** Runs a Query message. */
  async query(text: string): Promise<readonly WireMessage[]> {
    this.send(message("Q", text));
    return await this.untilReady();
  }

  /** Everything up to the end of the connection, which must come. */
  async untilClosed(): Promise<readonly WireMessage[]> {
    await within(
      "the end of the connection",
      this.#until(() => this.#closed),
    );
    const seen: WireMessage[] = [];
    while (this.#received.length >= 5) seen.push(await this.message());
    return seen;
  }

  /** Resolves when the connection has ended, whatever came before. */
  async ended(): Promise<void> {
    await within(
      "the end of the connection",
      this.#until(() => this.#closed),
    );
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** What has come and not been taken. */
  get pendingBytes(): number {
    return this.#received.length;
  }

  /** Does not read until `resume`. */
  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  /** Ends our direction only. */
  endWriting(): void {
    this.#socket.end();
  }

  /** Vanishes without a word. */
  destroy(): void {
    this.#socket.destroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#socket.destroy();
    await this.#until(() => this.#closed);
  }

  #notify(): void {
    const wake = this.#wake;
    this.#wake = [];
    for (const call of wake) call();
  }

  async #until(condition: () => boolean): Promise<void> {
    while (!condition()) await new Promise<void>((resolve) => this.#wake.push(resolve));
  }

  /** Takes as many bytes as `measure` says; it is asked again while that is 0. */
  async #take(measure: (bytes: Buffer) => number): Promise<Buffer> {
    let length = 0;
    await within(
      "a message",
      this.#until(() => {
        length = measure(this.#received);
        return length > 0 || this.#closed;
      }),
      MESSAGE_DEADLINE_MS,
    );
    if (length === 0) throw new Error("the connection ended");
    const taken = this.#received.subarray(0, length);
    this.#received = this.#received.subarray(length);
    return taken;
  }
}

export function startupOf(login: Omit<WireLogin, "password">): Uint8Array {
  const pairs = ["user", login.user, "database", login.database];
  for (const [name, value] of Object.entries(login.parameters ?? {})) pairs.push(name, value);
  return startupPacket((3 << 16) | (login.minor ?? 0), ...pairs, TERMINATOR);
}

function answer(challenge: string, nonce: string, password: string): Uint8Array {
  const first = parseServerFirst(challenge, nonce);
  if (first === null) throw new Error(`not a SCRAM challenge: ${challenge}`);
  const withoutProof = `c=biws,r=${first.nonce}`;
  const authMessage = `n=,r=${nonce},${challenge},${withoutProof}`;
  const { proof } = clientProof(saltPassword(password, first), authMessage);
  return message("p", Buffer.from(`${withoutProof},p=${proof}`));
}

/** The fields of an ErrorResponse or NoticeResponse by their letter. */
export function fieldsOf({ body }: WireMessage): Readonly<Record<string, string>> {
  const fields: Record<string, string> = {};
  for (const field of body.toString().split("\0")) {
    if (field !== "") fields[field.charAt(0)] = field.slice(1);
  }
  return fields;
}

/** `SQLSTATE message`, as one would say it. */
export function errorText(error: WireMessage): string {
  const { C: state = "", M: text = "" } = fieldsOf(error);
  return `${state} ${text}`;
}

/** The types of messages, one letter each. */
export function typesOf(messages: readonly WireMessage[]): string {
  return messages.map(({ type }) => type).join("");
}

/** The texts of all DataRows, one list per row. */
export function rowsOf(messages: readonly WireMessage[]): readonly (readonly (string | null)[])[] {
  return messages.flatMap(({ type, body }) => (type === "D" ? [rowOf(body)] : []));
}

function rowOf(body: Buffer): (string | null)[] {
  const row: (string | null)[] = [];
  let at = 2;
  for (let left = body.readUInt16BE(); left > 0; left--) {
    const length = body.readInt32BE(at);
    at += 4;
    row.push(length < 0 ? null : body.subarray(at, at + length).toString());
    at += Math.max(0, length);
  }
  return row;
}

/** Messages of the extended protocol, for pipelines written by hand. */
export const extended = {
  parse: (name: string, text: string): Uint8Array => message("P", name, text, Uint8Array.of(0, 0)),
  /** Binds parameters as text. */
  bind: (portal: string, statement: string, ...values: readonly string[]): Uint8Array => {
    const parts = values.flatMap((value) => [Buffer.byteLength(value), Buffer.from(value)]);
    const count = Uint8Array.of(0, values.length);
    return message(
      "B",
      portal,
      statement,
      Uint8Array.of(0, 0),
      count,
      ...parts,
      Uint8Array.of(0, 0),
    );
  },
  describeStatement: (name: string): Uint8Array => message("D", Buffer.from("S"), name),
  describePortal: (name: string): Uint8Array => message("D", Buffer.from("P"), name),
  execute: (portal: string, rowsMax = 0): Uint8Array => message("E", portal, rowsMax),
  closeStatement: (name: string): Uint8Array => message("C", Buffer.from("S"), name),
  closePortal: (name: string): Uint8Array => message("C", Buffer.from("P"), name),
  sync: message("S"),
  flush: message("H"),
} as const;
