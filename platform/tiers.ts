/**
 * The tiers and their limits, where the proxy and the control plane read them. Prices live in `billing/`.
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
  readonly workMemBytes: number;
  /** Idleness after which a compute is suspended. */
  readonly computeIdleMs: number;
  /** How long a session that holds state (LISTEN, temporary tables) keeps an otherwise idle compute awake. */
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
    workMemBytes: 4 * MB,
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
    workMemBytes: 16 * MB,
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
    workMemBytes: 64 * MB,
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
    workMemBytes: 256 * MB,
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

/** Bounds that an override must keep, so that a slip of the finger cannot take the platform down. */
export const OVERRIDE_MAX = { connections: 10_000, limitQps: 1_000_000 } as const;

export function parseTier(text: string): Tier | null {
  return (TIERS as readonly string[]).includes(text) ? (text as Tier) : null;
}

export function limitsOf(tier: Tier, overrides: LimitOverrides = {}): TierLimits {
  return { ...TIER_LIMITS[tier], ...overrides };
}
