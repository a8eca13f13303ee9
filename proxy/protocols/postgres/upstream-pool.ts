/**
 * Pools: the connections to one database that sessions with the same startup parameters share. A
 * connection is lent to one session at a time, for as long as that has something under way or holds
 * state; it comes back clean or not at all.
 *
 * A pool belongs to one database of one org: a connection never crosses tenants.
 */
import type { Database } from "../../../platform/databases.ts";
import type { DatabaseId } from "../../../platform/ids.ts";
import type { ComputeLease, ComputeUser } from "../../compute-leases.ts";
import { type Denial, poolExhausted } from "../../denial.ts";
import { isDenial } from "../../pipeline.ts";
import type { Session } from "../../session.ts";
import { estimateCost } from "./cost-estimate.ts";
import { message, SERVER } from "./messages.ts";
import { StatementRegistry } from "./prepared-statements.ts";
import { QueryCosts, type SchemaChanges } from "./query-costs.ts";
import type { UpstreamConnection, UpstreamOwner } from "./upstream-connection.ts";
import type { UpstreamSupply } from "./upstream-supply.ts";

/** Somebody who waits for a connection. */
export type UpstreamWaiter = {
  readonly session: Session;
  lent(upstream: UpstreamConnection): void;
  refused(denial: Denial): void;
};

/** What a pool shares with the others of its org. */
export type OrgShare = {
  /** Whether one more connection may be opened for the org; makes room for it where it can. */
  makeRoom(connectionsMax: number): boolean;
  /** The changes of a database's schema that sessions of the org have made. */
  schemaOf(databaseId: DatabaseId): SchemaChanges;
};

export type UpstreamPoolOptions = {
  readonly supply: UpstreamSupply;
  readonly nowMs: () => number;
  /** Connections of a pool that are lent to sessions holding no state, or idle. */
  readonly sharedMax: number;
  /** How long a session waits for one. */
  readonly waitMs: number;
  /** After how much idleness one is closed. */
  readonly idleMs: number;
};

type Waiting = { readonly waiter: UpstreamWaiter; readonly sinceMs: number };

/**
 * How long an estimate waits for a connection, and for its answer; without one the statement runs.
 */
const ESTIMATE_WAIT_MS = 250;
const ESTIMATE_DEADLINE_MS = 1_000;

export class UpstreamPool implements ComputeUser {
  readonly registry = new StatementRegistry();
  /** Raised when somebody has changed the database's schema. */
  readonly schema: SchemaChanges;
  readonly costs: QueryCosts;
  /** As of the pool's first session; its name and kind do not change. */
  readonly database: Database;
  readonly #options: UpstreamPoolOptions;
  readonly #parameters: ReadonlyMap<string, string>;
  /** Most recently used last. */
  readonly #idle: UpstreamConnection[] = [];
  /** How many are lent, those pinned included. */
  #lent = 0;
  /**
   * How many are lent to sessions that hold state on them: they do not count, or a few would keep
   * all others out.
   */
  #pinned = 0;
  readonly #waiting: Waiting[] = [];
  #opening = 0;
  /** Raised when what connections are started with has changed. */
  #settingsEpoch = 0;
  /** What servers report at login, which is the same for every connection of the pool. */
  #reported: ReadonlyMap<string, string> | null = null;
  #lease: ComputeLease | null = null;

  readonly #org: OrgShare;
  /** Sessions that may ask it for a connection. */
  members = 0;

  constructor(
    database: Database,
    parameters: ReadonlyMap<string, string>,
    org: OrgShare,
    options: UpstreamPoolOptions,
  ) {
    this.schema = org.schemaOf(database.databaseId);
    this.costs = new QueryCosts(this.schema);
    this.database = database;
    this.#parameters = parameters;
    this.#org = org;
    this.#options = options;
  }

  get idle(): number {
    return this.#idle.length;
  }

  get lent(): number {
    return this.#lent;
  }

