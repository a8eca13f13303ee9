import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { newDatabaseId, newOrgId } from "../../platform/ids.ts";
import { UsageMeter } from "../../proxy/layers/usage-tracker.ts";
import {
  COUNTER,
  type CounterSlot,
  leftOverFiles,
  UsageCounters,
} from "../../proxy/usage-counters.ts";

const scratch = mkdtempSync(path.join(tmpdir(), "ogel-counters-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

let directories = 0;
function newDirectory(): string {
  return mkdtempSync(path.join(scratch, `${directories++}-`));
}

function add(slot: CounterSlot, counter: number, count: number): void {
  const at = slot.base + counter;
  slot.values[at] = (slot.values[at] ?? 0) + count;
}

/** A process that counts `count` queries for one database, and says so after each thousand. */
function countingChild(directory: string, count: number) {
  const module = new URL("../../proxy/usage-counters.ts", import.meta.url).pathname;
  const [orgId, databaseId] = [newOrgId(), newDatabaseId()];
  const script = `
    import { COUNTER, UsageCounters } from ${JSON.stringify(module)};
    const counters = new UsageCounters(${JSON.stringify(directory)});
    const { values, base } = counters.slot(${JSON.stringify(orgId)}, ${JSON.stringify(databaseId)});
    for (let n = 1; n <= ${count}; n++) {
      values[base + COUNTER.queries] += 1;
      values[base + COUNTER.rows] += 2;
      if (n % 1000 === 0) process.stdout.write(n + "\\n");
    }
    setInterval(() => {}, 1000);`;
  const child = Bun.spawn([process.execPath, "-e", script], { stdout: "pipe", stdin: "ignore" });
  return { child, orgId, databaseId };
}

describe("a process that is killed", () => {
  test("has lost nothing of what it had counted", async () => {
    const directory = newDirectory();
    const { child, orgId, databaseId } = countingChild(directory, 50_000);
    let said = "";
    const decoder = new TextDecoder();
    for await (const chunk of child.stdout) {
      said += decoder.decode(chunk);
      if (said.endsWith("50000\n")) break;
    }
    child.kill("SIGKILL");
    await child.exited;
    const left = leftOverFiles(directory);
    expect(left.flatMap(({ rows }) => rows)).toEqual([
      {
        orgId,
        databaseId,
        totals: {
          queries: 50_000,
          rows: 100_000,
          bytesIn: 0,
          bytesOut: 0,
          busyMicros: 0,
          computeMillis: 0,
        },
      },
    ]);
    expect(left[0]?.writerId).toMatch(/^o7s-[0-9a-f-]{36}$/);
    expect(Math.abs((left[0]?.modifiedAtMs ?? 0) - Date.now())).toBeLessThan(60_000);
  });

  test("is not taken for dead while it lives", async () => {
    const directory = newDirectory();
    const { child } = countingChild(directory, 1_000);
    const reader = child.stdout.getReader();
    await reader.read();
    expect(leftOverFiles(directory)).toEqual([]);
    child.kill("SIGKILL");
    await child.exited;
    expect(leftOverFiles(directory).length).toBe(1);
  });
});

describe("slots", () => {
  test("are one per database, and go on from where they are", () => {
    const counters = new UsageCounters(newDirectory());
    const [orgId, databaseId, other] = [newOrgId(), newDatabaseId(), newDatabaseId()];
    add(counters.slot(orgId, databaseId), COUNTER.queries, 3);
    add(counters.slot(orgId, other), COUNTER.queries, 10);
    add(counters.slot(orgId, databaseId), COUNTER.queries, 4);
    const rows = counters.writers.flatMap((file) => file.snapshot().rows);
    expect(rows.map(({ databaseId: id, totals }) => [id, totals.queries])).toEqual([
      [databaseId, 7],
      [other, 10],
    ]);
  });

  test("beyond a file's are in another file, which is another writer", () => {
    const directory = newDirectory();
    const counters = new UsageCounters(directory);
    const orgId = newOrgId();
    for (let n = 0; n < 4_097; n++) {
      add(counters.slot(orgId, newDatabaseId()), COUNTER.rows, 1);
    }
    expect(counters.writers.length).toBe(2);
    const [first, second] = counters.writers.map((file) => file.snapshot());
    expect(first?.rows.length).toBe(4_096);
    expect(second?.rows.length).toBe(1);
    expect(first?.writerId).not.toBe(second?.writerId);
    for (const file of counters.writers) file.remove();
    expect(readdirSync(directory)).toEqual([]);
  });

  test("hold whole numbers: fractions of a microsecond are kept until they add up", () => {
    const counters = new UsageCounters(newDirectory());
    const slot = counters.slot(newOrgId(), newDatabaseId());
    for (let n = 0; n < 3; n++) add(slot, COUNTER.busyMicros, 0.4);
    expect(counters.writers[0]?.snapshot().rows[0]?.totals.busyMicros).toBe(1);
  });
});

describe("files that are left", () => {
  test("and are not ours, or hold nothing that can be read, are left alone", () => {
    const directory = newDirectory();
    writeFileSync(path.join(directory, "notes.txt"), "keep me");
    writeFileSync(path.join(directory, "other.counters"), "something else altogether");
    writeFileSync(path.join(directory, "empty.counters"), "");
    expect(leftOverFiles(directory)).toEqual([]);
    expect(readdirSync(directory).length).toBe(3);
  });

  test("and are cut short are read as far as they go", () => {
    const directory = newDirectory();
    const counters = new UsageCounters(directory);
    const orgId = newOrgId();
    const slots = [newDatabaseId(), newDatabaseId()].map((id) => counters.slot(orgId, id));
    for (const slot of slots) add(slot, COUNTER.queries, 5);
    const [file] = counters.writers;
    if (file === undefined) throw new Error("no file");
    const bytes = Buffer.from(slots[0]?.values.buffer ?? new ArrayBuffer(0)).subarray(0, 128 + 200);
    const header = Buffer.from(bytes);
    // The same file of a process that is no more.
    header.write("ogelcnt1999999999 1\n");
    writeFileSync(path.join(directory, "cut.counters"), header);
    const left = leftOverFiles(directory);
    expect(left.map(({ writerId, rows }) => [writerId, rows.length])).toEqual([["cut", 1]]);
  });
});

describe("busy time", () => {
  const meterWith = () => {
    const counters = new UsageCounters(newDirectory());
    const meter = new UsageMeter(counters.slot(newOrgId(), newDatabaseId()));
    const busyMicros = () => counters.writers[0]?.snapshot().rows[0]?.totals.busyMicros;
    return { meter, busyMicros };
  };

  test("is from the first request under way to the end of the last", () => {
    const { meter, busyMicros } = meterWith();
    meter.begin(100);
    meter.begin(105);
    meter.end(110);
    meter.end(200);
    expect(busyMicros()).toBe(10_000);
  });

  test("does not hold the time in which the database waits for the client", () => {
    const { meter, busyMicros } = meterWith();
    meter.begin(100);
    meter.stall(110);
    meter.stall(115);
    meter.resume(150);
    meter.resume(160);
    meter.end(170);
    expect(busyMicros()).toBe(30_000);
    meter.begin(200);
    meter.stall(210);
    meter.end(900);
    expect(busyMicros()).toBe(40_000);
  });

  test("does not count a stall while nothing is under way", () => {
    const { meter, busyMicros } = meterWith();
    meter.stall(100);
    meter.begin(200);
    meter.end(210);
    expect(busyMicros()).toBe(10_000);
  });
});
