/**
 * Opening an upstream: connect, TLS where the address asks for it, StartupMessage, SCRAM as the
 * client, and what the server reports until its first ReadyForQuery.
 */
import type { Socket } from "bun";
import { clientProof, type ScramParameters, saltPassword } from "../../../platform/scram.ts";
import { BoundedMap } from "../../bounded-map.ts";
import { copyOf, uint32At } from "../../bytes.ts";
import type { UpstreamTarget } from "../../layers/database-router.ts";
import {
  AUTHENTICATION,
  errorFields,
  message,
  SERVER,
  STARTUP,
  startupPacket,
} from "./messages.ts";
import { newNonce, parseServerFirst } from "./scram-exchange.ts";
import { openSocket, UpstreamConnection } from "./upstream-connection.ts";

/**
 * The server's refusal, with its own error message to relay, or a failure to reach it, without one.
 */
export type UpstreamRefusal = {
  readonly refused: true;
  readonly sqlState: string;
  readonly reason: string;
  readonly errorMessage: Uint8Array | null;
};

/** Longer messages than this have no place in a login. */
const LOGIN_MESSAGE_BYTES_MAX = 65_536;

/**
 * Resolves with a connection that is ready for its first query, or with a refusal; never rejects.
 * `parameters` go into the StartupMessage after user and database.
 */
export function connectUpstream(
  target: UpstreamTarget,
  parameters: ReadonlyMap<string, string>,
  deadlineMs: number,
): Promise<UpstreamConnection | UpstreamRefusal> {
  return new Promise((resolve) => {
    const login = new UpstreamLogin(target, parameters, (outcome) => {
      clearTimeout(timer);
      resolve(outcome);
    });
    const timer = setTimeout(() => login.fail("the server did not answer in time"), deadlineMs);
    login.start();
  });
}

/** Salting costs 4,096 rounds; the salts of a role rarely change. */
const saltedPasswords = new BoundedMap<string, Uint8Array>(10_000);

function saltedPassword(password: string, parameters: ScramParameters): Uint8Array {
  const salt = Buffer.from(parameters.salt).toString("base64");
  const key = `${password} ${salt} ${parameters.iterations}`;
  const known = saltedPasswords.get(key);
  if (known !== undefined) return known;
  const salted = saltPassword(password, parameters);
  saltedPasswords.set(key, salted);
  return salted;
}

class UpstreamLogin {
  readonly #target: UpstreamTarget;
  readonly #parameters: ReadonlyMap<string, string>;
  readonly #done: (outcome: UpstreamConnection | UpstreamRefusal) => void;
  #connection: UpstreamConnection | null = null;
  #finished = false;
  #awaitingTlsAnswer = false;
  #received: Uint8Array = new Uint8Array(0);
  readonly #nonce = newNonce();
  #expectedSignature: string | null = null;
  #proven = false;

  constructor(
    target: UpstreamTarget,
    parameters: ReadonlyMap<string, string>,
    done: (outcome: UpstreamConnection | UpstreamRefusal) => void,
  ) {
    this.#target = target;
    this.#parameters = parameters;
    this.#done = done;
  }

