/**
 * The platform's secrets: made at first start and kept in the data directory, or given by the
 * environment.
 */
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync } from "node:fs";
import path from "node:path";
import { keptFile } from "../../computes/files.ts";
import { parseMasterKey } from "../../platform/upstream-credentials.ts";
import { Problem } from "./problem.ts";
import type { Settings } from "./settings.ts";

export type Secrets = {
  readonly masterKey: string;
  readonly operatorKey: string;
  readonly computeHostSecret: string;
};

/** `hasData`: databases exist that were made with the master key there was. */
export function ensureSecrets(
  stateDirectory: string,
  settings: Settings,
  hasData: boolean,
): Secrets {
  const directory = path.join(stateDirectory, "secrets");
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const masterKeyFile = path.join(directory, "master-key");
  if (settings.masterKey === null && hasData && !existsSync(masterKeyFile)) {
    throw new Problem(
      `${masterKeyFile} is missing, and the databases here were made with it. Restore it, or set ` +
        "OGEL_MASTER_KEY: a new key would lock everybody out.",
    );
  }
  const random = (): string => randomBytes(32).toString("base64url").replaceAll("-", "_");
  const masterKey =
    settings.masterKey ?? keptFile(masterKeyFile, () => randomBytes(32).toString("hex")).trim();
  if (parseMasterKey(masterKey) === null) {
    throw new Problem(
      `${masterKeyFile} is damaged: it must hold 64 hexadecimal digits. Restore it.`,
    );
  }
  const kept = (name: string, prefix: string): string => {
    const file = path.join(directory, name);
    const text = keptFile(file, () => `${prefix}${random()}`).trim();
    if (/^\S{24,200}$/.test(text)) return text;
    throw new Problem(`${file} is damaged. Remove it; the platform makes a new one at its start.`);
  };
  return {
    masterKey,
    operatorKey: settings.operatorKey ?? kept("operator-key", "ogelop_"),
    computeHostSecret: settings.computeHostSecret ?? kept("compute-host-secret", "ogelch_"),
  };
}
