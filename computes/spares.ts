/**
 * Copies of the template, made and synced to disk ahead of need: the two take a fifth of a second,
 * the rest of making a compute half of that.
 */
import { mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from "node:fs";
import path from "node:path";
import type { Log } from "../platform/log.ts";
import { copyDirectory } from "./copy-directory.ts";
import type { PostgresBinaries } from "./postgres/binaries.ts";
import { syncDataDirectory } from "./postgres/data-directory.ts";
import { giveTo, type ServerUser } from "./postgres/server-user.ts";

export type SparesOptions = {
  /** Kept between starts. */
  readonly directory: string;
  readonly template: string;
  readonly binaries: PostgresBinaries;
  readonly user: ServerUser | null;
  readonly log: Log;
  /** How many to keep ready. */
  readonly count: number;
};

export class Spares {
  readonly #options: SparesOptions;
  readonly #ready: string[] = [];
  #refill: Promise<void> | null = null;
  #closed = false;

  constructor(options: SparesOptions) {
    this.#options = options;
    mkdirSync(options.directory, { recursive: true, mode: 0o711 });
    const prefix = `${path.basename(options.template)}-`;
    for (const entry of readdirSync(options.directory)) {
      const spare = path.join(options.directory, entry);
      // Halves of an earlier host, and copies of another template, are of no use.
      if (entry.startsWith(prefix)) this.#ready.push(spare);
      else rmSync(spare, { recursive: true, force: true });
    }
  }

  /** Moves a copy of the template to `target`, whole and on the disk. */
  async take(target: string): Promise<void> {
    renameSync(this.#ready.pop() ?? (await this.#make()), target);
    this.refill();
  }

  /** Makes what is missing, in the background. */
  refill(): void {
    if (this.#refill !== null || this.#closed) return;
    this.#refill = this.#fill().finally(() => {
      this.#refill = null;
    });
  }

  /** Resolves when nothing is being made any more. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#refill;
  }

  async #fill(): Promise<void> {
    try {
      while (!this.#closed && this.#ready.length < this.#options.count) {
        this.#ready.push(await this.#make());
      }
    } catch (error) {
      // The next one who needs a copy makes it, and is told what is wrong.
      this.#options.log.warn("spare_compute_failed", { reason: String(error) });
    }
  }

  async #make(): Promise<string> {
    const { directory, template, binaries, user } = this.#options;
    const half = mkdtempSync(path.join(directory, "half-"));
    try {
      giveTo(user, half);
      const dataDirectory = path.join(half, "data");
      await copyDirectory(template, dataDirectory);
      await syncDataDirectory({ binaries, user, dataDirectory });
      const whole = path.join(directory, `${path.basename(template)}-${path.basename(half)}`);
      renameSync(dataDirectory, whole);
      return whole;
    } finally {
      rmSync(half, { recursive: true, force: true });
    }
  }
}
