/**
 * Layers 3 and 4 as they are counted: in this process where it is alone, by the primary where there
 * are several workers, in Redis where there are several proxies.
 */
import type { OrgId } from "../../platform/ids.ts";
import type { Log } from "../../platform/log.ts";
import { type ConnectionGate, createLocalConnectionGate } from "../layers/connection-gate.ts";
import { SharedConnectionGate } from "../layers/connection-gate-shared.ts";
import {
  createLocalRateLimiter,
  type LimiterClock,
  type RateLimiter,
} from "../layers/rate-limiter.ts";
import { createLeasedRateLimiter } from "../layers/rate-limiter-leased.ts";
import type { LimitAuthority } from "./authority.ts";
import { RedisAuthority } from "./redis-authority.ts";

export type Limits = {
  readonly gate: ConnectionGate;
  readonly limiter: RateLimiter;
  /** What works less well than it should, a sentence each. */
  troubles(): readonly string[];
  gauges(): readonly (readonly [string, string, number])[];
  close(): Promise<void>;
};

export type LimitsParts = {
  readonly redisUrl: string | null;
  /** Where several workers share the limits, who keeps them for all, unless Redis does. */
  readonly primary: LimitAuthority | null;
  readonly log: Log;
  readonly clock: LimiterClock;
  /** Ends so many of an org's sessions for want of places; returns how many it could. */
  readonly endYoungest: (orgId: OrgId, count: number) => number;
};

/** Rejects when Redis, where it is named, does not answer. */
export async function openLimits(parts: LimitsParts): Promise<Limits> {
  const { redisUrl, log, clock } = parts;
  if (redisUrl === null) return openWithoutRedis(parts);
  const authority = await RedisAuthority.open({ url: redisUrl, log, nowMs: clock.nowMs });
  const gate = new SharedConnectionGate({ authority, endYoungest: parts.endYoungest });
  authority.whenLapsed(() => gate.reclaim());
  return {
    gate,
    limiter: createLeasedRateLimiter({ authority, clock }),
    troubles: () =>
      authority.degraded
        ? [
            `Redis does not answer: each O7s keeps to its share of the limits, one of ${authority.members}.`,
          ]
        : [],
    gauges: () => [
      [
        "o7s_limits_degraded",
        "1 while Redis is away and limits are shares",
        Number(authority.degraded),
      ],
      ["o7s_limits_members", "Workers and replicas that share the limits", authority.members],
    ],
    async close() {
      gate.close();
      await authority.close();
    },
  };
}

function openWithoutRedis({ primary, clock, endYoungest }: LimitsParts): Limits {
  const without = { troubles: () => [], gauges: () => [] };
  if (primary === null) {
    const gate = createLocalConnectionGate();
    const limiter = createLocalRateLimiter(clock);
    return { gate, limiter, ...without, close: () => Promise.resolve() };
  }
  const gate = new SharedConnectionGate({ authority: primary, endYoungest });
  const limiter = createLeasedRateLimiter({ authority: primary, clock });
  return { gate, limiter, ...without, close: () => Promise.resolve(gate.close()) };
}
