/**
 * A worker's end of the pipe to its primary, which owns what workers share: limits, reports, cancel
 * requests.
 */
import type { OrgId } from "../../platform/ids.ts";
import type { LimitAuthority, PlaceClaim, TurnAsk, TurnGrant } from "../limits/authority.ts";
import type { Answer, FromWorker, Ports, ReportKind, ToWorker, WorkerReport } from "./messages.ts";

export type WorkerDuties = {
  /** This worker's own lines of a report. */
  readonly report: (kind: ReportKind) => Promise<readonly string[]>;
  /** A cancel request that reached another worker. */
  readonly cancel: (pid: number, key: Uint8Array) => void;
};

export class WorkerLink implements LimitAuthority {
  readonly worker: number;
  readonly #send: (message: FromWorker) => void;
  readonly #asked = new Map<number, (value: Answer) => void>();
  #lastId = 0;
  #duties: WorkerDuties | null = null;

  constructor(worker: number) {
    if (process.send === undefined) {
      throw new Error("O7S_WORKER is set by O7s itself for its workers. Unset it.");
    }
    this.worker = worker;
    this.#send = process.send.bind(process);
    process.on("message", (message) => this.#received(message as ToWorker));
  }

  /** Calls `lost` when the primary is gone: nobody keeps the limits then. */
  whenLost(lost: () => void): void {
    process.on("disconnect", lost);
    if (!process.connected) lost();
  }

  /** From now on this worker serves. */
  started(ports: Ports, duties: WorkerDuties): void {
    this.#duties = duties;
    this.#send({ type: "started", ...ports });
  }

  turns(orgId: OrgId, ask: TurnAsk): Promise<TurnGrant> {
    return this.#ask((id) => ({ type: "turns", id, orgId, ask })) as Promise<TurnGrant>;
  }

  places(orgId: OrgId, claim: PlaceClaim): Promise<number> {
    return this.#ask((id) => ({ type: "places", id, orgId, claim })) as Promise<number>;
  }

  /** What all workers have to report, this one included. */
  collect(kind: ReportKind): Promise<readonly WorkerReport[]> {
    const answer = this.#ask((id) => ({ type: "collect", id, kind }));
    return answer as Promise<readonly WorkerReport[]>;
  }

  /** Each trouble once, and how many of the `workers` there should be are missing. */
  async collectTroubles(workers: number): Promise<readonly string[]> {
    const reports = await this.collect("troubles");
    const missing = workers - reports.length;
    const away = missing === 0 ? [] : [`${missing} of ${workers} workers do not serve just now.`];
    return [...away, ...new Set(reports.flatMap(({ lines }) => lines))];
  }

  /** Passes on a cancel request for a session that is not here. */
  cancelElsewhere(pid: number, key: Uint8Array): void {
    this.#send({ type: "cancel", pid, key: Buffer.from(key).toString("hex") });
  }

  #ask(messageOf: (id: number) => FromWorker): Promise<Answer> {
    return new Promise((resolve) => {
      this.#lastId += 1;
      this.#asked.set(this.#lastId, resolve);
      this.#send(messageOf(this.#lastId));
    });
  }

  #received(message: ToWorker): void {
    switch (message.type) {
      case "answer":
        this.#asked.get(message.id)?.(message.value);
        this.#asked.delete(message.id);
        break;
      case "cancel":
        this.#duties?.cancel(message.pid, new Uint8Array(Buffer.from(message.key, "hex")));
        break;
      case "report":
        void this.#report(message.id, message.kind);
        break;
    }
  }

  async #report(id: number, kind: ReportKind): Promise<void> {
    const lines = (await this.#duties?.report(kind).catch(() => [])) ?? [];
    this.#send({ type: "report", id, lines });
  }
}
