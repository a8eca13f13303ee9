/**
 * Starting and stopping Studio: what a person reads when it cannot start, and what is left when it
 * stops.
 */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import path from "node:path";
import { startService } from "../../scripts/bench/service.ts";
import { startStudio, type TestStudio } from "../support/studio.ts";

/** Servers are started here, on a machine that may be busy. */
setDefaultTimeout(60_000);

const MAIN = path.join(import.meta.dirname, "../../studio/main.ts");

let studio: TestStudio;

beforeAll(async () => {
  studio = await startStudio();
});

afterAll(async () => {
  await studio[Symbol.asyncDispose]();
});

async function failedStart(environment: Record<string, string>) {
  const child = Bun.spawn([process.execPath, MAIN], {
    env: { PATH: process.env["PATH"] ?? "", HOME: process.env["HOME"] ?? "", ...environment },
    stdout: "pipe",
    stderr: "pipe",
  });
  const [message, exitCode] = await Promise.all([new Response(child.stderr).text(), child.exited]);
  return { message, exitCode };
}

describe("a start that cannot succeed", () => {
  test("for its configuration names every variable at fault, and no value", async () => {
    const { message, exitCode } = await failedStart({
      DATABASE_URL: "mysql://root:hunter2@host/db",
      OGEL_MASTER_KEY: "deadbeef",
      OGEL_OPERATOR_KEY: "short",
      STUDIO_PORT: "70000",
    });
    expect(exitCode).toBe(1);
    for (const name of [
      "DATABASE_URL",
      "SHARED_POSTGRES_URLS",
      "OGEL_MASTER_KEY",
      "OGEL_OPERATOR_KEY",
      "STUDIO_PORT",
    ]) {
      expect(message).toContain(name);
    }
    expect(message).not.toContain("hunter2");
    expect(message).not.toContain("deadbeef");
  });

  test("for a port that is taken names the variable", async () => {
    const port = new URL(studio.url).port;
    const { message, exitCode } = await failedStart({ ...studio.environment, STUDIO_PORT: port });
    expect(exitCode).toBe(1);
    expect(message).toBe(
      `Studio cannot start: port ${port} is taken. ` +
        "Set STUDIO_PORT to another one, or stop what uses it.\n",
    );
  });

  test("for a control plane that is not there says so", async () => {
    const { message, exitCode } = await failedStart({
      DATABASE_URL: "postgres://nobody@/x?host=/nonexistent&port=5432",
      SHARED_POSTGRES_URLS: "postgres://nobody@/x?host=/nonexistent&port=5432",
      OGEL_MASTER_KEY: "5a".repeat(32),
      OGEL_OPERATOR_KEY: "an-operator-key-that-is-long",
      STUDIO_PORT: "0",
    });
    expect(exitCode).toBe(1);
    expect(message).toContain("the control plane (DATABASE_URL) cannot be used");
  });
});

test("SIGTERM ends it cleanly, and a second start finds everything", async () => {
  const created = await studio.call("POST", "/orgs", { name: "Acme", tier: "FREE" });
  const second = await startService("studio/main.ts", studio.environment, "studio_ready");
  const url = `http://127.0.0.1:${second.started["port"]}/api/v1/orgs/${created.body["orgId"]}`;
  const response = await fetch(url, {
    headers: { authorization: `Bearer ${studio.operatorKey}` },
  });
  expect(response.status).toBe(200);
  await second.stop();
  await second.logged((line) => line.includes('"event":"studio_stopped"'));
});
