/**
 * The logs of all components: a file each, written by the component itself and kept within bounds.
 */
import { copyFileSync, mkdirSync, openSync, statSync, truncateSync } from "node:fs";
import path from "node:path";

const LOG_BYTES_MAX = 10 * 1_048_576;
const SWEEP_MS = 10_000;

export class LogFiles {
  readonly directory: string;
  readonly #files = new Set<string>();
  readonly #timer: NodeJS.Timeout;

  constructor(directory: string) {
    this.directory = directory;
    mkdirSync(directory, { recursive: true, mode: 0o711 });
    this.#timer = setInterval(() => this.#sweep(), SWEEP_MS);
    this.#timer.unref();
  }

  /** The path of a component's log. */
  fileOf(name: string): string {
    const file = path.join(this.directory, `${name}.log`);
    this.#files.add(file);
    return file;
  }

  /** A descriptor to append to it; the caller closes it. */
  open(name: string): number {
    return openSync(this.fileOf(name), "a", 0o600);
  }

  close(): void {
    clearInterval(this.#timer);
  }

  /**
   * Components hold their files open and only ever append, so a file is emptied in place after a
   * copy was taken.
   */
  #sweep(): void {
    for (const file of this.#files) {
      const size = statSync(file, { throwIfNoEntry: false })?.size ?? 0;
      if (size <= LOG_BYTES_MAX) continue;
      copyFileSync(file, `${file}.1`);
      truncateSync(file);
    }
  }
}
