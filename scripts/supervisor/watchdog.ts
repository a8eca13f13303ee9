/**
 * Sees to it that nothing is left should a process be killed: a shell waits for the end of its
 * input, which comes with the end of the process, and then ends what it has left.
 */
import path from "node:path";

const MAIN = path.join(import.meta.dirname, "main.ts");

export type Watchdog = { end(): void };

export function watchOver(stateDirectory: string): Watchdog {
  return whenKilled('exec "$0" "$1" reap "$2"', [process.execPath, MAIN, stateDirectory]);
}

/**
 * Runs a shell script should this process end without having called `end`. The script finds `words`
 * as `$0`, `$1` and so on; its working directory is the root.
 */
export function whenKilled(script: string, words: readonly string[]): Watchdog {
  const waiting = `read -r word; test "$word" = done && exit\n${script}`;
  const shell = Bun.spawn(["/bin/sh", "-c", waiting, ...words], {
    cwd: "/",
    stdin: "pipe",
    stdout: "ignore",
    stderr: "ignore",
    detached: true,
  });
  shell.unref();
  return {
    end: () => {
      shell.stdin.write("done\n");
      void shell.stdin.end();
    },
  };
}
