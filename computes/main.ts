/** Starts the compute host. */
import { ConfigurationError } from "../platform/environment.ts";
import { createLog } from "../platform/log.ts";
import { readConfiguration } from "./configuration.ts";
import { DirectoryLockedError } from "./directory-lock.ts";
import { PostgresUnavailableError } from "./postgres/binaries.ts";
import { ServerUserError } from "./postgres/server-user.ts";
import { startComputes } from "./service.ts";

async function main(): Promise<void> {
  const configuration = readConfiguration(process.env);
  const log = createLog({
    service: "computes",
    level: configuration.logLevel,
    write: (line) => process.stdout.write(`${line}\n`),
  });
  const service = await startComputes(configuration, log);
  log.info("listening", { port: service.port, computes: service.host.known });
  const stop = (): void => {
    log.info("stopping");
    service.close().then(
      () => process.exit(0),
      (error: unknown) => {
        log.error("stop_failed", { reason: String(error) });
        process.exit(1);
      },
    );
  };
  process.once("SIGTERM", stop);
  process.once("SIGINT", stop);
}

main().catch((error: unknown) => {
  const expected =
    error instanceof ConfigurationError ||
    error instanceof DirectoryLockedError ||
    error instanceof PostgresUnavailableError ||
    error instanceof ServerUserError;
  process.stderr.write(`${expected ? error.message : String(error)}\n`);
  process.exit(1);
});
