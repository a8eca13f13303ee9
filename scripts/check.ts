/**
 * Checks everything, as CI does: format and lint, types, what must run on Deno, and the tests.
 *
 *   bun scripts/check.ts            all of it
 *   bun scripts/check.ts --no-tests only what needs no servers
 *
 * The last line tells how many tests passed and failed. The exit code is that of the first check
 * that failed.
 */
import { join, resolve } from "node:path";

const root = resolve(import.meta.dir, "..");
/** What runs unchanged on Deno. */
const DENO_FOLDERS = ["platform", "billing", "functions"];
/** `functions/host` runs functions; it is not one. */
const NOT_ON_DENO = /^functions\/host\//;

type Check = { readonly name: string; readonly command: readonly string[] };

function denoFiles(): string[] {
  const files: string[] = [];
  for (const folder of DENO_FOLDERS) {
    const glob = new Bun.Glob(`${folder}/**/*.ts`);
    for (const file of glob.scanSync({ cwd: root })) if (!NOT_ON_DENO.test(file)) files.push(file);
  }
  return files.sort();
}

function checks(): readonly Check[] {
  const tool = (path: string): string => join(root, "node_modules", path);
  const bun = process.execPath;
  return [
    {
      name: "format and lint",
      command: [bun, "--bun", tool("@biomejs/biome/bin/biome"), "check", "."],
    },
    { name: "types", command: [bun, tool("typescript/bin/tsc")] },
    {
      name: "types on Deno",
      command: [tool("deno/deno"), "check", "--quiet", ...denoFiles()],
    },
  ];
}

async function run(check: Check): Promise<number> {
  const started = performance.now();
  process.stdout.write(`• ${check.name}\n`);
  const child = Bun.spawn([...check.command], {
    cwd: root,
    stdin: "ignore",
    stdout: "inherit",
    stderr: "inherit",
  });
  const code = await child.exited;
  const seconds = ((performance.now() - started) / 1_000).toFixed(1);
  process.stdout.write(`${code === 0 ? "✓" : "✗"} ${check.name} (${seconds} s)\n`);
  return code;
}

/**
 * Runs the tests and says at the end how many there were: a runner that ran none has not proved
 * anything.
 */
async function runTests(): Promise<number> {
  // Real servers take longer than the runner's five seconds when a machine is busy.
  process.stdout.write("• tests\n");
  const child = Bun.spawn([process.execPath, "test", "--timeout=30000"], {
    cwd: root,
    stdin: "ignore",
    stdout: "inherit",
    stderr: "pipe",
  });
  const decoder = new TextDecoder();
  let output = "";
  for await (const chunk of child.stderr) {
    process.stderr.write(chunk);
    output += decoder.decode(chunk, { stream: true });
  }
  const code = await child.exited;
  const count = (what: string): number =>
    Number([...output.matchAll(new RegExp(`^\\s*(\\d+) ${what}$`, "gm"))].at(-1)?.[1] ?? 0);
  const skipped = count("skip");
  const tail = skipped > 0 ? `, ${skipped} skipped` : "";
  process.stdout.write(`\n${count("pass")} passed, ${count("fail")} failed${tail}\n`);
  return code === 0 && count("pass") === 0 ? 1 : code;
}

let failed = 0;
for (const check of checks()) {
  const code = await run(check);
  if (failed === 0) failed = code;
}
if (!process.argv.includes("--no-tests")) {
  const code = await runTests();
  if (failed === 0) failed = code;
}
process.exit(failed);
