/**
 * Where databases are: the address of a server, and the endpoint of one database on it.
 */

/**
 * How a PostgreSQL server is reached. A unix socket is named by its directory and port, as libpq
 * does.
 */
export type ServerAddress =
  | { readonly transport: "unix"; readonly directory: string; readonly port: number }
  | {
      readonly transport: "tcp";
      readonly host: string;
      readonly port: number;
      readonly tls: "disable" | "require" | "verify-full";
    };

/** Where the control plane says a database lives. */
export type Endpoint =
  | {
      /** On a server shared by many orgs, by its name in `SHARED_POSTGRES_URLS`. */
      readonly via: "shared";
      readonly server: string;
      readonly databaseName: string;
      readonly roleName: string;
    }
  | {
      /**
       * Behind a compute host, by its name in `COMPUTE_HOST_URLS`; the host knows the compute by
       * its id.
       */
      readonly via: "compute";
      readonly host: string;
      readonly computeId: string;
      readonly databaseName: string;
      readonly roleName: string;
    };

/** A server that the platform administers, with the login to do so. */
export type AdminServer = {
  readonly name: string;
  readonly address: ServerAddress;
  readonly user: string;
  readonly password: string;
  readonly database: string;
};

export function unixSocketPath(address: { directory: string; port: number }): string {
  return `${address.directory}/.s.PGSQL.${address.port}`;
}

/**
 * One administered server from `name=postgres://user:password@host:port/database`, or null. A unix
 * socket is written `postgres://user:password@/database?host=/directory&port=5432`. Without a name,
 * the host and port are the name.
 */
export function parseAdminServer(text: string): AdminServer | null {
  const named = /^([a-z][a-z0-9-]{0,39})=(.+)$/.exec(text);
  const address = named?.[2] ?? text;
  // The WHATWG parser refuses an empty host in a URL with credentials; a placeholder stands in for
  // it.
  const match = /^postgres(?:ql)?:\/\/(?:([^@/?]*)@)?([^/?]*)(?:\/([^?]*))?(?:\?(.*))?$/.exec(
    address,
  );
  if (match === null) return null;
  const [, credentials = "", hostPort = "", database = "", queryText = ""] = match;
  const query = new URLSearchParams(queryText);
  const host = query.get("host") ?? hostPort.replace(/:\d*$/, "");
  const port = Number(query.get("port") ?? /:(\d+)$/.exec(hostPort)?.[1] ?? "5432");
  if (host === "" || !Number.isInteger(port) || port < 1 || port > 65_535) return null;
  const separator = credentials.indexOf(":");
  const user = separator < 0 ? credentials : credentials.slice(0, separator);
  const password = separator < 0 ? "" : credentials.slice(separator + 1);
  const tls = tlsMode(query.get("sslmode"));
  if (tls === null) return null;
  try {
    return {
      name: named?.[1] ?? `${host}:${port}`,
      address: host.startsWith("/")
        ? { transport: "unix", directory: decodeURIComponent(host), port }
        : { transport: "tcp", host: host.replace(/^\[|\]$/g, ""), port, tls },
      user: decodeURIComponent(user) || "postgres",
      password: decodeURIComponent(password),
      database: decodeURIComponent(database) || "postgres",
    };
  } catch {
    return null; // A malformed percent escape.
  }
}

function tlsMode(text: string | null): "disable" | "require" | "verify-full" | null {
  if (text === null || text === "disable" || text === "prefer") return "disable";
  if (text === "require") return "require";
  return text === "verify-full" || text === "verify-ca" ? "verify-full" : null;
}

/** The servers in a comma-separated list, or null where one is malformed or two share a name. */
export function parseAdminServers(text: string): readonly AdminServer[] | null {
  const servers: AdminServer[] = [];
  for (const part of text.split(",")) {
    const server = parseAdminServer(part.trim());
    if (server === null || servers.some((other) => other.name === server.name)) return null;
    servers.push(server);
  }
  return servers;
}

/** A compute host's HTTP interface: a unix socket, or a base URL. */
export type ComputeHostAddress = {
  readonly name: string;
  readonly url: string;
  readonly unixSocket: string | null;
};

/**
 * Hosts from `name=unix:/path/to.sock,other=http://host:port`, or null where the list is malformed.
 */
export function parseComputeHosts(text: string): readonly ComputeHostAddress[] | null {
  const hosts: ComputeHostAddress[] = [];
  for (const part of text.split(",")) {
    const match = /^([a-z][a-z0-9-]{0,39})=(unix:(\/.+)|https?:\/\/[^/]+)$/.exec(part.trim());
    const name = match?.[1];
    if (match === null || name === undefined || hosts.some((other) => other.name === name))
      return null;
    const unixSocket = match[3] ?? null;
    hosts.push({
      name,
      unixSocket,
      url: unixSocket === null ? (match[2] as string) : "http://compute-host",
    });
  }
  return hosts;
}
