/** Layers 3 and 4 as they are counted: in this process where it is alone, in Redis where there are several. */
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
import { RedisAuthority } from "./redis-authority.ts";

export type Limits = {
  readonly gate: ConnectionGate;
  readonly limiter: RateLimiter;
  /** What works less well than it should, a sentence each. */
  troubles(): readonly string[];
  gauges(): readonly (readonly [string, string, number])[];
  close(): Promise<void>;
};

/** Rejects when Redis, where it is named, does not answer. */
export async function openLimits(parts: {
  readonly redisUrl: string | null;
  readonly log: Log;
  readonly clock: LimiterClock;
  /** Ends so many of an org's sessions for want of places; returns how many it could. */
  readonly endYoungest: (orgId: OrgId, count: number) => number;
}): Promise<Limits> {
  const { redisUrl, log, clock } = parts;
  if (redisUrl === null) {
    return {
      gate: createLocalConnectionGate(),
      limiter: createLocalRateLimiter(clock),
      troubles: () => [],
      gauges: () => [],
      close: () => Promise.resolve(),
    };
  }
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