  get pinned(): number {
    return this.#pinned;
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  get opening(): number {
    return this.#opening;
  }

  /** How long whoever has waited longest has done so. */
  longestWaitMs(nowMs: number): number {
    const first = this.#waiting[0];
    return first === undefined ? 0 : nowMs - first.sinceMs;
  }

  /** Connections that are open or being opened. */
  get connections(): number {
    return this.#idle.length + this.#lent + this.#opening;
  }

  /** What a server reports at login to a session of this pool. Asks one only the first time. */
  async reportedParameters(session: Session): Promise<ReadonlyMap<string, string> | Denial> {
    if (this.#reported !== null) return this.#reported;
    const upstream = await this.#request(session);
    if (isDenial(upstream)) return upstream;
    this.giveBack(upstream);
    return upstream.parameters;
  }

  /** An idle connection, or null when one has to be waited for. */
  take(): UpstreamConnection | null {
    if (this.#waiting.length > 0) return null; // First come, first served.
    const upstream = this.#idle.pop();
    if (upstream === undefined) return null;
    this.#lend(upstream);
    return upstream;
  }

  /** Lends a connection as soon as there is one. */
  wait(waiter: UpstreamWaiter): void {
    this.#waiting.push({ waiter, sinceMs: this.#options.nowMs() });
    this.#openIfRoom();
  }

  leave(waiter: UpstreamWaiter): void {
    const index = this.#waiting.findIndex((waiting) => waiting.waiter === waiter);
    if (index >= 0) this.#waiting.splice(index, 1);
  }

  /** The session holds state on its connection from now on. */
  pin(upstream: UpstreamConnection): void {
    if (upstream.use !== "lent") return;
    upstream.use = "pinned";
    this.#pinned += 1;
    this.#openIfRoom();
  }

  unpin(upstream: UpstreamConnection): void {
    if (upstream.use !== "pinned") return;
    upstream.use = "lent";
    this.#pinned -= 1;
  }

  /**
   * The planner's cost of a statement, asked over a connection that is free or becomes so in time;
   * null where it cannot be told. `session` is on whose behalf. A session that has a connection
   * does not wait for another, or all might for each other's.
   */
  async estimateCost(session: Session, text: string): Promise<number | null> {
    const upstream = this.take() ?? (await this.#lentInTime(session));
    if (upstream === null) return null;
    const done = Promise.withResolvers<number | null>();
    const timer = setTimeout(() => done.resolve(null), ESTIMATE_DEADLINE_MS);
    estimateCost(upstream, text, (cost, reusable) => {
      clearTimeout(timer);
      if (reusable) this.giveBack(upstream);
      else this.discard(upstream);
      done.resolve(cost);
    });
    return await done.promise;
  }

  #lentInTime(session: Session): Promise<UpstreamConnection | null> {
    return new Promise((resolve) => {
      const waiter: UpstreamWaiter = {
        session,
        lent: (upstream) => {
          clearTimeout(timer);
          resolve(upstream);
        },
        refused: () => {
          clearTimeout(timer);
          resolve(null);
        },
      };
      const timer = setTimeout(() => {
        this.leave(waiter);
        resolve(null);
      }, ESTIMATE_WAIT_MS);
      this.wait(waiter);
    });
  }

  /** Takes back a connection on which nothing is under way and no state is held. */
  giveBack(upstream: UpstreamConnection): void {
    if (upstream.cancelling) {
      upstream.own(this.#keeperOf(upstream));
      upstream.whenCancelled(() => this.giveBack(upstream));
      return;
    }
    this.#forget(upstream);
    if (upstream.settingsEpoch !== this.#settingsEpoch) upstream.close();
    if (upstream.closed) {
      this.#openIfRoom();
      return;
    }
    const next = this.#waiting.shift();
    if (next !== undefined) {
      this.#lend(upstream);
      next.waiter.lent(upstream);
      return;
    }
    upstream.own(this.#keeperOf(upstream));
    upstream.idleSinceMs = this.#options.nowMs();
    this.#idle.push(upstream);
  }

  /** Takes back a connection whose session has left state on it: it is made as new first. */
  giveBackUsed(upstream: UpstreamConnection): void {
    upstream.statements.clear();
    upstream.unnamed = null;
    upstream.own(new Cleaning(upstream, this));
    upstream.write(DISCARD_ALL);
  }

  /** Takes back a connection that is not to be used again. */
  discard(upstream: UpstreamConnection): void {
    upstream.close();
    this.#forget(upstream);
    this.#openIfRoom();
  }

  /** Takes note that a server has ended a connection that no session was using. */
  ended(upstream: UpstreamConnection): void {
    // A compute that has been stopped must not have its lease renewed: that would start it again.
    this.#lease?.lost(upstream.generation);
    this.discard(upstream);
  }

  /**
   * The tier's settings have changed: connections that were started with the old ones are not lent
   * again.
   */
  renewSettings(): void {
    this.#settingsEpoch += 1;
    this.closeIdle();
    this.#openIfRoom();
  }

  /**
   * Called several times a second: closes what has been idle, and refuses those who have waited too
   * long.
   */
  sweep(nowMs: number): void {
    while (this.#idle.length > 0) {
      const oldest = this.#idle[0] as UpstreamConnection;
      if (nowMs - oldest.idleSinceMs < this.#options.idleMs) break;
      this.#idle.shift();
      oldest.close();
    }
    while (this.#waiting.length > 0) {
      const { waiter, sinceMs } = this.#waiting[0] as Waiting;
      if (nowMs - sinceMs < this.#options.waitMs) break;
      this.#waiting.shift();
      waiter.refused(poolExhausted(waiter.session.route.database, this.#options.waitMs));
    }
    this.#openIfRoom(); // Another pool of the org may have made room meanwhile.
  }

  /** The pool is forgotten: nobody uses it and it has no connections. */
  retire(): void {
    this.#lease?.users.delete(this);
  }

  closeIdle(): void {
    for (const upstream of this.#idle.splice(0)) upstream.close();
  }

  /** Closes the idle connection that has been so for longest; false when there is none. */
  closeOldestIdle(): boolean {
    const oldest = this.#idle.shift();
    oldest?.close();
    return oldest !== undefined;
  }

  // ——— ComputeUser ———

  keepAwake(): void {} // An idle connection keeps nothing awake.

  computeSleeps(): void {
    this.closeIdle();
  }

  #lend(upstream: UpstreamConnection): void {
    upstream.use = "lent";
    this.#lent += 1;
  }

  #forget(upstream: UpstreamConnection): void {
    if (upstream.use === "idle") return;
    this.unpin(upstream);
    upstream.use = "idle";
    this.#lent -= 1;
  }

  /** Opens connections for those who wait, within the bound. */
  #openIfRoom(): void {
    while (this.#waiting.length > this.#opening) {
      const shared = this.#lent - this.#pinned + this.#idle.length + this.#opening;
      if (shared >= this.#options.sharedMax) return;
      if (!this.#org.makeRoom(this.#waiting[0]?.waiter.session.tenant.limits.connections ?? 1)) {
        return;
      }
      const first = this.#waiting[0] as Waiting;
      this.#opening += 1;
      this.#open(first.waiter.session).then(
        (upstream) => this.#opened(upstream),
        () => {}, // `supply` answers failures; it does not reject.
      );
    }
  }

  async #open(session: Session): Promise<UpstreamConnection | Denial> {
    const settingsEpoch = this.#settingsEpoch;
    const upstream = await this.#options.supply(session, this.#parameters);
    this.#opening -= 1;
    if (!isDenial(upstream)) {
      upstream.settingsEpoch = settingsEpoch;
      this.#reported ??= upstream.parameters;
      this.#joinLease(session);
    }
    return upstream;
  }

  #opened(upstream: UpstreamConnection | Denial): void {
    if (!isDenial(upstream)) {
      this.giveBack(upstream);
      return;
    }
    // Whatever is wrong is wrong for everyone who waits here.
    for (const { waiter } of this.#waiting.splice(0)) waiter.refused(upstream);
  }

  #request(session: Session): Promise<UpstreamConnection | Denial> {
    const idle = this.take();
    if (idle !== null) return Promise.resolve(idle);
    return new Promise((resolve) => this.wait({ session, lent: resolve, refused: resolve }));
  }

  #joinLease(session: Session): void {
    const { lease } = session.route;
    if (lease === this.#lease) return;
    this.#lease?.users.delete(this);
    this.#lease = lease;
    lease?.users.add(this);
  }

  /**
   * Watches a connection that nobody uses: one that the server ends is forgotten without a word.
   */
  #keeperOf(upstream: UpstreamConnection): UpstreamOwner {
    upstream.keeper ??= {
      upstreamData() {},
      upstreamDrained() {},
      upstreamClosed: () => {
        const index = this.#idle.indexOf(upstream);
        if (index >= 0) this.#idle.splice(index, 1);
        this.ended(upstream);
      },
    };
    return upstream.keeper;
  }
}

const DISCARD_ALL = message("Q", "DISCARD ALL");
const CLEANED = message("Z", Uint8Array.of(0x49));

/**
 * Runs DISCARD ALL on a connection and puts it back into its pool when the server says that it is
 * idle.
 */
class Cleaning implements UpstreamOwner {
  readonly #upstream: UpstreamConnection;
  readonly #pool: UpstreamPool;
  #tail: Uint8Array = new Uint8Array(0);

  constructor(upstream: UpstreamConnection, pool: UpstreamPool) {
    this.#upstream = upstream;
    this.#pool = pool;
  }

  upstreamData(bytes: Uint8Array): void {
    this.#tail = Buffer.concat([this.#tail, bytes]);
    const failed = this.#tail[0] === SERVER.errorResponse;
    const done = Buffer.from(this.#tail).subarray(-CLEANED.length).equals(CLEANED);
    if (failed || this.#tail.length > 65_536) this.#pool.ended(this.#upstream);
    else if (done) this.#pool.giveBack(this.#upstream);
  }

  upstreamDrained(): void {}

  upstreamClosed(): void {
    this.#pool.ended(this.#upstream);
  }
}
