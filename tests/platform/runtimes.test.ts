/** The control plane and the engines behave alike on Bun and on Deno. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { tmpdir } from "node:os";
import path from "node:path";
import { createControlPlane } from "../support/control-plane.ts";
import { startPostgres, type TestPostgres } from "../support/postgres-server.ts";

/** Servers are started here, on a machine that may be busy. */
setDefaultTimeout(60_000);

const REPOSITORY = path.join(import.meta.dirname, "../..");
const CASES = path.join(import.meta.dirname, "../support/runtime-cases.ts");
const DENO = path.join(REPOSITORY, "node_modules/deno/deno");
const PERMISSIONS = ["--allow-env", "--allow-sys", "--allow-net", "--allow-read", "--allow-write"];

let server: TestPostgres;

beforeAll(async () => {
  server = await startPostgres({ root: tmpdir() });
});

afterAll(async () => {
  await server.stop();
});

test.each([
  ["Bun", [process.execPath]],
  ["Deno", [DENO, "run", "--no-prompt", "--no-check", ...PERMISSIONS]],
])(
  "on %s",
  async (_, runtime) => {
    await using plane = await createControlPlane(server.adminUrl, { migrated: false });
    const child = Bun.spawn([...runtime, CASES, plane.url, server.adminUrl], {
      cwd: REPOSITORY,
      stdout: "pipe",
      stderr: "pipe",
    });
    const [stdout, stderr, exitCode] = await Promise.all([
      new Response(child.stdout).text(),
      new Response(child.stderr).text(),
      child.exited,
    ]);
    expect({ stderr, exitCode }).toEqual({ stderr: "", exitCode: 0 });
    expect(JSON.parse(stdout)).toEqual({
      migrated: true,
      announcedItself: true,
      secretChars: 48,
      limits: [10, 7],
      tokens: 1,
      databases: ["app"],
      sized: true,
      loggedInAsItself: true,
      unfinished: 0,
      rolesLeft: 0,
    });
  },
  60_000,
);
