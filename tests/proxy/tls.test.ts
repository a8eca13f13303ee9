/** Encryption towards clients. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { X509Certificate } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import pg from "pg";
import { generate } from "selfsigned";
import { refusalOf } from "../support/outcome.ts";
import { startPlatform, type TestOrg, type TestPlatform } from "../support/platform.ts";
import { isInstalled, run } from "../support/programs.ts";

let platform: TestPlatform;
let org: TestOrg;
const scratch = mkdtempSync(path.join(tmpdir(), "ogel-tls-"));

beforeAll(async () => {
  platform = await startPlatform();
  org = await platform.createOrg("PRO");
  await platform.createDatabase(org, "app");
}, 60_000);

afterAll(async () => {
  await platform[Symbol.asyncDispose]();
  rmSync(scratch, { recursive: true, force: true });
}, 60_000);

async function restart(environment: Readonly<Record<string, string>>): Promise<void> {
  await platform.proxy.stop();
  await platform.restartProxy(environment);
}

function certificateFile(): string {
  return path.join(platform.environment["O7S_DATA_DIR"] ?? "", "tls", "server.crt");
}

/** What psql says of its connection: the protocol, or an empty line without TLS. */
async function psqlWith(query: string): Promise<{ told: string; failed: string }> {
  const url = platform.url(org, "app", query);
  const done = await run(["psql", "-X", "-A", "-t", "-c", "\\conninfo", "-c", "SELECT 1", url]);
  return { told: done.stdout, failed: done.stderr };
}

async function connectWith(ssl: pg.ClientConfig["ssl"]): Promise<void> {
  const client = new pg.Client({ connectionString: platform.url(org, "app"), ssl: ssl ?? false });
  client.on("error", () => {});
  await client.connect();
  const { rows } = await client.query("SELECT 1 AS a");
  expect(rows).toEqual([{ a: 1 }]);
  await client.end();
}

describe.skipIf(!isInstalled("psql"))("psql", () => {
  test("is encrypted with sslmode=require and prefer, and not with disable", async () => {
    for (const mode of ["require", "prefer"]) {
      const { told, failed } = await psqlWith(`?sslmode=${mode}`);
      expect(failed).toBe("");
      expect(told).toContain("SSL connection (protocol: TLSv1.3");
      expect(told).toEndWith("\n1\n");
    }
    const { told } = await psqlWith("?sslmode=disable");
    expect(told).not.toContain("SSL");
    expect(told).toEndWith("\n1\n");
  });

  test("can demand that SCRAM is bound to the encrypted channel", async () => {
    const { told, failed } = await psqlWith("?sslmode=require&channel_binding=require");
    expect(failed).toBe("");
    expect(told).toEndWith("\n1\n");
  });

  test("can check the self-signed certificate by keeping a copy of it", async () => {
    const root = `sslmode=verify-full&sslrootcert=${certificateFile()}`;
    const { told, failed } = await psqlWith(`?${root}`);
    expect(failed).toBe("");
    expect(told).toContain("SSL connection");
  });
});

test("the self-signed certificate is made once, kept, and its key is for its owner only", async () => {
  const file = certificateFile();
  const before = readFileSync(file, "utf8");
  await restart({});
  expect(readFileSync(file, "utf8")).toBe(before);
  expect(statSync(file.replace(/crt$/, "key")).mode & 0o777).toBe(0o600);
  const certificate = new X509Certificate(before);
  expect(certificate.subjectAltName).toContain("DNS:localhost");
  expect(new Date(certificate.validTo).getTime()).toBeGreaterThan(Date.now() + 300 * 86_400_000);
});

test("where TLS is required, cleartext is refused by naming the remedy", async () => {
  await restart({ O7S_REQUIRE_TLS: "true" });
  const refusal = await refusalOf(connectWith(false));
  expect(refusal.code).toBe("28000");
  expect(refusal.message).toBe("this server only takes encrypted connections");
  expect(refusal.hint).toBe("Add sslmode=require to the connection string.");
  await connectWith({ rejectUnauthorized: false });
});

test("an operator's own certificate is shown in place of the self-signed one", async () => {
  const made = await generate([{ name: "commonName", value: "db.example.com" }], {
    keyType: "ec",
    algorithm: "sha256",
    extensions: [{ name: "subjectAltName", altNames: [{ type: 2, value: "db.example.com" }] }],
  });
  const [cert, key] = [path.join(scratch, "own.crt"), path.join(scratch, "own.key")];
  writeFileSync(cert, made.cert);
  writeFileSync(key, made.private);
  await restart({ O7S_TLS_CERT: cert, O7S_TLS_KEY: key });
  await connectWith({ ca: made.cert, servername: "db.example.com" });
  const other = await refusalOf(
    connectWith({ ca: made.cert, servername: "elsewhere.example.com" }),
  );
  expect(other.code).toContain("ALTNAME");
});
