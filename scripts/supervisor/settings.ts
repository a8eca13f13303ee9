/** What the person who starts the platform may set, by environment variables. */
import path from "node:path";
import { type Environment, EnvironmentReader } from "../../platform/environment.ts";
import { parseMasterKey } from "../../platform/upstream-credentials.ts";

/** The repository, whatever the current directory. */
export const REPOSITORY = path.resolve(import.meta.dirname, "../..");

export type Settings = {
  /** Absolute; it need not exist yet. */
  readonly dataDirectory: string;
  /** Where O7s and Studio listen. */
  readonly host: string;
  /** What connection strings say. */
  readonly publicHost: string;
  readonly ports: Ports;
  readonly serverUser: string | null;
  /** Values that stand above those that the platform makes for itself. */
  readonly masterKey: string | null;
  readonly operatorKey: string | null;
  readonly computeHostSecret: string | null;
};

export type Ports = {
  readonly postgres: number;
  readonly redis: number;
  readonly mongodb: number;
  readonly http: number;
  readonly studio: number;
};

export const PORT_VARIABLES: Readonly<Record<keyof Ports, string>> = {
  postgres: "O7S_POSTGRES_PORT",
  redis: "O7S_REDIS_PORT",
  mongodb: "O7S_MONGODB_PORT",
  http: "O7S_HTTP_PORT",
  studio: "STUDIO_PORT",
};

/** @throws ConfigurationError with all faults. */
export function readSettings(environment: Environment): Settings {
  const reader = new EnvironmentReader("The platform", environment);
  const port = (kind: keyof Ports, fallback: number): number =>
    reader.integer(PORT_VARIABLES[kind], fallback, { min: 1, max: 65_535 });
  const ports = {
    postgres: port("postgres", 5_440),
    redis: port("redis", 5_441),
    mongodb: port("mongodb", 5_442),
    http: port("http", 5_443),
    studio: port("studio", 5_444),
  };
  for (const kind of Object.keys(ports) as (keyof Ports)[]) {
    const same = (Object.keys(ports) as (keyof Ports)[]).find(
      (other) => other !== kind && ports[other] === ports[kind],
    );
    if (same !== undefined && kind < same) {
      reader.fault(PORT_VARIABLES[kind], `and ${PORT_VARIABLES[same]} are both ${ports[kind]}.`);
    }
  }
  const host = reader.optional("O7S_HOST") ?? "127.0.0.1";
  const masterKey = reader.optional("OGEL_MASTER_KEY");
  if (masterKey !== null && parseMasterKey(masterKey) === null) {
    reader.fault("OGEL_MASTER_KEY", "must be 64 hexadecimal digits.");
  }
  const operatorKey = secret(reader, "OGEL_OPERATOR_KEY", 24);
  const computeHostSecret = secret(reader, "COMPUTE_HOST_SECRET", 16);
  const serverUser = reader.optional("OGEL_SERVER_USER");
  reader.finish();
  return {
    dataDirectory: path.resolve(reader.optional("OGEL_DATA_DIR") ?? path.join(REPOSITORY, ".ogel")),
    host,
    publicHost: reader.optional("O7S_PUBLIC_HOST") ?? (host === "0.0.0.0" ? "127.0.0.1" : host),
    ports,
    serverUser,
    masterKey,
    operatorKey,
    computeHostSecret,
  };
}

function secret(reader: EnvironmentReader, name: string, charsMin: number): string | null {
  const value = reader.optional(name);
  if (value !== null && (value.length < charsMin || !/^\S{1,200}$/.test(value))) {
    reader.fault(name, `must have ${charsMin} to 200 characters, and no spaces.`);
  }
  return value;
}
