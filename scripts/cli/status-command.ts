/** `ogel status`: what runs, and whether it works. */
import type { Command } from "./command.ts";
import {
  type ComponentState,
  type PlatformFile,
  readPlatformFile,
  readSupervisorFile,
} from "./platform-file.ts";
import { START_HINT } from "./studio-client.ts";
import { table } from "./table.ts";

type Component = { readonly state: string } & Partial<Omit<ComponentState, "state">>;

const HEALTH_DEADLINE_MS = 3_000;

/** Kinds of database that have no component yet. */
const NOT_YET = ["redis", "mongodb", "convex"] as const;

/** What a platform on this machine consists of, in the order in which it starts. */
const EXPECTED = ["control-plane", "shared-postgres", "computes", "o7s", "studio"] as const;

export const statusCommand: Command = {
  name: "status",
  summary: "Show what runs and whether it works",
  positionals: [],
  options: {},
  async run(_, { environment }) {
    const remote = environment["OGEL_API_URL"];
    const status =
      remote !== undefined && remote !== ""
        ? await remoteStatus(remote)
        : await localStatus(environment);
    const rows = Object.entries(status.components).map(([name, component]) => [
      name,
      component.state,
      component.restarts ?? null,
    ]);
    const ports = Object.entries(status.ports).map(([name, port]) => `${name} ${port}`);
    const summary = status.ready ? "Ready." : `Not ready. ${START_HINT}`;
    return {
      json: status,
      text:
        table(["component", "state", "restarts"], rows, "") +
        (ports.length > 0 ? `\nPorts: ${ports.join(", ")}\n` : "") +
        `${summary}\n`,
      exitCode: status.ready ? 0 : 1,
    };
  },
};

type Status = {
  readonly ready: boolean;
  readonly ports: Readonly<Record<string, number>>;
  readonly components: Readonly<Record<string, Component>>;
};

/** Of a platform elsewhere only Studio can be asked. */
async function remoteStatus(url: string): Promise<Status> {
  const ready = await isHealthy(`${url.replace(/\/+$/, "")}/healthz`);
  return { ready, ports: {}, components: { studio: { state: ready ? "running" : "unreachable" } } };
}

async function localStatus(
  environment: Readonly<Record<string, string | undefined>>,
): Promise<Status> {
  const platform = readPlatformFile(environment);
  const supervisor = readSupervisorFile(environment);
  const health = await askHealth(platform);
  const components: Record<string, Component> = {};
  for (const name of EXPECTED) components[name] = { state: "stopped" };
  // Without a supervisor, the services may still be run by hand.
  Object.assign(components, supervisor?.components);
  for (const [name, healthy] of Object.entries(health)) {
    const state = components[name]?.state ?? "stopped";
    if (healthy) components[name] = { ...components[name], state: "running" };
    else if (state === "running")
      components[name] = { ...components[name], state: "not answering" };
  }
  const up = EXPECTED.every((name) => components[name]?.state === "running");
  // While the supervisor is still making the demo, its connection strings do not work yet.
  const ready = up && supervisor?.ready !== false;
  for (const name of NOT_YET) components[name] = { state: "not available yet" };
  return { ready, ports: supervisor === null && !ready ? {} : (platform?.ports ?? {}), components };
}

async function askHealth(platform: PlatformFile | null): Promise<Record<string, boolean>> {
  if (platform === null) return {};
  const http = platform.ports["http"];
  const [studio, o7s] = await Promise.all([
    isHealthy(`${platform.studioUrl}/healthz`),
    http === undefined ? false : isHealthy(`http://127.0.0.1:${http}/healthz`),
  ]);
  return { studio, o7s };
}

async function isHealthy(url: string): Promise<boolean> {
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(HEALTH_DEADLINE_MS) });
    return response.ok;
  } catch {
    return false;
  }
}
