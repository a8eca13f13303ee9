/**
 * Sees to it that nothing is left should the supervisor be killed: a shell waits for the end of its
 * input, which comes with the end of the supervisor, and then ends what it has left.
 */
import path from "node:path";

const MAIN = path.join(import.meta.dirname, "main.ts");

export function watchOver(stateDirectory: string): { end(): void } {
  const script = 'read -r word; test "$word" = done || exec "$0" "$1" reap "$2"';
  const shell = Bun.spawn(["/bin/sh", "-c", script, process.execPath, MAIN, stateDirectory], {
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
