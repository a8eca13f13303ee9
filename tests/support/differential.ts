/**
 * Random scripts for several sessions, run by turns through O7s and directly, whose replies must be
 * the same byte for byte. A script follows from its seed alone. Sessions through O7s share
 * connections, so a reply that belongs to another session, or state that leaks or is lost, shows as
 * a difference.
 */
import type { NetConnectOpts } from "node:net";
import { message } from "../../proxy/protocols/postgres/messages.ts";
import { extended, WireClient, type WireLogin, type WireMessage } from "./wire.ts";

export type Side = { readonly where: NetConnectOpts; readonly login: WireLogin };

export const SESSIONS = 4;

/** To be run on both sides before the first script. */
export const FIXTURE = [
  "CREATE TABLE facts (id int PRIMARY KEY, fact text)",
  "INSERT INTO facts SELECT n, repeat('fact ', n) FROM generate_series(1, 50) n",
  ...Array.from({ length: SESSIONS }, (_, n) => `CREATE TABLE own${n} (id int, note text)`),
] as const;

/** One turn of one session: what is sent, and how many ReadyForQuery it brings. */
export type Step = {
  readonly session: number;
  readonly what: string;
  readonly messages: readonly Uint8Array[];
  readonly readies: number;
};

export type Difference = {
  readonly step: number;
  readonly direct: string;
  readonly proxied: string;
};

/** A small generator of our own (mulberry32), so that a seed means the same for ever. */
class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  below(bound: number): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = this.#state;
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % bound;
  }

  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)] as T;
  }
}

const query = (text: string): Uint8Array => message("Q", text);
const copyData = (text: string): Uint8Array => message("d", Buffer.from(text));
const copyDone = message("c");
const copyFail = message("f", "changed my mind");

/** Statements as simple queries; `{n}` is the session's number, `{v}` a small random number. */
const SIMPLE: readonly string[] = [
  "SELECT {n}, 'session {n}', {v}",
  "SELECT id, fact FROM facts WHERE id <= {v} ORDER BY id",
  "SELECT repeat('{v}', 100 * {v}) FROM generate_series(1, {v} + 1)",
  "INSERT INTO own{n} VALUES ({v}, 'note {v}') RETURNING *",
  "UPDATE own{n} SET note = note || '!' WHERE id = {v}",
  "DELETE FROM own{n} WHERE id = {v}",
  "SELECT count(*), min(id), max(note) FROM own{n}",
  "SELECT 1; SELECT {v}; INSERT INTO own{n} VALUES ({v}, 'multi')",
  "SELECT 1; SELECT 1/0; SELECT 2",
  "SELECT missing FROM facts",
  "SELEC {v}",
  "",
  ";",
  "BEGIN",
  "BEGIN ISOLATION LEVEL REPEATABLE READ",
  "COMMIT",
  "ROLLBACK",
  "SAVEPOINT s",
  "ROLLBACK TO s",
  "SET random_page_cost = {v}",
  "SET LOCAL random_page_cost = 2{v}",
  "SHOW random_page_cost",
  "RESET random_page_cost",
  "SET application_name = 'app {n} {v}'",
  "SHOW application_name",
  "SET TIME ZONE 'Europe/Vienna'",
  "SELECT set_config('my.value', '{n}-{v}', false)",
  "SELECT set_config('my.value', 'local-{v}', true)",
  // A server never quite forgets a setting of one's own making: it goes on as empty.
  "SELECT nullif(current_setting('my.value', true), '')",
  "CREATE TEMP TABLE scratch (x int)",
  "INSERT INTO scratch VALUES ({v})",
  "SELECT sum(x) FROM scratch",
  "DROP TABLE scratch",
  "PREPARE sql{v} AS SELECT {v} + $1::int",
  "EXECUTE sql{v}(1)",
  "DEALLOCATE sql{v}",
  "DECLARE held CURSOR WITH HOLD FOR SELECT id FROM facts ORDER BY id",
  "FETCH 3 FROM held",
  "CLOSE held",
  "SELECT pg_advisory_lock({n} * 100 + {v})",
  "SELECT pg_advisory_unlock({n} * 100 + {v})",
  "SELECT pg_advisory_unlock_all()",
  "LISTEN channel{n}",
  "NOTIFY channel{n}, 'payload {v}'",
  "UNLISTEN *",
  "DISCARD ALL",
  "DO $$ BEGIN RAISE NOTICE 'noticed by {n}'; END $$",
  "DO $$ BEGIN RAISE EXCEPTION 'raised by {n}' USING DETAIL = 'detail', HINT = 'hint'; END $$",
  "COPY (SELECT id FROM facts WHERE id <= {v}) TO STDOUT",
  "EXPLAIN (COSTS OFF) SELECT * FROM facts WHERE id = {v}",
];

