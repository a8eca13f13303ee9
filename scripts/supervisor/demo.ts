/**
 * The demo org: made once through the API, as anybody would, so that there is something to connect
 * to.
 */
import path from "node:path";
import { readIfThere, writeFileWhole } from "../../computes/files.ts";

export type Demo = {
  readonly orgId: string;
  readonly token: string;
  /** By name. */
  readonly databases: Readonly<Record<string, { readonly connectionString: string }>>;
};

export type StudioAccess = { readonly url: string; readonly operatorKey: string };

const DATABASES = [
  { name: "app", kind: "postgres" },
  { name: "scratch", kind: "neon" },
] as const;

/**
 * The demo, made now as far as it is missing. Whoever drops its databases or its org is not given
 * them again.
 * @throws Error with what the API answered.
 */
export async function ensureDemo(stateDirectory: string, studio: StudioAccess): Promise<Demo> {
  const file = path.join(stateDirectory, "demo.json");
  const kept = readDemo(stateDirectory);
  let demo = kept ?? (await createOrg(studio));
  if (kept === null) writeFileWhole(file, JSON.stringify(demo));
  for (const { name, kind } of DATABASES) {
    if (demo.databases[name] !== undefined) continue;
    const made = await callStudio(studio, "POST", `/orgs/${demo.orgId}/databases`, { name, kind });
    const connectionString = textOf(made, "connectionString");
    demo = { ...demo, databases: { ...demo.databases, [name]: { connectionString } } };
    writeFileWhole(file, JSON.stringify(demo));
  }
  return demo;
}

/** The demo as it was made, or null where it was not. */
export function readDemo(stateDirectory: string): Demo | null {
  const text = readIfThere(path.join(stateDirectory, "demo.json"));
  if (text === null) return null;
  const { orgId, token, databases } = JSON.parse(text) as Partial<Demo>;
  if (typeof orgId !== "string" || typeof token !== "string") return null;
  return { orgId, token, databases: databases ?? {} };
}

async function createOrg(studio: StudioAccess): Promise<Demo> {
  const org = await callStudio(studio, "POST", "/orgs", { name: "demo", tier: "PRO" });
  return { orgId: textOf(org, "orgId"), token: textOf(org, "token"), databases: {} };
}

async function callStudio(
  { url, operatorKey }: StudioAccess,
  method: string,
  route: string,
  body: unknown,
): Promise<Readonly<Record<string, unknown>>> {
  const response = await fetch(`${url}/api/v1${route}`, {
    method,
    headers: { authorization: `Bearer ${operatorKey}`, "content-type": "application/json" },
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(60_000),
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`Studio answered ${response.status}: ${text.slice(0, 300)}`);
  return JSON.parse(text) as Record<string, unknown>;
}

function textOf(answer: Readonly<Record<string, unknown>>, name: string): string {
  const value = answer[name];
  if (typeof value === "string") return value;
  throw new Error(`Studio's answer has no ${name}.`);
}
