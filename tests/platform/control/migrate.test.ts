/** The control plane's schema: applied once, in order, whoever starts first. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { migrate, readMigrations } from "../../../platform/control/migrate.ts";
import { createControlPlane, failureCode } from "../../support/control-plane.ts";
import { startPostgres, type TestPostgres } from "../../support/postgres-server.ts";

/** Servers are started here, on a machine that may be busy. */
setDefaultTimeout(60_000);

let server: TestPostgres;

beforeAll(async () => {
  server = await startPostgres();
});

afterAll(async () => {
  await server.stop();
});

test("services that start together apply each migration once, in order", async () => {
  await using plane = await createControlPlane(server.adminUrl, { migrated: false });
  const applied = await Promise.all([migrate(plane.sql), migrate(plane.sql), migrate(plane.sql)]);
  const names = (await readMigrations()).map((migration) => migration.name);
  expect(applied.flat().sort()).toEqual(names);
  expect(names.slice(0, 2)).toEqual(["0001-core", "0002-usage"]);
  expect(await migrate(plane.sql)).toEqual([]);
});

test("a migration that fails leaves nothing of itself, and is applied once it is mended", async () => {
  await using plane = await createControlPlane(server.adminUrl, { migrated: false });
  const good = { name: "0001-good", text: "CREATE TABLE good (a int)" };
  const bad = { name: "0002-bad", text: "CREATE TABLE half (a int); SELECT 1 / 0" };
  expect(await failureCode(migrate(plane.sql, [good, bad]))).toBe("22012");
  const [found] = await plane.sql`
    SELECT to_regclass('good') IS NOT NULL AS good, to_regclass('half') IS NOT NULL AS half`;
  expect(found).toEqual({ good: true, half: false });
  const mended = { ...bad, text: "CREATE TABLE half (a int)" };
  expect(await migrate(plane.sql, [good, mended])).toEqual(["0002-bad"]);
});

test("a migration that was edited after it had been applied is named", async () => {
  await using plane = await createControlPlane(server.adminUrl, { migrated: false });
  await migrate(plane.sql, [{ name: "0001-a", text: "SELECT 1" }]);
  await migrate(plane.sql, [{ name: "0001-a", text: "SELECT 1" }]);
  const edited = migrate(plane.sql, [{ name: "0001-a", text: "SELECT 2" }]);
  expect(edited).rejects.toThrow("Migration 0001-a was edited");
});

test("a control plane that a newer version has used is left alone", async () => {
  await using plane = await createControlPlane(server.adminUrl);
  expect(migrate(plane.sql, [])).rejects.toThrow("was used by a newer version");
});
