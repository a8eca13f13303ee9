/** `up`: brings the platform up, keeps it up, and takes it down again. */
import { existsSync } from "node:fs";
import path from "node:path";
import { DirectoryLockedError, lockDirectory } from "../../computes/directory-lock.ts";
import { findPostgres } from "../../computes/postgres/binaries.ts";
import { chooseServerUser } from "../../computes/postgres/server-user.ts";
import { ensureRunDirectory } from "../../computes/run-directory.ts";
import { renderBanner } from "./banner.ts";
import { createComponents, LONGEST_SOCKET_NAME_BYTES, programsDirectory } from "./components.ts";
import { type Demo, ensureDemo, readDemo } from "./demo.ts";
import { LogFiles } from "./log-files.ts";
import { studioAccess, writePlatformFile } from "./platform-file.ts";
import { findTakenPorts } from "./ports.ts";
import { Problem } from "./problem.ts";
import { readRecord, reapLeftovers } from "./records.ts";
import { ensureSecrets, type Secrets } from "./secrets.ts";
import { readSettings, type Settings } from "./settings.ts";
import { ensureStateDirectory } from "./state-directory.ts";
import { Supervisor } from "./supervisor.ts";
import type { Terminal } from "./terminal.ts";
import { watchOver } from "./watchdog.ts";

export const LOCK_FILE = "supervisor.lock";

export type UpParts = {
  readonly environment: Readonly<Record<string, string>>;
  readonly terminal: Terminal;
  /** In the background, with nobody to read a banner. */
  readonly background: boolean;
  /** Calls back at each request to stop: Ctrl-C and signals. */
  readonly onStopRequest: (stop: () => void) => void;
};

/**
 * Resolves with the exit code when the platform has stopped. @throws Problem, ConfigurationError.
 */
export async function up(parts: UpParts): Promise<number> {
  const { environment, terminal, background } = parts;
  const settings = readSettings(environment);
  const user = chooseServerUser(settings.serverUser);
  const stateDirectory = ensureStateDirectory(settings.dataDirectory, user);
  const running = greetIfRunning(settings, stateDirectory);
  if (running !== null) {
    terminal.say(running);
    return 0;
  }
  const lock = lockDirectory(path.join(stateDirectory, LOCK_FILE));
  const logs = new LogFiles(path.join(stateDirectory, "logs"));
  try {
    const left = await terminal.during("Ending what an earlier run left", () =>
      reapLeftovers(stateDirectory),
    );
    if (left.length > 0) {
      terminal.say(`Ended what an earlier run had left running: ${left.join(", ")}.`);
    }
    const taken = findTakenPorts(settings);
    if (taken.length > 0) throw new Problem(taken.join("\n"));
    const secrets = ensureSecrets(
      stateDirectory,
      settings,
      existsSync(path.join(stateDirectory, "control-plane", "data")),
    );
    const binaries = findPostgres({ user, copiesDirectory: programsDirectory(stateDirectory) });
    const runDirectory = ensureRunDirectory(stateDirectory, LONGEST_SOCKET_NAME_BYTES);
    const components = createComponents({
      settings,
      secrets,
      stateDirectory,
      runDirectory,
      binaries,
      user,
      logs,
      environment,
    });
    const supervisor = new Supervisor({ stateDirectory, components, terminal });
    const watchdog = watchOver(stateDirectory);
    try {
      await run(parts, supervisor, { settings, secrets, stateDirectory });
    } finally {
      await supervisor.stop();
      watchdog.end();
    }
    if (!background) terminal.say("Stopped.");
    return 0;
  } finally {
    logs.close();
    lock.release();
  }
}

type Place = {
  readonly settings: Settings;
  readonly secrets: Secrets;
  readonly stateDirectory: string;
};

/** From the first component's start to the request to stop. */
async function run(parts: UpParts, supervisor: Supervisor, place: Place): Promise<void> {
  const { terminal, background } = parts;
  const { settings, secrets, stateDirectory } = place;
  const stopRequested = new Promise<void>((resolve) => {
    let requests = 0;
    parts.onStopRequest(() => {
      requests += 1;
      if (requests === 1) {
        if (!background) terminal.say("\nStopping. Ctrl-C again hurries.");
        resolve();
      }
      void supervisor.stop({ hurry: requests > 1 }).catch(() => {});
    });
  });
  await supervisor.start();
  if (supervisor.isStopping) return;
  writePlatformFile(stateDirectory, settings, secrets);
  const demo = await makeDemo(terminal, place);
  if (supervisor.isStopping) return;
  supervisor.markReady();
  if (!background) terminal.say(banner(settings, stateDirectory, demo, false));
  await stopRequested;
}

async function makeDemo(terminal: Terminal, place: Place): Promise<Demo | null> {
  const { settings, secrets, stateDirectory } = place;
  try {
    return await terminal.during("Making the demo databases", () =>
      ensureDemo(stateDirectory, studioAccess(settings, secrets)),
    );
  } catch (error) {
    // The platform is of use without it.
    const reason = error instanceof Error ? error.message : String(error);
    terminal.say(`The demo org could not be made: ${reason}`);
    return readDemo(stateDirectory);
  }
}

/** What to say where the platform of this directory runs already, or null where it does not. */
function greetIfRunning(settings: Settings, stateDirectory: string): string | null {
  try {
    lockDirectory(path.join(stateDirectory, LOCK_FILE)).release();
    return null;
  } catch (error) {
    if (!(error instanceof DirectoryLockedError)) throw error;
    const ready = readRecord(stateDirectory)?.ready === true;
    const already = `It was started before, as process ${error.holder.pid}; nothing was changed.`;
    return ready
      ? `${banner(settings, stateDirectory, readDemo(stateDirectory), true)}${already}`
      : `The platform is being started by process ${error.holder.pid}. Look again with ./scripts/ogel status.`;
  }
}

export function banner(
  settings: Settings,
  stateDirectory: string,
  demo: Demo | null,
  detached: boolean,
): string {
  const hasPsql = Bun.which("psql") !== null;
  return renderBanner({ settings, stateDirectory, demo, detached, hasPsql });
}
