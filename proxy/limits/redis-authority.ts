/**
 * Limits in Redis, for several workers or replicas. Each is a member with a lease that it renews
 * every second; when it runs out, the places of its connections are free for others. While Redis is
 * away each member keeps to its share: the limit divided by the number of members there were, with
 * every burst taken for used up at that moment.
 */
import { randomUUID } from "node:crypto";
import type { Redis, RedisOptions } from "ioredis";
import type { OrgId } from "../../platform/ids.ts";
import type { Log } from "../../platform/log.ts";
import {
  BURST_MS,
  type LimitAuthority,
  type PlaceClaim,
  TURN_LEASE_MS,
  type TurnAsk,
  type TurnGrant,
} from "./authority.ts";
import { LimitLedger } from "./ledger.ts";
import { HEARTBEAT, PLACES, TURNS } from "./redis-scripts.ts";

export type RedisAuthorityOptions = {
  /** `redis://` or `rediss://`. */
  readonly url: string;
  readonly log: Log;
  /** Monotonic. */
  readonly nowMs: () => number;
};

/** A member that has not been heard of for so long has lost its places. */
export const MEMBER_LEASE_MS = 4_000;
const HEARTBEAT_MS = 1_000;
const RETRY_MS = 250;
/** An answer later than this is none. */
const ANSWER_DEADLINE_MS = 1_000;
/**
 * An answer that lies unread, because this process was held up, is not a late one: it is read
 * within this.
 */
const READ_MS = 50;
const START_DEADLINE_MS = 5_000;
/**
 * Records of places are asserted again well before this, and dropped when all members have died.
 */
const PLACES_KEPT_MS = 3_600_000;

const MEMBERS_KEY = "o7s:members";
const SELF = "self";

const CLIENT_OPTIONS = {
  lazyConnect: true,
  // A command that cannot be sent now is a command that failed: its answer would come too late.
  enableOfflineQueue: false,
  autoResendUnfulfilledCommands: false,
  maxRetriesPerRequest: 0,
  connectTimeout: ANSWER_DEADLINE_MS,
  retryStrategy: (times: number) => Math.min(50 * times, RETRY_MS),
  connectionName: "ogel-o7s",
} satisfies RedisOptions;

type Scripted = Redis & {
  o7sTurns(
    key: string,
    member: string,
    ...args: number[]
  ): Promise<[number, string, string, number]>;
  o7sPlaces(
    key: string,
    membersKey: string,
    member: string,
    ...args: number[]
  ): Promise<number | "lapsed">;
  o7sHeartbeat(key: string, member: string, leaseMs: number): Promise<[number, number]>;
};

export class RedisAuthority implements LimitAuthority {
  readonly #redis: Scripted;
  readonly #log: Log;
  readonly #nowMs: () => number;
  readonly #member = `o7s-${randomUUID()}`;
  readonly #reclaims: (() => void)[] = [];
  #members = 1;
  /** The books while Redis is away. */
  #shares: LimitLedger | null = null;
  /** The books of the last time it was away, until what is owed in them is worked off. */
  #past: LimitLedger | null = null;
  #beating: Promise<boolean> | null = null;
  #timer: Timer | undefined;
  #closed = false;

  private constructor(options: RedisAuthorityOptions, redis: Redis) {
    this.#log = options.log;
    this.#nowMs = options.nowMs;
    redis.on("error", () => {}); // Commands fail, and that is reported once.
    redis.defineCommand("o7sTurns", { lua: TURNS, numberOfKeys: 1 });
    redis.defineCommand("o7sPlaces", { lua: PLACES, numberOfKeys: 2 });
    redis.defineCommand("o7sHeartbeat", { lua: HEARTBEAT, numberOfKeys: 1 });
    this.#redis = redis as Scripted;
  }

