/**
 * The seed of a test run's random cases, printed so that a failure can be replayed with
 * `OGEL_TEST_SEED`.
 */
const given = process.env["OGEL_TEST_SEED"];

export const seed: number = given === undefined ? (Date.now() & 0x7fff_ffff) >>> 0 : Number(given);

process.stderr.write(`seed of this run: ${seed} (OGEL_TEST_SEED=${seed} replays it)\n`);
