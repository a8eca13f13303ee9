/**
 * Neon-style databases: each is a compute of its own behind a compute host, and sleeps when nobody
 * uses it.
 */
import { type ComputeHost, ComputeHostError, type NewCompute } from "../compute-host.ts";
import { parseDatabaseId } from "../ids.ts";
import { type MasterKey, upstreamVerifier } from "../upstream-credentials.ts";
import { type Engine, EngineError, type PlacedDatabase } from "./engine.ts";

export type NeonEngineParts = {
  readonly masterKey: MasterKey;
  readonly computeHosts: ReadonlyMap<string, ComputeHost>;
};

export function createNeonEngine(parts: NeonEngineParts): Engine {
  const at = async <T>(
    database: PlacedDatabase,
    act: (host: ComputeHost, compute: NewCompute) => Promise<T>,
  ): Promise<T> => {
    const { endpoint } = database;
    const host = endpoint.via === "compute" ? parts.computeHosts.get(endpoint.host) : undefined;
    if (endpoint.via !== "compute" || host === undefined) {
      throw new EngineError(
        "refused",
        `The compute host of database ${database.name} is not in COMPUTE_HOST_URLS.`,
      );
    }
    const computeId = parseDatabaseId(endpoint.computeId) ?? database.databaseId;
    const { databaseName, roleName } = endpoint;
    const passwordVerifier = upstreamVerifier(
      parts.masterKey,
      roleName,
      database.credentialGeneration,
    );
    return await translated(() =>
      act(host, { computeId, databaseName, roleName, passwordVerifier }),
    );
  };
  const repairLogin = (database: PlacedDatabase): Promise<void> =>
    at(database, (host, compute) => host.repairLogin(compute));

  return {
    kind: "neon",
    async place({ databaseId, orgId, name }) {
      const host = await emptiestHost(parts.computeHosts);
      // The server is its own, so the database is called what its org calls it.
      return { via: "compute", host, computeId: databaseId, databaseName: name, roleName: orgId };
    },
    provision: (database) => at(database, (host, compute) => host.create(compute)),
    drop: (database) => at(database, (host, compute) => host.drop(compute.computeId)),
    repairLogin,
    rotateCredentials: repairLogin,
    // A compute's temporary files are on a disk of its own, which its host watches.
    applyLimits: () => Promise.resolve(),
    sizeBytes: (database) =>
      at(database, async (host, compute) => {
        const status = await host.status(compute.computeId);
        return status?.storageBytes ?? 0;
      }),
  };
}

/** The host with the least data, of those that answer. */
async function emptiestHost(hosts: ReadonlyMap<string, ComputeHost>): Promise<string> {
  const [only] = hosts.keys();
  if (hosts.size === 1 && only !== undefined) return only;
  const sizes = await Promise.all(
    [...hosts].map(async ([name, host]) => {
      try {
        const computes = await host.list();
        return { name, bytes: computes.reduce((sum, compute) => sum + compute.storageBytes, 0) };
      } catch {
        return null; // It may come back; new databases go elsewhere until then.
      }
    }),
  );
  const [emptiest] = sizes
    .filter((size) => size !== null)
    .sort((a, b) => a.bytes - b.bytes || a.name.localeCompare(b.name));
  if (emptiest === undefined) throw new EngineError("unreachable", "No compute host answers.");
  return emptiest.name;
}

async function translated<T>(act: () => Promise<T>): Promise<T> {
  try {
    return await act();
  } catch (error) {
    if (!(error instanceof ComputeHostError)) throw error;
    const passing = ["unreachable", "deadline", "capacity"].includes(error.code);
    throw new EngineError(passing ? "unreachable" : "refused", error.message, { cause: error });
  }
}