  /**
   * Rejects when Redis does not answer: a member that never knew how many there are cannot know its
   * share, and would take the whole limit for its own.
   */
  static async open(options: RedisAuthorityOptions): Promise<RedisAuthority> {
    // Loaded here, for it takes 20 MB, which a proxy without Redis has no use for.
    const { Redis } = await import("ioredis");
    const authority = new RedisAuthority(options, new Redis(options.url, CLIENT_OPTIONS));
    const deadline = options.nowMs() + START_DEADLINE_MS;
    await authority.#redis.connect().catch(() => {}); // It goes on trying by itself.
    while (!(await authority.#beat())) {
      if (options.nowMs() < deadline) {
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
        continue;
      }
      authority.#redis.disconnect();
      const { host } = new URL(options.url);
      throw new Error(
        `Redis at ${host} (REDIS_URL) does not answer. Start it, correct the address, or unset REDIS_URL to run one O7s alone.`,
      );
    }
    authority.#schedule();
    return authority;
  }

  /**
   * `reclaim` is called when others may have been given places that are held here: all of them are
   * to be claimed anew.
   */
  whenLapsed(reclaim: () => void): void {
    this.#reclaims.push(reclaim);
  }

  get degraded(): boolean {
    return this.#shares !== null;
  }

  /** Workers and replicas that share the limits, as last heard. */
  get members(): number {
    return this.#members;
  }

  async turns(orgId: OrgId, ask: TurnAsk): Promise<TurnGrant> {
    if (this.#shares === null) {
      try {
        return await this.#turnsFromRedis(orgId, this.#withPast(orgId, ask));
      } catch (error) {
        this.#goAway(error);
      }
    }
    const limitQps = ask.limitQps / this.#members;
    return this.#ownBooks().turns(SELF, orgId, { ...ask, limitQps });
  }

  async places(orgId: OrgId, claim: PlaceClaim): Promise<number> {
    while (this.#shares === null) {
      try {
        const { held, wanted, limit, mayShrink } = claim;
        const reply = await inTime(
          this.#redis.o7sPlaces(
            `o7s:places:${orgId}`,
            MEMBERS_KEY,
            this.#member,
            held,
            wanted,
            limit,
            mayShrink ? 1 : 0,
            PLACES_KEPT_MS,
          ),
        );
        if (reply !== "lapsed") return reply;
        await this.#beat();
      } catch (error) {
        this.#goAway(error);
      }
    }
    const share = Math.max(1, Math.floor(claim.limit / this.#members));
    return Math.max(0, Math.min(claim.wanted, share - claim.held));
  }

  /** Gives back its places and leaves. */
  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    await this.#beating;
    await inTime(this.#redis.zrem(MEMBERS_KEY, this.#member)).catch(() => {});
    this.#redis.disconnect();
  }

  async #turnsFromRedis(orgId: OrgId, ask: TurnAsk): Promise<TurnGrant> {
    const [kept, granted, waitMs, others] = await inTime(
      this.#redis.o7sTurns(
        `o7s:turns:${orgId}`,
        this.#member,
        ask.limitQps,
        ask.leased,
        ask.spent,
        ask.kept,
        ask.least,
        ask.most,
        TURN_LEASE_MS * 1_000,
        BURST_MS * 1_000,
      ),
    );
    return { keptHeld: kept === 1, granted: Number(granted), waitMs: Number(waitMs), others };
  }

  /** Charges in Redis what was spent while it was away and has not been worked off. */
  #withPast(orgId: OrgId, ask: TurnAsk): TurnAsk {
    const limitQps = ask.limitQps / this.#members;
    const owed = this.#past?.closeBooks(SELF, orgId, { ...ask, limitQps }) ?? null;
    return owed === null ? ask : { ...ask, leased: 0, spent: owed, kept: 0 };
  }

  #ownBooks(): LimitLedger {
    this.#shares ??= new LimitLedger(this.#nowMs, { spentBefore: true });
    return this.#shares;
  }

  #goAway(error: unknown): void {
    if (this.#shares !== null) return;
    this.#ownBooks();
    if (this.#closed) return;
    this.#log.error("limits_degraded", { members: this.#members, reason: String(error) });
  }

  #comeBack(): void {
    this.#past = this.#shares;
    this.#shares = null;
    this.#log.info("limits_restored", { members: this.#members });
  }

  /** Renews the member's lease, single flight; false when Redis did not answer. */
  #beat(): Promise<boolean> {
    this.#beating ??= this.#renew().finally(() => {
      this.#beating = null;
    });
    return this.#beating;
  }

  async #renew(): Promise<boolean> {
    try {
      const [lapsed, members] = await inTime(
        this.#redis.o7sHeartbeat(MEMBERS_KEY, this.#member, MEMBER_LEASE_MS),
      );
      this.#members = members;
      const wasAway = this.#shares !== null;
      if (wasAway) this.#comeBack();
      if (wasAway || lapsed === 1) for (const reclaim of this.#reclaims) reclaim();
      return true;
    } catch (error) {
      if (this.#timer !== undefined) this.#goAway(error);
      return false;
    }
  }

  #schedule(): void {
    const delayMs = this.#shares === null ? HEARTBEAT_MS : RETRY_MS;
    this.#timer = setTimeout(() => {
      this.#shares?.sweep();
      this.#past?.sweep();
      void this.#beat().then(() => {
        if (!this.#closed) this.#schedule();
      });
    }, delayMs);
  }
}

/** Rejects when there is no answer in time; what comes later is thrown away. */
function inTime<T>(answer: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const late = (): void => reject(new Error(`no answer within ${ANSWER_DEADLINE_MS} ms`));
    let timer = setTimeout(() => {
      timer = setTimeout(late, READ_MS);
    }, ANSWER_DEADLINE_MS);
    answer.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}