/** Statements for the extended protocol, each with one parameter of type text. */
const PREPARED: readonly string[] = [
  "SELECT $1::text",
  "SELECT id, fact FROM facts WHERE id <= $1::int ORDER BY id",
  "INSERT INTO own{n} VALUES ($1::int, 'extended') RETURNING id",
  "SELECT 10 / ($1::int - 3)",
  "SELECT wrong FROM facts WHERE id = $1::int",
  "SELECT {n} AS session, $1::text AS value",
  "BEGIN",
  "COMMIT",
];

const NAMES = ["", "", "one", "two"] as const;

/** The script of a seed. It ends with every session outside a transaction, if it can. */
export function scriptOf(seed: number, steps = 30): readonly Step[] {
  const random = new Random(seed);
  const script: Step[] = [];
  for (let n = 0; n < steps; n++) script.push(nextStep(random, random.below(SESSIONS)));
  return script;
}

function nextStep(random: Random, session: number): Step {
  const kind = random.below(10);
  if (kind < 5) return simpleStep(random, session);
  if (kind < 9) return extendedStep(random, session);
  return copyStep(random, session);
}

function fill(template: string, random: Random, session: number): string {
  return template.replaceAll("{n}", String(session)).replaceAll("{v}", () => `${random.below(9)}`);
}

function simpleStep(random: Random, session: number): Step {
  const texts = Array.from({ length: 1 + random.below(3) }, () =>
    fill(random.pick(SIMPLE), random, session),
  );
  return { session, what: texts.join(" | "), messages: texts.map(query), readies: texts.length };
}

/** A pipeline of one to three batches, each of some steps and a Sync. */
function extendedStep(random: Random, session: number): Step {
  const messages: Uint8Array[] = [];
  const what: string[] = [];
  const add = (bytes: Uint8Array, text: string): void => {
    messages.push(bytes);
    what.push(text);
  };
  const batches = 1 + random.below(3);
  for (let batch = 0; batch < batches; batch++) {
    for (let left = 1 + random.below(2); left > 0; left--) {
      const name = random.pick(NAMES);
      if (random.below(3) > 0) {
        const text = fill(random.pick(PREPARED), random, session);
        add(extended.parse(name, text), `parse ${name}: ${text}`);
      }
      if (random.below(3) === 0) add(extended.describeStatement(name), `describe ${name}`);
      if (random.below(5) > 0) bindAndExecute(random, name, add);
      if (random.below(8) === 0) add(extended.flush, "flush");
      if (random.below(5) === 0) add(extended.closeStatement(name), `close ${name}`);
    }
    add(extended.sync, "sync");
  }
  return { session, what: what.join(", "), messages, readies: batches };
}

function bindAndExecute(
  random: Random,
  name: string,
  add: (bytes: Uint8Array, text: string) => void,
): void {
  const value = String(random.below(9));
  const portal = random.pick(["", "", "portal"] as const);
  add(extended.bind(portal, name, value), `bind ${portal} to ${name}(${value})`);
  if (random.below(3) === 0) add(extended.describePortal(portal), `describe portal ${portal}`);
  const rowsMax = random.pick([0, 0, 2] as const);
  for (let times = rowsMax === 0 ? 1 : 2; times > 0; times--) {
    add(extended.execute(portal, rowsMax), `execute ${portal} ${rowsMax}`);
  }
}

