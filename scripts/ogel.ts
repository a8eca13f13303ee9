/** The `ogel` command. `scripts/ogel` brings Bun and the dependencies, and then runs this. */
import { runCli } from "./cli/run.ts";

process.exitCode = await runCli(process.argv.slice(2), {
  environment: process.env,
  stdout: (text) => process.stdout.write(text),
  stderr: (text) => process.stderr.write(text),
});
