/** The compute host as a service: a directory, its computes, and the HTTP interface to them. */
import { randomBytes } from "node:crypto";
import { chmodSync, mkdirSync, rmSync } from "node:fs";
import path from "node:path";
import type { DatabaseId } from "../platform/ids.ts";
import type { Log } from "../platform/log.ts";
import type { ComputesConfiguration } from "./configuration.ts";
import { lockDirectory } from "./directory-lock.ts";
import { keptFile } from "./files.ts";
import { LocalComputeHost } from "./host.ts";
import { createHandler } from "./http.ts";
import { Meter } from "./meter.ts";
import { Histogram } from "./metrics.ts";
import { findPostgres } from "./postgres/binaries.ts";
import { chooseServerUser } from "./postgres/server-user.ts";
import { ensureRunDirectory } from "./run-directory.ts";
import { Spares } from "./spares.ts";
import { ComputeStore } from "./store.ts";
import { ensureTemplate } from "./template.ts";
import { startUsageReporting, type UsageReporting } from "./usage.ts";

export type ComputesService = {
  readonly host: LocalComputeHost;
  /** The port where it listens on TCP, else null. */
  readonly port: number | null;
  /** Stops all computes, then itself. */
  close(): Promise<void>;
};

/** `db_` and 40 characters, and the socket's own name. */
const LONGEST_SOCKET_NAME_BYTES = 43 + "/.s.PGSQL.5432.lock".length;
const TOUCH_MS = 1_000;

/**
 * @throws DirectoryLockedError, PostgresUnavailableError, ServerUserError and whatever the disk
 * says.
 */
export async function startComputes(
  configuration: ComputesConfiguration,
  log: Log,
): Promise<ComputesService> {
  const directory = configuration.dataDirectory;
  mkdirSync(directory, { recursive: true, mode: 0o711 });
  const lock = lockDirectory(path.join(directory, "host.lock"));
  const user = chooseServerUser(configuration.serverUser);
  const binaries = findPostgres({ user, copiesDirectory: configuration.programsDirectory });
  const runDirectory = ensureRunDirectory(directory, LONGEST_SOCKET_NAME_BYTES);
  const superuserPassword = keptFile(path.join(directory, "superuser"), () =>
    randomBytes(32).toString("base64url"),
  );
  const templatesDirectory = path.join(directory, "templates");
  mkdirSync(templatesDirectory, { recursive: true, mode: 0o711 });
  const shared = { log, binaries, user, runDirectory, superuserPassword };
  const template = await ensureTemplate({ ...shared, templatesDirectory });
  const spares = new Spares({
    ...shared,
    template,
    directory: path.join(directory, "spares"),
    count: configuration.sparesCount,
  });

  const meter = new Meter(path.join(directory, "meters"), log);
  const wakeMillis = new Histogram();
  let reporting: UsageReporting | null = null;
  const host = new LocalComputeHost({
    ...shared,
    store: new ComputeStore(directory, user, spares),
    meter,
    wakeMillis,
    computesMax: configuration.computesMax,
    onDropped: (computeId: DatabaseId) => {
      if (reporting === null) meter.close(computeId);
      else reporting.retire(computeId);
    },
  });
  if (configuration.controlPlane !== null) {
    reporting = startUsageReporting({ directory, url: configuration.controlPlane.url, meter, log });
  }
  await host.recover();
  const touching = setInterval(() => meter.touchRunning(), TOUCH_MS);
  const server = listen(configuration, createHandler({ ...configuration, host, log, wakeMillis }));
  spares.refill();

  return {
    host,
    port: server.port ?? null,
    async close() {
      await server.stop();
      await Promise.all([host.close(), spares.close()]);
      clearInterval(touching);
      await reporting?.close();
      lock.release();
    },
  };
}

function listen(
  { listen }: ComputesConfiguration,
  handler: ReturnType<typeof createHandler>,
): Bun.Server<undefined> {
  // A wake may take as long as a recovery; the host itself keeps deadlines. Bun takes this option
  // for unix sockets too, though its types do not say so.
  const patient: object = { idleTimeout: 0 };
  if (listen.transport === "tcp") return Bun.serve({ ...handler, ...listen, ...patient });
  // The directory is locked: a socket that lies there is an earlier host's.
  rmSync(listen.path, { force: true });
  const server = Bun.serve({ ...handler, unix: listen.path, ...patient });
  chmodSync(listen.path, 0o600);
  return server;
}