  start(): void {
    const { address, generation } = this.#target;
    openSocket<UpstreamConnection>(address, {
      socket: {
        open: (socket) => {
          const connection = new UpstreamConnection(socket, address, generation, this);
          socket.data = connection;
          this.#connection = connection;
          if (this.#finished) connection.close();
          else if (address.transport === "tcp" && address.tls !== "disable") this.#askForTls();
          else this.#sendStartup();
        },
        data: (socket, bytes) => socket.data.received(bytes),
        drain: (socket) => socket.data.drained(),
        close: (socket) => socket.data?.ended(),
        error: (_socket, error) => this.fail(error.message),
      },
    }).catch((error: unknown) => this.fail(String(error)));
  }

  fail(reason: string, sqlState = "08006", errorMessage: Uint8Array | null = null): void {
    if (this.#finished) return;
    this.#finished = true;
    this.#connection?.close();
    this.#done({ refused: true, sqlState, reason, errorMessage });
  }

  upstreamDrained(): void {}

  upstreamClosed(): void {
    this.fail("the server closed the connection during login");
  }

  upstreamData(bytes: Uint8Array): void {
    if (this.#finished) return;
    if (this.#awaitingTlsAnswer) {
      this.#startTls(bytes);
      return;
    }
    this.#received = this.#received.length === 0 ? bytes : Buffer.concat([this.#received, bytes]);
    let at = 0;
    while (!this.#finished && this.#received.length - at >= 5) {
      const length = uint32At(this.#received, at + 1);
      if (length < 4 || length > LOGIN_MESSAGE_BYTES_MAX) {
        this.fail("the server sent a malformed message");
        return;
      }
      if (this.#received.length - at < length + 1) break;
      this.#message(this.#received[at] ?? 0, this.#received.subarray(at, at + length + 1));
      at += length + 1;
    }
    this.#received = copyOf(this.#received, at);
  }

  #askForTls(): void {
    this.#awaitingTlsAnswer = true;
    this.#connection?.write(startupPacket(STARTUP.sslRequest));
  }

  #startTls(answer: Uint8Array): void {
    this.#awaitingTlsAnswer = false;
    const { address } = this.#target;
    const connection = this.#connection;
    if (connection === null || address.transport !== "tcp") return;
    // Bytes after the S would be an attacker's, slipped in before the encryption (CVE-2021-23222).
    if (answer.length !== 1 || answer[0] !== 0x53) {
      this.fail("the server does not take TLS connections");
      return;
    }
    const verify = address.tls === "verify-full";
    const [, encrypted] = connection.socket.upgradeTLS<UpstreamConnection>({
      data: connection,
      tls: { rejectUnauthorized: verify, serverName: address.host },
      socket: {
        handshake: (_socket: Socket<UpstreamConnection>, success: boolean, error: Error | null) => {
          if (verify ? success && error === null : success) this.#sendStartup();
          else this.fail(`TLS with the server failed: ${error?.message ?? "no handshake"}`);
        },
        data: (socket: Socket<UpstreamConnection>, bytes: Buffer) => socket.data.received(bytes),
        drain: (socket: Socket<UpstreamConnection>) => socket.data.drained(),
        close: (socket: Socket<UpstreamConnection>) => socket.data.ended(),
        error: (_socket: Socket<UpstreamConnection>, error: Error) => this.fail(error.message),
      },
    });
    connection.replaceSocket(encrypted);
  }

  #sendStartup(): void {
    const { roleName, databaseName } = this.#target;
    const pairs = ["user", roleName, "database", databaseName];
    for (const [name, value] of this.#parameters) pairs.push(name, value);
    this.#connection?.write(startupPacket(3 << 16, ...pairs, Uint8Array.of(0)));
  }

  #message(type: number, whole: Uint8Array): void {
    const connection = this.#connection;
    if (connection === null) return;
    const body = whole.subarray(5);
    switch (type) {
      case SERVER.authentication:
        this.#authentication(body);
        break;
      case SERVER.parameterStatus: {
        const [name = "", value = ""] = new TextDecoder().decode(body).split("\0");
        connection.parameters.set(name, value);
        break;
      }
      case SERVER.backendKeyData:
        connection.processId = uint32At(body, 0);
        connection.secretKey = copyOf(body, 4);
        break;
      case SERVER.readyForQuery:
        this.#finished = true;
        this.#done(connection);
        break;
      case SERVER.errorResponse: {
        const fields = errorFields(body);
        this.fail(fields.get("M") ?? "", fields.get("C") ?? "08006", copyOf(whole));
        break;
      }
      default:
        break; // Notices, and what later versions may add.
    }
  }

  #authentication(body: Uint8Array): void {
    const step = uint32At(body, 0);
    const text = (): string => new TextDecoder().decode(body.subarray(4));
    if (step === AUTHENTICATION.ok) {
      // A server that lets us in without proving that it knows the secret is not ours.
      if (!this.#proven) this.fail("the server did not ask for a password");
    } else if (step === AUTHENTICATION.sasl && text().split("\0").includes("SCRAM-SHA-256")) {
      const first = Buffer.from(`n,,n=,r=${this.#nonce}`);
      this.#connection?.write(message("p", "SCRAM-SHA-256", first.length, first));
    } else if (step === AUTHENTICATION.saslContinue) {
      this.#answerChallenge(text());
    } else if (step === AUTHENTICATION.saslFinal) {
      this.#proven = this.#expectedSignature !== null && text() === `v=${this.#expectedSignature}`;
      if (!this.#proven) this.fail("the server could not prove that it knows the password");
    } else {
      this.fail("the server asks for a kind of authentication other than SCRAM-SHA-256");
    }
  }

  #answerChallenge(challenge: string): void {
    const first = parseServerFirst(challenge, this.#nonce);
    if (first === null) {
      this.fail("the server sent a malformed SCRAM message");
      return;
    }
    const withoutProof = `c=biws,r=${first.nonce}`; // biws is "n,," in base64: no channel binding.
    const authMessage = `n=,r=${this.#nonce},${challenge},${withoutProof}`;
    const answer = clientProof(saltedPassword(this.#target.password, first), authMessage);
    this.#expectedSignature = answer.serverSignature;
    this.#connection?.write(message("p", Buffer.from(`${withoutProof},p=${answer.proof}`)));
  }
}
