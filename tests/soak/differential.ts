/**
 * The differential test at length: `bun tests/soak/differential.ts [--scripts 10000] [--seed N]`.
 * Prints the seed of each script that differs, and how; `--seed N --scripts 1` replays one.
 */
import { parseArgs } from "node:util";
import { compare, scriptOf } from "../support/differential.ts";
import { startDifferentialStage } from "../support/differential-stage.ts";

const { values } = parseArgs({
  options: {
    scripts: { type: "string", default: "10000" },
    seed: { type: "string", default: String(Date.now() & 0x7fff_ffff) },
  },
});
const first = Number(values.seed);
const scripts = Number(values.scripts);
const PROGRESS_EVERY = 500;

const { platform, direct, proxied } = await startDifferentialStage();
let differing = 0;
try {
  for (let n = 0; n < scripts; n++) {
    const seed = first + n;
    const script = scriptOf(seed);
    const difference = await compare(script, direct, proxied).catch((error: unknown) => ({
      step: -1,
      direct: "",
      proxied: String(error),
    }));
    if (difference !== null) {
      differing += 1;
      const steps = script
        .slice(0, difference.step < 0 ? script.length : difference.step + 1)
        .map(({ session, what }) => `  ${session}: ${what}`);
      process.stdout.write(
        `seed ${seed} differs\n${steps.join("\n")}\n--- direct\n${difference.direct}\n--- O7s\n${difference.proxied}\n\n`,
      );
    }
    if ((n + 1) % PROGRESS_EVERY === 0) process.stderr.write(`${n + 1} of ${scripts}\n`);
  }
} finally {
  await platform[Symbol.asyncDispose]();
}
process.stdout.write(
  `${scripts - differing} the same, ${differing} different; first seed ${first}\n`,
);
process.exit(differing === 0 ? 0 : 1);
