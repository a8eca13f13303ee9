/** PgBouncer, configured to do what O7s does as far as it can: the yardstick. */
import { mkdirSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import path from "node:path";
import { asUser, giveTo, type ServerUser } from "../../computes/postgres/server-user.ts";
import type { Program } from "./programs.ts";
import { endProcess } from "./service.ts";

export type RunningPgbouncer = {
  readonly pid: number;
  readonly port: number;
  stop(): Promise<void>;
};

export type PgbouncerOptions = {
  readonly program: Program;
  /** A directory to make. Its parent must be within the user's reach. */
  readonly directory: string;
  readonly port: number;
  readonly poolSize: number;
  readonly clientsMax: number;
  /** PgBouncer refuses to run as root; null where the current user is not. */
  readonly user: ServerUser | null;
  /** The server's unix socket, the database behind it, and the login for both sides. */
  readonly upstream: {
    readonly socketDirectory: string;
    readonly port: number;
    readonly databaseName: string;
    readonly roleName: string;
    readonly password: string;
  };
};

const START_DEADLINE_MS = 10_000;

/**
 * Starts it and resolves once it takes connections; rejects with what it said where it does not.
 */
export async function startPgbouncer(options: PgbouncerOptions): Promise<RunningPgbouncer> {
  const { directory, user, port } = options;
  mkdirSync(directory, { mode: 0o700 });
  giveTo(user, directory);
  const configurationFile = path.join(directory, "pgbouncer.ini");
  const usersFile = path.join(directory, "users");
  const { roleName, password } = options.upstream;
  write(usersFile, `"${roleName}" "${password}"\n`, user);
  write(configurationFile, configurationText(options, usersFile), user);

  const child = Bun.spawn([options.program.path, configurationFile], {
    ...asUser(user),
    cwd: "/",
    stdin: "ignore",
    stdout: "ignore",
    stderr: "pipe",
  });
  const said = new Response(child.stderr).text();
  const deadline = performance.now() + START_DEADLINE_MS;
  while (!(await accepts(port))) {
    if (child.exitCode !== null || performance.now() > deadline) {
      await endProcess(child, "SIGKILL");
      throw new Error(`PgBouncer did not start:\n${await said}`);
    }
    await Bun.sleep(10);
  }
  // SIGINT is its graceful shutdown and waits for clients; none are left that matter.
  return { pid: child.pid, port, stop: () => endProcess(child, "SIGTERM") };
}

function configurationText(options: PgbouncerOptions, usersFile: string): string {
  const { upstream } = options;
  const database = [
    `host=${upstream.socketDirectory}`,
    `port=${upstream.port}`,
    `dbname=${upstream.databaseName}`,
    `user=${upstream.roleName}`,
  ];
  const settings = {
    listen_addr: "127.0.0.1",
    listen_port: options.port,
    // It would lie in a directory that others may use as well.
    unix_socket_dir: "",
    auth_type: "scram-sha-256",
    auth_file: usersFile,
    pool_mode: "transaction",
    default_pool_size: options.poolSize,
    max_client_conn: options.clientsMax,
    server_tls_sslmode: "disable",
    client_tls_sslmode: "disable",
    ignore_startup_parameters: "extra_float_digits",
    // A line for each connection is no part of its work for a query, and O7s writes none at this
    // level either.
    log_connections: 0,
    log_disconnections: 0,
    ...(supportsPrepared(options.program) && { max_prepared_statements: 200 }),
  };
  const lines = Object.entries(settings).map(([name, value]) => `${name} = ${value}`);
  return `[databases]\nbench = ${database.join(" ")}\n\n[pgbouncer]\n${lines.join("\n")}\n`;
}

/** From 1.21 on it follows prepared statements through transaction pooling. */
export function supportsPrepared(program: Program): boolean {
  const [major = 0, minor = 0] = program.version.split(".").map(Number);
  return major > 1 || (major === 1 && minor >= 21);
}

function write(file: string, text: string, user: ServerUser | null): void {
  writeFileSync(file, text, { mode: 0o600 });
  giveTo(user, file);
}

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: "127.0.0.1" });
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}
