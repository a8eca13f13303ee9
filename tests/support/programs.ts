/** Running programs such as psql and pgbench against the platform. */

export type Finished = {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
};

/** Whether a program is on this machine. */
export function isInstalled(program: string): boolean {
  return Bun.which(program) !== null;
}

/** Runs it to its end; `input` is its standard input. */
export async function run(
  command: readonly string[],
  options: {
    readonly input?: string;
    readonly environment?: Readonly<Record<string, string>>;
  } = {},
): Promise<Finished> {
  const child = Bun.spawn([...command], {
    env: {
      PATH: process.env["PATH"] ?? "",
      HOME: "/nonexistent",
      PGAPPNAME: "tests",
      LC_ALL: "C.UTF-8",
      ...options.environment,
    },
    stdin: new Blob([options.input ?? ""]),
    stdout: "pipe",
    stderr: "pipe",
  });
  const [stdout, stderr, exitCode] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return { exitCode, stdout, stderr };
}
