/** The `ogel` command as people and scripts use it: the real command against a real Studio. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { startStudio, type TestStudio } from "../../support/studio.ts";

/** Servers are started here, on a machine that may be busy. */
setDefaultTimeout(60_000);

const ENTRY = path.join(import.meta.dirname, "../../../scripts/ogel.ts");

let studio: TestStudio;
let dataDirectory: string;

beforeAll(async () => {
  studio = await startStudio();
  dataDirectory = mkdtempSync(path.join(tmpdir(), "ogel-cli-"));
  const { url, operatorKey } = studio;
  const ports = { postgres: 6440, http: 1, studio: Number(new URL(url).port) };
  const platform = { studioUrl: url, operatorKey, ports };
  writeFileSync(path.join(dataDirectory, "platform.json"), JSON.stringify(platform), {
    mode: 0o600,
  });
});

afterAll(async () => {
  rmSync(dataDirectory, { recursive: true });
  await studio[Symbol.asyncDispose]();
});

type Run = { readonly exitCode: number; readonly stdout: string; readonly stderr: string };

async function run(
  args: readonly string[],
  environment: Readonly<Record<string, string>> = { OGEL_DATA_DIR: dataDirectory },
): Promise<Run> {
  const child = Bun.spawn([process.execPath, ENTRY, ...args], {
    cwd: "/",
    env: { PATH: process.env["PATH"] ?? "", HOME: process.env["HOME"] ?? "", ...environment },
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

/** The one value that `--json` prints. */
async function json<T = Record<string, unknown>>(...args: readonly string[]): Promise<T> {
  const { stdout, stderr, exitCode } = await run([...args, "--json"]);
  expect(stderr).toBe("");
  expect(exitCode).toBe(0);
  expect(stdout.trimEnd()).not.toContain("\n");
  return JSON.parse(stdout) as T;
}

async function newOrg(tier = "PRO"): Promise<string> {
  const { orgId } = await json<{ orgId: string }>("org", "create", "Acme", "--tier", tier);
  return orgId;
}

describe("a first session", () => {
  test("prints exactly the values that scripts rely on", async () => {
    const org = await json("org", "create", "Acme", "--tier", "FREE");
    expect(Object.keys(org)).toEqual(["orgId", "token"]);
    const orgId = String(org["orgId"]);
    const token = await json("token", "create", "--org", orgId);
    expect(Object.keys(token)).toEqual(["tokenId", "token"]);
    const database = await json("db", "create", "shop", "--org", orgId, "--kind", "postgres");
    expect(Object.keys(database)).toEqual(["databaseId", "kind", "connectionString"]);
    expect(database["connectionString"]).toBe(`postgresql://${orgId}@127.0.0.1:6440/shop`);
    const usage = await json("usage", "--org", orgId);
    expect(usage).toMatchObject({ orgId, byDatabase: [], quantities: { queries: 0 } });
    const { databases } = await json<{ databases: unknown[] }>("db", "list", "--org", orgId);
    expect(databases).toHaveLength(1);
    const allow = ["db", "allow", "shop", "--org", orgId];
    const network = ["--network", "203.0.113.9/24", "--network", "2001:db8::/32"];
    expect(await json(...allow, ...network)).toEqual({
      name: "shop",
      allowedNetworks: ["203.0.113.0/24", "2001:db8::/32"],
    });
    const everywhere = await run([...allow, "--all"]);
    expect(everywhere.stdout).toBe("Clients may come to shop from everywhere.\n");
    expect(await json("db", "drop", "shop", "--org", orgId)).toEqual({
      name: "shop",
      dropped: true,
    });
    const tokenId = String(token["tokenId"]);
    const revoked = await json("token", "revoke", tokenId, "--org", orgId);
    expect(revoked).toEqual({ tokenId, revoked: true });
  });

  test("tells a person each next step", async () => {
    const created = await run(["org", "create", "Acme & Sons"]);
    const orgId = /org_[a-z2-7]+/.exec(created.stdout)?.[0] ?? "";
    expect(created.stdout).toContain("on FREE");
    expect(created.stdout).toMatch(/token {2}ogel_[A-Za-z0-9]{43}\n/);
    expect(created.stdout).toContain(`./scripts/ogel db create app --org ${orgId} --kind postgres`);
    const database = await run(["db", "create", "app", "--org", orgId]);
    expect(database.stdout).toContain(
      `PGPASSWORD=<token> psql "postgresql://${orgId}@127.0.0.1:6440/app"`,
    );
    const listed = await run(["db", "list", "--org", orgId]);
    expect(listed.stdout.split("\n")[0]).toMatch(/^NAME +KIND +STATUS +CONNECTION$/);
  });
});

test("operators move, limit, suspend and resume an org", async () => {
  const orgId = await newOrg("FREE");
  expect(await json("org", "set-tier", orgId, "STARTER")).toMatchObject({ tier: "STARTER" });
  const limited = await json("org", "set-limits", orgId, "--qps", "7", "--connections", "3");
  expect(limited).toMatchObject({ limits: { limitQps: 7, connections: 3 } });
  const freed = await json("org", "set-limits", orgId, "--qps", "0");
  expect(freed).toMatchObject({ limits: { limitQps: 50, connections: 3 } });
  expect(await json("org", "suspend", orgId)).toMatchObject({ status: "suspended" });
  expect(await json("org", "resume", orgId)).toMatchObject({ status: "active" });
  expect(await json("org", "show", orgId)).toMatchObject({ orgId, status: "active" });
  const { orgs } = await json<{ orgs: { orgId: string }[] }>("org", "list");
  expect(orgs.map((org) => org.orgId)).toContain(orgId);
});

describe("what goes wrong", () => {
  const missing = "org_aaaaaaaaaaaaaaaa";

  test.each([
    [2, ["org", "creat", "x"], 'Did you mean "ogel org create"?'],
    [2, ["bd", "list"], 'Did you mean "ogel db list"?'],
    [2, ["frobnicate"], "See ogel --help."],
    [2, ["db", "create", "--org", missing], "NAME is missing."],
    [2, ["db", "create", "a", "b", "--org", missing], '"b" is one argument too many.'],
    [2, ["db", "create", "a"], "--org is missing."],
    [2, ["db", "create", "a", "--ogr", missing], "Did you mean --org?"],
    [2, ["db", "create", "a", "--org"], "--org takes a value."],
    [2, ["db", "allow", "a", "--org", missing], "Say from where: --network CIDR"],
    [2, ["db", "allow", "a", "--org", missing, "--all", "--network", "::/0"], "Say from where"],
    [2, ["db", "allow", "a", "--org", missing, "--network"], "--network takes a value."],
    [2, ["org", "set-limits", missing], "Say which limit"],
    [2, ["org", "set-limits", missing, "--qps", "many"], "--qps takes a whole number."],
    [1, ["org", "show", missing], `There is no org ${missing}.`],
    [1, ["org", "show", "../../healthz"], "There is no such org."],
    [1, ["org", "create", " x"], "An org name has 1 to 80 characters"],
    [1, ["org", "create", "x", "--tier", "GOLD"], "FREE, STARTER, PRO, ENTERPRISE"],
  ])("ends with %d and says on standard error what: %j", async (exitCode, args, message) => {
    for (const flags of [[], ["--json"]]) {
      const result = await run([...args, ...flags]);
      expect(result).toMatchObject({ exitCode, stdout: "" });
      expect(result.stderr).toContain(message);
    }
  });

  test("names break the rule with the rule", async () => {
    const orgId = await newOrg();
    const result = await run(["db", "create", "Shop", "--org", orgId, "--json"]);
    expect(result).toMatchObject({ exitCode: 1, stdout: "" });
    expect(result.stderr).toContain(
      "starts with a lower-case letter and has at most 40 characters",
    );
  });

  test("a kind that is not there yet is refused with the reason", async () => {
    const orgId = await newOrg();
    const result = await run(["db", "create", "cache", "--org", orgId, "--kind", "redis"]);
    expect(result).toMatchObject({ exitCode: 1, stdout: "" });
    expect(result.stderr).toContain("not available on this platform yet");
  });

  test("without a platform the remedy is to start it", async () => {
    const nowhere = { OGEL_DATA_DIR: path.join(dataDirectory, "nowhere") };
    const never = await run(["org", "list"], nowhere);
    expect(never).toMatchObject({ exitCode: 1, stdout: "" });
    expect(never.stderr).toContain("Start the platform with ./scripts/up.");
    const gone = { OGEL_API_URL: "http://127.0.0.1:9", OGEL_OPERATOR_KEY: "x".repeat(30) };
    expect((await run(["org", "list"], gone)).stderr).toContain("nothing answers at");
    const halfSet = await run(["org", "list"], { OGEL_API_URL: studio.url });
    expect(halfSet.stderr).toContain("OGEL_OPERATOR_KEY is not");
    const stranger = { OGEL_API_URL: studio.url, OGEL_OPERATOR_KEY: "x".repeat(30) };
    expect((await run(["org", "list"], stranger)).stderr).toContain("Send the operator key");
  });
});

describe("status", () => {
  test("with nothing running is not ready, and exits 1", async () => {
    const nowhere = { OGEL_DATA_DIR: path.join(dataDirectory, "nowhere") };
    const { stdout, exitCode } = await run(["status", "--json"], nowhere);
    expect(exitCode).toBe(1);
    const status = JSON.parse(stdout) as { ready: boolean; components: Record<string, unknown> };
    expect(status.ready).toBe(false);
    expect(status.components["studio"]).toEqual({ state: "stopped" });
    expect(status.components["redis"]).toEqual({ state: "not available yet" });
  });

  test("asks the services themselves, whatever the supervisor believes", async () => {
    const running = { state: "running", pid: process.pid, restarts: 0 };
    const names = ["control-plane", "shared-postgres", "computes", "o7s", "studio"];
    const components = Object.fromEntries(names.map((name) => [name, running]));
    const file = path.join(dataDirectory, "supervisor.json");
    writeFileSync(file, JSON.stringify({ pid: process.pid, ready: true, components }));
    const { stdout, exitCode } = await run(["status", "--json"]);
    rmSync(file);
    expect(exitCode).toBe(1);
    const status = JSON.parse(stdout);
    expect(status.ports).toMatchObject({ postgres: 6440 });
    expect(status.components.studio.state).toBe("running");
    expect(status.components.o7s.state).toBe("not answering");
  });
});

test("doctor names what this machine has and lacks, with a remedy for each", async () => {
  const { stdout } = await run(["doctor", "--json"]);
  const { checks } = JSON.parse(stdout) as {
    checks: { name: string; ok: boolean; why: string; remedy: string; found: string }[];
  };
  const names = checks.map((check) => check.name);
  expect(names).toEqual(expect.arrayContaining(["bun", "deno", "postgresql", "psql", "pgbench"]));
  expect(checks.find((check) => check.name === "postgresql")).toMatchObject({ ok: true });
  for (const check of checks) {
    expect(check.why).not.toBe("");
    if (!check.ok) expect(check.remedy).not.toBe("");
  }
});

test("help names every command, and each command explains itself", async () => {
  const { stdout, exitCode } = await run(["--help"]);
  expect(exitCode).toBe(0);
  for (const name of [
    "status",
    "doctor",
    "org create",
    "token revoke",
    "db wake",
    "usage",
    "bench",
  ]) {
    expect(stdout).toContain(`  ${name}`);
  }
  const command = await run(["db", "create", "--help"]);
  expect(command.stdout).toContain("Usage: ogel db create NAME --org ORG [--kind KIND]");
  expect(await run([])).toMatchObject({ exitCode: 2, stdout: "" });
});
