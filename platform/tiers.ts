/**
 * The tiers and their limits, where the proxy and the control plane read them. Prices live in
 * `billing/`.
 */

export const TIERS = ["FREE", "STARTER", "PRO", "ENTERPRISE"] as const;
export type Tier = (typeof TIERS)[number];

export type TierLimits = {
  /** Connections of an org at one time, over all its databases and protocols. */
  readonly connections: number;
  /** Queries per second of an org; the burst is one second's worth. */
  readonly limitQps: number;
  readonly databases: number;
  readonly statementTimeoutMs: number;
  /** How long a transaction may be left open with nothing running in it. */
  readonly idleInTransactionTimeoutMs: number;
  /** Per sort or hash of a session. */
  readonly workMemBytes: number;
  /** What one session's temporary files take on a shared server. */
  readonly tempFileLimitBytes: number;
  /**
   * The most that the planner of a shared server may expect a statement to cost, in its own units
   * (a page read in sequence is 1), or null where there is no bound. Generous: it is there for the
   * missing join condition.
   */
  readonly queryCostMax: number | null;
  /** Idleness after which a compute is suspended. */
  readonly computeIdleMs: number;
  /**
   * How long a session that holds state (LISTEN, temporary tables) keeps an otherwise idle compute
   * awake.
   */
  readonly statefulIdleMs: number;
  readonly included: Allowance;
  /** What happens beyond the allowance. */
  readonly overAllowance: "denied" | "billed";
};

/** What a tier includes per period. */
export type Allowance = {
  readonly computeSeconds: number;
  readonly vcpuSeconds: number;
  readonly storageGbMonths: number;
  readonly egressBytes: number;
  readonly functionInvocations: number;
};

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR_SECONDS = 3_600;
const MB = 1_048_576;
const GB = 1_000_000_000;

export const TIER_LIMITS: Readonly<Record<Tier, TierLimits>> = {
  FREE: {
    connections: 5,
    limitQps: 10,
    databases: 3,
    statementTimeoutMs: 15 * SECOND,
    idleInTransactionTimeoutMs: 2 * MINUTE,
    workMemBytes: 4 * MB,
    tempFileLimitBytes: 256 * MB,
    queryCostMax: 5_000_000,
    computeIdleMs: 10 * SECOND,
    statefulIdleMs: 5 * MINUTE,
    included: {
      computeSeconds: 1 * HOUR_SECONDS,
      vcpuSeconds: 1 * HOUR_SECONDS,
      storageGbMonths: 0.5,
      egressBytes: 1 * GB,
      functionInvocations: 50_000,
    },
    overAllowance: "denied",
  },
  STARTER: {
    connections: 10,
    limitQps: 50,
    databases: 10,
    statementTimeoutMs: 60 * SECOND,
    idleInTransactionTimeoutMs: 5 * MINUTE,
    workMemBytes: 16 * MB,
    tempFileLimitBytes: 1_024 * MB,
    queryCostMax: 20_000_000,
    computeIdleMs: 60 * SECOND,
    statefulIdleMs: 15 * MINUTE,
    included: {
      computeSeconds: 10 * HOUR_SECONDS,
      vcpuSeconds: 10 * HOUR_SECONDS,
      storageGbMonths: 2,
      egressBytes: 5 * GB,
      functionInvocations: 500_000,
    },
    overAllowance: "billed",
  },
  PRO: {
    connections: 50,
    limitQps: 200,
    databases: 50,
    statementTimeoutMs: 300 * SECOND,
    idleInTransactionTimeoutMs: 15 * MINUTE,
    workMemBytes: 64 * MB,
    tempFileLimitBytes: 8 * 1_024 * MB,
    queryCostMax: 100_000_000,
    computeIdleMs: 300 * SECOND,
    statefulIdleMs: 60 * MINUTE,
    included: {
      computeSeconds: 55 * HOUR_SECONDS,
      vcpuSeconds: 55 * HOUR_SECONDS,
      storageGbMonths: 10,
      egressBytes: 25 * GB,
      functionInvocations: 5_000_000,
    },
    overAllowance: "billed",
  },
  ENTERPRISE: {
    connections: 200,
    limitQps: 1_000,
    databases: 500,
    statementTimeoutMs: 3_600 * SECOND,
    idleInTransactionTimeoutMs: 60 * MINUTE,
    workMemBytes: 256 * MB,
    tempFileLimitBytes: 64 * 1_024 * MB,
    queryCostMax: null,
    computeIdleMs: 300 * SECOND,
    statefulIdleMs: 240 * MINUTE,
    included: {
      computeSeconds: 1_000 * HOUR_SECONDS,
      vcpuSeconds: 1_000 * HOUR_SECONDS,
      storageGbMonths: 500,
      egressBytes: 500 * GB,
      functionInvocations: 50_000_000,
    },
    overAllowance: "billed",
  },
};

/** What a contract may change for one org (`ogel org set-limits`). */
export type LimitOverrides = {
  readonly connections?: number;
  readonly limitQps?: number;
};

/**
 * Bounds that an override must keep, so that a slip of the finger cannot take the platform down.
 */
export const OVERRIDE_MAX = { connections: 10_000, limitQps: 1_000_000 } as const;

export function parseTier(text: string): Tier | null {
  return (TIERS as readonly string[]).includes(text) ? (text as Tier) : null;
}

export function limitsOf(tier: Tier, overrides: LimitOverrides = {}): TierLimits {
  return { ...TIER_LIMITS[tier], ...overrides };
}
