/** How much disk computes take. Looking is dear, so what was found is kept for a while. */
import type { DatabaseId } from "../platform/ids.ts";

const KEEP_MS = 30_000;

export class StorageSampler {
  readonly #dataDirectoryOf: (computeId: DatabaseId) => string;
  readonly #samples = new Map<DatabaseId, { readonly bytes: number; readonly atMs: number }>();
  readonly #stale = new Set<DatabaseId>();
  #refresh: Promise<void> | null = null;

  constructor(dataDirectoryOf: (computeId: DatabaseId) => string) {
    this.#dataDirectoryOf = dataDirectoryOf;
  }

  /** Bytes on disk, at most half a minute old. */
  async sample(computeId: DatabaseId): Promise<number> {
    const known = this.#samples.get(computeId);
    if (known !== undefined && performance.now() - known.atMs < KEEP_MS) return known.bytes;
    const bytes = await diskUsage(this.#dataDirectoryOf(computeId));
    if (bytes === null) return known?.bytes ?? 0;
    this.#samples.set(computeId, { bytes, atMs: performance.now() });
    return bytes;
  }

  /**
   * Bytes as of the last look, 0 where there was none; what is old is looked at in the background,
   * one by one.
   */
  lastKnown(computeId: DatabaseId): number {
    const known = this.#samples.get(computeId);
    if (known === undefined || performance.now() - known.atMs >= KEEP_MS) {
      this.#stale.add(computeId);
      this.#refresh ??= this.#refreshStale().finally(() => {
        this.#refresh = null;
      });
    }
    return known?.bytes ?? 0;
  }

  async #refreshStale(): Promise<void> {
    for (const computeId of this.#stale) {
      this.#stale.delete(computeId);
      await this.sample(computeId);
    }
  }

  forget(computeId: DatabaseId): void {
    this.#samples.delete(computeId);
  }
}

/**
 * The blocks that a directory takes; files may come and go meanwhile. Null where it is not there.
 */
async function diskUsage(directory: string): Promise<number | null> {
  const du = Bun.spawn(["du", "-sk", directory], { stdin: "ignore", stderr: "ignore" });
  const kibibytes = Number.parseInt(await new Response(du.stdout).text(), 10);
  await du.exited;
  return Number.isFinite(kibibytes) ? kibibytes * 1_024 : null;
}
