import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  FATE,
  FrameReader,
  type FrameReceiver,
  typeSet,
} from "../../../../proxy/protocols/postgres/frame-reader.ts";
import { message } from "../../../../proxy/protocols/postgres/messages.ts";
import { seed } from "../../../support/seed.ts";
import { bytewise, cutPlaces, splitAt } from "../../../support/splits.ts";

/** What messages of a type become; all others are forwarded. */
const DISCARDED = "x";
const FORWARDED_NOW = "n";
const WAITING = "w";
const REWRITTEN = "r";
const WHOLE = ["q", REWRITTEN];
/** How much of a rewritten message's beginning is replaced, and by what. */
const REWRITTEN_BYTES = 7;
const REPLACEMENT = Buffer.from("<new>");
const WHOLE_BYTES_MAX = 64;

const WHOLE_MESSAGES = {
  types: typeSet(WHOLE.map((type) => type.charCodeAt(0))),
  bytesMax: WHOLE_BYTES_MAX,
  beginningBytes: 16,
};

/** Keeps what is forwarded, and notes what was decided about. */
class Receiver implements FrameReceiver {
  readonly rewrittenBytes = REWRITTEN_BYTES;
  readonly out: Buffer[] = [];
  readonly seen: string[] = [];
  readonly reader = new FrameReader(this, WHOLE_MESSAGES);
  malformedCount = 0;
  /** Messages of the waiting type that have waited once, and go on. */
  #mayPass = false;
  #rewriting = false;

  message(type: number, bytes: Uint8Array, at: number, available: number, total: number): number {
    const letter = String.fromCharCode(type);
    expect(available).toBeLessThanOrEqual(total);
    expect(at + available).toBeLessThanOrEqual(bytes.length);
    if (WHOLE.includes(letter) && total <= WHOLE_BYTES_MAX) expect(available).toBe(total);
    if (letter === WAITING && !this.#mayPass) return FATE.wait;
    this.#mayPass = false;
    this.seen.push(letter);
    if (letter === DISCARDED) return FATE.discard;
    if (letter === FORWARDED_NOW) return FATE.forwardNow;
    this.#rewriting = letter === REWRITTEN;
    return this.#rewriting ? FATE.rewrite : FATE.forward;
  }

  forward(bytes: Uint8Array, start: number, end: number): void {
    expect(end).toBeGreaterThan(start);
    this.out.push(Buffer.from(bytes.subarray(start, end)));
  }

  boundary(): void {
    if (this.#rewriting) this.out.push(REPLACEMENT);
    this.#rewriting = false;
  }

  malformed(): void {
    this.malformedCount += 1;
  }

  /** Pushes pieces whose memory is used for something else afterwards, as a socket's may be. */
  take(pieces: readonly Uint8Array[]): void {
    for (const piece of pieces) {
      const borrowed = Buffer.from(piece);
      this.reader.push(borrowed);
      borrowed.fill(0xee);
      while (this.reader.waiting) {
        this.#mayPass = true;
        this.reader.resume();
      }
    }
  }

  get bytes(): Buffer {
    return Buffer.concat(this.out);
  }
}

type Sent = { readonly type: string; readonly body: Uint8Array };

const sent: fc.Arbitrary<Sent> = fc.record({
  type: fc.constantFrom("a", "q", DISCARDED, FORWARDED_NOW, WAITING, REWRITTEN),
  // A rewritten message has at least what is replaced of it.
  body: fc.uint8Array({ minLength: REWRITTEN_BYTES, maxLength: 200 }),
});

const encode = ({ type, body }: Sent): Uint8Array => message(type, body);

function expectedOf(messages: readonly Sent[]): Buffer {
  return Buffer.concat(
    messages.flatMap((one) => {
      if (one.type === DISCARDED) return [];
      if (one.type === REWRITTEN) return [REPLACEMENT, encode(one).subarray(REWRITTEN_BYTES)];
      return [encode(one)];
    }),
  );
}

function check(messages: readonly Sent[], pieces: readonly Uint8Array[]): void {
  const receiver = new Receiver();
  receiver.take(pieces);
  expect(receiver.seen.join("")).toBe(messages.map(({ type }) => type).join(""));
  expect(receiver.bytes.equals(expectedOf(messages))).toBe(true);
  expect(receiver.reader.midMessage).toBe(false);
}

describe("every byte is forwarded, discarded or replaced, once and in order", () => {
  test("whole, byte by byte and however the stream is cut", () => {
    fc.assert(
      fc.property(fc.array(sent, { maxLength: 20 }), cutPlaces(40), (messages, cuts) => {
        const bytes = Buffer.concat(messages.map(encode));
        check(messages, [bytes]);
        check(messages, bytewise(bytes));
        check(messages, splitAt(bytes, cuts));
      }),
      { seed, numRuns: 150 },
    );
  });
});

test("neighbours that are forwarded leave as one run", () => {
  const receiver = new Receiver();
  const bytes = Buffer.concat(["one", "two", "three"].map((text) => message("a", text)));
  receiver.take([bytes]);
  expect(receiver.out).toEqual([bytes]);
});

test("a long message passes through as it comes, without being gathered", () => {
  const receiver = new Receiver();
  const long = message("a", new Uint8Array(100_000));
  receiver.take([long.subarray(0, 5)]);
  expect(receiver.bytes.length).toBe(5);
  expect(receiver.reader.midMessage).toBe(true);
  receiver.take([long.subarray(5, 50_000)]);
  expect(receiver.bytes.length).toBe(50_000);
  receiver.take([long.subarray(50_000)]);
  expect(receiver.bytes.length).toBe(long.length);
  expect(receiver.reader.midMessage).toBe(false);
});

test("a message that waits is kept with all behind it, and can be refused in its place", () => {
  for (const cut of [5, 8, 17, 40]) {
    const receiver = new Receiver();
    const [first, waiting, last] = [
      message("a", "1"),
      message(WAITING, "0123456789"),
      message("a", "2"),
    ];
    const bytes = Buffer.concat([first, waiting, last]);
    receiver.reader.push(bytes.subarray(0, first.length + cut));
    expect(receiver.bytes.equals(first)).toBe(true);
    expect(receiver.reader.waiting).toBe(true);
    const refused: number[] = [];
    receiver.reader.refuse((type) => refused.push(type));
    receiver.reader.resume();
    receiver.reader.push(bytes.subarray(first.length + cut));
    expect(refused).toEqual([WAITING.charCodeAt(0)]);
    expect(receiver.bytes.equals(Buffer.concat([first, last]))).toBe(true);
  }
});

test("a length that no message has stops it for good, at once", () => {
  for (const length of ["00000000", "00000003", "40000000", "ffffffff"]) {
    const receiver = new Receiver();
    receiver.take([
      message("a", "before"),
      Buffer.from(`61${length}`, "hex"),
      message("a", "behind"),
    ]);
    expect(receiver.malformedCount).toBe(1);
    expect(receiver.seen).toEqual(["a"]);
  }
});

test("after a stop nothing is read; after a reset a new stream begins", () => {
  const receiver = new Receiver();
  receiver.take([message("a", "cut short").subarray(0, 8)]);
  receiver.reader.reset();
  receiver.take([message("a", "anew")]);
  expect(receiver.seen).toEqual(["a", "a"]);
  receiver.reader.stop();
  receiver.take([message("a", "late")]);
  expect(receiver.seen.length).toBe(2);
});
