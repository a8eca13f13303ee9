/** Talking to the person at the terminal: a line when there is something to say, and no sooner. */

export type Terminal = {
  say(line: string): void;
  /** Does `work`; says what is going on only if it takes longer than a second. */
  during<T>(what: string, work: () => Promise<T>): Promise<T>;
};

const PATIENCE_MS = 1_000;

export function createTerminal(write: (text: string) => void): Terminal {
  return {
    say: (line) => write(`${line}\n`),
    async during(what, work) {
      const timer = setTimeout(() => write(`${what} …\n`), PATIENCE_MS);
      try {
        return await work();
      } finally {
        clearTimeout(timer);
      }
    },
  };
}