/**
 * COPY FROM STDIN in the simple protocol: whole, failed by the client, or with rows that do not
 * fit.
 */
function copyStep(random: Random, session: number): Step {
  const row = random.pick(["1\tgood\n", "2\tbetter\n3\tbest\n", "not a number\tbad\n"] as const);
  const end = random.pick([copyDone, copyDone, copyFail] as const);
  const text = `COPY own${session} FROM STDIN`;
  return {
    session,
    what: `${text} ${JSON.stringify(row)} ${end === copyDone ? "done" : "fail"}`,
    messages: [query(text), copyData(row), copyData(row), end],
    readies: 1,
  };
}

/** Runs a script on both sides, step by step, and returns the first difference, or null. */
export async function compare(
  script: readonly Step[],
  direct: Side,
  proxied: Side,
): Promise<Difference | null> {
  await using both = new Sessions();
  await both.open(direct, proxied);
  for (let session = 0; session < SESSIONS; session++) {
    const messages = [query(`TRUNCATE own${session}`)];
    await both.run({ session, what: "reset", messages, readies: 1 });
  }
  for (const [index, step] of script.entries()) {
    const [left, right] = await both.run(step);
    if (left !== right) return { step: index, direct: left, proxied: right };
  }
  return null;
}

class Sessions implements AsyncDisposable {
  readonly #pairs: (readonly [WireClient, WireClient])[] = [];
  /** Sessions whose transaction has failed: they roll back before anything else. */
  readonly #failed = new Set<number>();

  async open(direct: Side, proxied: Side): Promise<void> {
    for (let n = 0; n < SESSIONS; n++) {
      const pair = await Promise.all([
        WireClient.login(direct.where, direct.login),
        WireClient.login(proxied.where, proxied.login),
      ]);
      this.#pairs.push(pair);
    }
  }

  async run(step: Step): Promise<readonly [string, string]> {
    const pair = this.#pairs[step.session];
    if (pair === undefined) throw new Error("no such session");
    if (this.#failed.delete(step.session)) {
      await Promise.all(pair.map((client) => client.query("ROLLBACK")));
    }
    const [left, right] = await Promise.all(
      pair.map(async (client) => {
        client.send(...step.messages);
        return await client.untilReady(step.readies);
      }),
    );
    const count = comparable(left ?? []);
    if (left?.at(-1)?.body[0] === 0x45) this.#failed.add(step.session);
    return [shown((left ?? []).slice(0, count)), shown((right ?? []).slice(0, count))];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const client of this.#pairs.flat()) await client[Symbol.asyncDispose]();
  }
}

/**
 * How many replies are compared: up to the end of the first batch that leaves its transaction
 * failed. What comes behind it are refusals on both sides; but which of two reasons is given
 * depends on whether the statement is prepared on this very connection, which in a failed
 * transaction it can no longer be.
 */
function comparable(replies: readonly WireMessage[]): number {
  const failed = replies.findIndex(({ type, body }) => type === "Z" && body[0] === 0x45);
  return failed < 0 ? replies.length : failed + 1;
}

/**
 * Replies as text, without what must differ: numbers of processes and of tables, and where in the
 * server's source an error was raised, which those that O7s raises in its place do not have.
 */
function shown(replies: readonly WireMessage[]): string {
  return replies.map(({ type, body }) => `${type} ${maskedBody(type, body)}`).join("\n");
}

function maskedBody(type: string, body: Buffer): string {
  if (type === "E") return body.toString("latin1").replace(/\0[FLR][^\0]*/g, "");
  if (type === "A") return body.subarray(4).toString("latin1");
  if (type !== "T") return body.toString("latin1");
  const masked = Buffer.from(body);
  let at = 2;
  for (let left = body.readUInt16BE(); left > 0; left--) {
    at = body.indexOf(0, at) + 1;
    masked.writeUInt32BE(0, at);
    at += 18;
  }
  return masked.toString("latin1");
}
