/**
 * What a worker and its primary say to each other, as JSON over the pipe between the two processes.
 */
import type { OrgId } from "../../platform/ids.ts";
import type { PlaceClaim, TurnAsk, TurnGrant } from "../limits/authority.ts";

export type Ports = { readonly postgresPort: number; readonly httpPort: number };

/**
 * What is asked of every worker when one is asked for all: its metrics as text, or its troubles as
 * sentences.
 */
export type ReportKind = "metrics" | "troubles";

export type WorkerReport = { readonly worker: number; readonly lines: readonly string[] };

export type FromWorker =
  | ({ readonly type: "started" } & Ports)
  | { readonly type: "turns"; readonly id: number; readonly orgId: OrgId; readonly ask: TurnAsk }
  | {
      readonly type: "places";
      readonly id: number;
      readonly orgId: OrgId;
      readonly claim: PlaceClaim;
    }
  | { readonly type: "collect"; readonly id: number; readonly kind: ReportKind }
  | { readonly type: "report"; readonly id: number; readonly lines: readonly string[] }
  | { readonly type: "cancel"; readonly pid: number; readonly key: string };

export type Answer = TurnGrant | number | readonly WorkerReport[];

export type ToWorker =
  | { readonly type: "answer"; readonly id: number; readonly value: Answer }
  | { readonly type: "report"; readonly id: number; readonly kind: ReportKind }
  | { readonly type: "cancel"; readonly pid: number; readonly key: string };

/**
 * A worker's number is in the upper bits of its cancel keys' process numbers, so that a request
 * finds its way.
 */
export const WORKER_SHIFT = 24;
export const WORKERS_MAX = 64;
