/**
 * Random scripts of several sessions that share connections say byte for byte what they say when
 * each has PostgreSQL to itself. `bun run soak` runs ten thousand of them.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { compare, scriptOf } from "../support/differential.ts";
import { type DifferentialStage, startDifferentialStage } from "../support/differential-stage.ts";
import { seed } from "../support/seed.ts";

const SCRIPTS = 150;

let stage: DifferentialStage;

beforeAll(async () => {
  stage = await startDifferentialStage();
}, 60_000);

afterAll(async () => {
  await stage.platform[Symbol.asyncDispose]();
}, 60_000);

test("sessions that share connections get PostgreSQL's own replies", async () => {
  for (let n = 0; n < SCRIPTS; n++) {
    const script = scriptOf(seed + n);
    const difference = await compare(script, stage.direct, stage.proxied);
    expect({ script: seed + n, difference }).toEqual({ script: seed + n, difference: null });
  }
}, 180_000);
