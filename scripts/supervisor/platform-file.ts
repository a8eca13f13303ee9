/**
 * Where a platform is and how an operator gets in: written when it starts, for the commands of this
 * machine.
 */
import path from "node:path";
import { writeFileWhole } from "../../computes/files.ts";
import type { StudioAccess } from "./demo.ts";
import type { Secrets } from "./secrets.ts";
import type { Settings } from "./settings.ts";

export function studioAccess(settings: Settings, secrets: Secrets): StudioAccess {
  const host = settings.host === "0.0.0.0" ? "127.0.0.1" : settings.host;
  return { url: `http://${host}:${settings.ports.studio}`, operatorKey: secrets.operatorKey };
}

export function writePlatformFile(
  stateDirectory: string,
  settings: Settings,
  secrets: Secrets,
): void {
  const { url, operatorKey } = studioAccess(settings, secrets);
  const platform = { studioUrl: url, operatorKey, ports: settings.ports };
  writeFileWhole(path.join(stateDirectory, "platform.json"), JSON.stringify(platform));
}
