/**
 * Asks a server's planner about a statement, over a connection that nobody uses meanwhile, as the
 * tenant's own role. The statement is not run: EXPLAIN plans it, in a read-only transaction that is
 * rolled back.
 */
import { uint32At } from "../../bytes.ts";
import { message, SERVER, STATUS, syncMessage } from "./messages.ts";
import { closeStatementMessage } from "./prepared-statements.ts";
import { SqlScanner, TOKEN } from "./sql-scanner.ts";
import type { UpstreamConnection, UpstreamOwner } from "./upstream-connection.ts";

/**
 * It waits for nobody's locks for long, the asking session's own included, and plans for no longer
 * than this; a plan with parameters is made without regard to their values, which are not known.
 */
const SETTINGS =
  "BEGIN READ ONLY; SET LOCAL lock_timeout = 50; SET LOCAL statement_timeout = 500; " +
  "SET LOCAL plan_cache_mode = force_generic_plan";
const NAME = "o7s_cost";
/** The protocol has no more. */
const PARAMETERS_MAX = 65_535;
/** Of plans longer than this only the beginning is looked at, which is where the cost stands. */
const KEPT_BYTES_MAX = 65_536;
/** SETTINGS, EXPLAIN, Close and ROLLBACK end with one ReadyForQuery each. */
const READIES = 4;
const HEADER_BYTES = 5;
const TOTAL_COST = /"Total Cost": (\d+(?:\.\d+)?)/;

/**
 * Calls `done` once with the planner's total cost of `text`, null where it cannot tell, and whether
 * the connection is as it was before; else it is of no more use.
 */
export function estimateCost(
  upstream: UpstreamConnection,
  text: string,
  done: (cost: number | null, reusable: boolean) => void,
): void {
  upstream.own(new Estimating(done));
  upstream.unnamed = null;
  const values = Array.from({ length: parametersIn(text) }, () => "NULL").join(", ");
  const explain = `EXPLAIN (FORMAT JSON) EXECUTE ${NAME}${values === "" ? "" : `(${values})`}`;
  upstream.write(
    Buffer.concat([
      message("Q", SETTINGS),
      // The server takes only one statement here. The text came byte by byte, whatever its
      // encoding, and goes on so.
      message("P", NAME, Buffer.from(text, "latin1"), Uint8Array.of(0, 0, 0)),
      message("P", "", explain, Uint8Array.of(0, 0)),
      message("B", "", "", Uint8Array.of(0, 0, 0, 0, 0, 0)),
      message("E", "", 0),
      syncMessage,
      // After the Sync, because an error before it would make the server skip it.
      closeStatementMessage(NAME),
      syncMessage,
      message("Q", "ROLLBACK"),
    ]),
  );
}

/** The highest number of a parameter in `text`. */
function parametersIn(text: string): number {
  if (!text.includes("$")) return 0;
  const scanner = new SqlScanner().read(text);
  let highest = 0;
  let dollarEnd = -1;
  for (let kind = scanner.next(); kind !== TOKEN.end; kind = scanner.next()) {
    const follows = kind === TOKEN.number && scanner.start === dollarEnd;
    if (follows) highest = Math.max(highest, Number.parseInt(scanner.token(), 10));
    dollarEnd = kind === TOKEN.sign && scanner.token() === "$" ? scanner.end : -1;
  }
  return Math.min(highest, PARAMETERS_MAX);
}

/** Reads the answers, and the cost out of the only row. */
class Estimating implements UpstreamOwner {
  readonly #done: (cost: number | null, reusable: boolean) => void;
  /** The message at hand, as far as it is here and kept. */
  #kept: Uint8Array = new Uint8Array(0);
  /** Bytes of a long message that are still to come. */
  #skip = 0;
  #readies = 0;
  #cost: number | null = null;
  #over = false;

  constructor(done: (cost: number | null, reusable: boolean) => void) {
    this.#done = done;
  }

  upstreamData(bytes: Uint8Array): void {
    const skipped = Math.min(this.#skip, bytes.length);
    this.#skip -= skipped;
    if (skipped === bytes.length) return;
    const all = Buffer.concat([this.#kept, bytes.subarray(skipped)]);
    let at = 0;
    while (!this.#over && all.length - at >= HEADER_BYTES) {
      const total = uint32At(all, at + 1) + 1;
      if (total < HEADER_BYTES) {
        this.#finish(false);
        return;
      }
      const wanted = Math.min(total, KEPT_BYTES_MAX);
      if (all.length - at < wanted) break;
      this.#message(all[at] ?? 0, all.subarray(at + HEADER_BYTES, at + wanted));
      this.#skip = Math.max(0, total - (all.length - at));
      at = Math.min(all.length, at + total);
    }
    this.#kept = new Uint8Array(all.subarray(at));
  }

  upstreamDrained(): void {}

  upstreamClosed(): void {
    this.#finish(false);
  }

  #message(type: number, body: Buffer): void {
    if (type === SERVER.dataRow) {
      const cost = TOTAL_COST.exec(body.toString("latin1"))?.[1];
      if (cost !== undefined) this.#cost = Number(cost);
    } else if (type === SERVER.readyForQuery) {
      this.#readies += 1;
      if (this.#readies === READIES) this.#finish(body[0] === STATUS.idle);
    }
  }

  #finish(reusable: boolean): void {
    if (this.#over) return;
    this.#over = true;
    this.#done(this.#cost, reusable);
  }
}
