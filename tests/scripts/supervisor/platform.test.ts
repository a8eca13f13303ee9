import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { renameSync } from "node:fs";
import path from "node:path";
import postgres, { type Sql } from "postgres";
import { identifyProcess } from "../../../platform/process-identity.ts";
import { readDemo } from "../../../scripts/supervisor/demo.ts";
import { newPlace, type PlatformPlace, type Run } from "../../support/supervised-platform.ts";
import { until } from "../../support/until.ts";

setDefaultTimeout(120_000);

let place: PlatformPlace;
let platform: Run;
beforeAll(async () => {
  place = newPlace();
  platform = await place.up();
});
afterAll(() => place[Symbol.asyncDispose]());

/** A connection through O7s by what the banner says, token and all. */
function connect(output: string, database: string): Sql & AsyncDisposable {
  const token = /PGPASSWORD=(\S+)/.exec(output)?.[1] ?? "";
  const url = new RegExp(`psql "(postgresql://\\S+/${database})"`).exec(output)?.[1] ?? "";
  const sql = postgres(url, { password: token, max: 1, onnotice: () => {} });
  return Object.assign(sql, { [Symbol.asyncDispose]: () => sql.end({ timeout: 1 }) });
}

const processes = (): readonly number[] =>
  Object.values(place.record()?.components ?? {}).flatMap(({ pid }) => (pid === null ? [] : [pid]));

const haveEnded = (pids: readonly number[]): boolean =>
  pids.every((pid) => identifyProcess(pid) === null);

test("what the banner says can be connected to", async () => {
  for (const database of ["app", "scratch"]) {
    await using sql = connect(platform.output(), database);
    await sql`create table kept as select 42 as answer`;
    expect(await sql`select answer from kept`).toEqual([{ answer: 42 }] as never);
  }
  const record = place.record();
  expect(record?.ready).toBe(true);
  expect(Object.keys(record?.components ?? {})).toEqual([
    "control-plane",
    "shared-postgres",
    "computes",
    "studio",
    "o7s",
  ]);
});

test("up on a running platform says so, shows the banner again, and changes nothing", async () => {
  const before = processes();
  for (const args of [["up"], ["up", "--detach"]]) {
    const second = place.run(args);
    expect(await second.exited).toBe(0);
    expect(second.output()).toContain(`It was started before, as process ${platform.pid}`);
    expect(second.output()).toContain("PGPASSWORD=ogel_");
  }
  expect(processes()).toEqual(before);
});

test("a component that crashes is reported and started again", async () => {
  const pid = place.record()?.components["o7s"]?.pid ?? 0;
  process.kill(pid, "SIGKILL");
  await until("the restart", () => platform.output().includes("The proxy O7s runs again."));
  const record = place.record()?.components["o7s"];
  expect([record?.state, record?.restarts]).toEqual(["running", 1]);
  expect(platform.output()).toContain("The proxy O7s ended (killed by SIGKILL); starting it again");
  await using sql = connect(platform.output(), "app");
  expect(await sql`select answer from kept`).toEqual([{ answer: 42 }] as never);
});

test("a killed supervisor leaves no process, and the next start finds all data", async () => {
  const left = processes();
  platform.signal("SIGKILL");
  await platform.exited;
  await until("the end of all that was left", () => haveEnded(left), 60_000);
  platform = await place.up();
  for (const database of ["app", "scratch"]) {
    await using sql = connect(platform.output(), database);
    expect(await sql`select answer from kept`).toEqual([{ answer: 42 }] as never);
  }
});

test("platforms side by side do not touch each other", async () => {
  await using other = newPlace();
  const second = other.run(["up", "--detach"]);
  expect(await second.exited).toBe(0);
  expect(second.output()).toContain("Stop it with ./scripts/down.");
  expect(other.record()?.ready).toBe(true);
  const before = processes();
  const down = other.run(["down"]);
  expect(await down.exited).toBe(0);
  expect(down.output()).toContain("Stopped.");
  expect(other.record()).toBeNull();
  expect(processes()).toEqual(before);
  await using sql = connect(platform.output(), "app");
  expect(await sql`select 1 as one`).toEqual([{ one: 1 }] as never);
});

test("Ctrl-C stops everything; what is then missing or damaged is named, and the rest is found again", async () => {
  const running = processes();
  const demo = readDemo(place.directory);
  platform.signal("SIGINT");
  expect(await platform.exited).toBe(0);
  expect(platform.output()).toContain("Stopped.");
  expect(haveEnded(running)).toBe(true);
  expect(place.record()).toBeNull();

  for (const file of ["secrets/master-key", "control-plane/data/PG_VERSION"]) {
    const kept = path.join(place.directory, file);
    renameSync(kept, `${kept}.away`);
    const refused = place.run(["up"]);
    expect(await refused.exited).toBe(1);
    expect(refused.output()).toContain(path.dirname(kept));
    expect(refused.output()).toContain("is missing");
    expect(refused.output().toLowerCase()).toContain("restore");
    renameSync(`${kept}.away`, kept);
  }

  platform = await place.up();
  expect(readDemo(place.directory)).toEqual(demo);
  await using sql = connect(platform.output(), "scratch");
  expect(await sql`select answer from kept`).toEqual([{ answer: 42 }] as never);
});
