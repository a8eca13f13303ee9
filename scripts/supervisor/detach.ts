/**
 * `up --detach`: starts `up` in the background, shows what it says, and returns when the platform
 * can be used.
 */
import { closeSync, mkdirSync, openSync, readSync } from "node:fs";
import path from "node:path";
import { readLockHolder } from "../../computes/directory-lock.ts";
import { chooseServerUser } from "../../computes/postgres/server-user.ts";
import { readDemo } from "./demo.ts";
import { readRecord } from "./records.ts";
import { REPOSITORY, readSettings } from "./settings.ts";
import { ensureStateDirectory } from "./state-directory.ts";
import { banner, LOCK_FILE, type UpParts, up } from "./up.ts";

const POLL_MS = 50;

/** Resolves with the exit code. @throws Problem, ConfigurationError. */
export async function upDetached(parts: UpParts, write: (text: string) => void): Promise<number> {
  const settings = readSettings(parts.environment);
  const user = chooseServerUser(settings.serverUser);
  const stateDirectory = ensureStateDirectory(settings.dataDirectory, user);
  // Where it runs already, `up` says so and returns.
  if (readLockHolder(path.join(stateDirectory, LOCK_FILE)) !== null) return await up(parts);

  const logDirectory = path.join(stateDirectory, "logs");
  mkdirSync(logDirectory, { recursive: true, mode: 0o711 });
  const logFile = path.join(logDirectory, "supervisor.log");
  const log = openSync(logFile, "w+", 0o600);
  const child = Bun.spawn(
    [process.execPath, path.join(import.meta.dirname, "main.ts"), "up", "--background"],
    {
      cwd: REPOSITORY,
      env: parts.environment,
      stdin: "ignore",
      stdout: log,
      stderr: log,
      detached: true,
    },
  );
  const follow = follower(logFile, write);
  while (child.exitCode === null && child.signalCode === null) {
    follow();
    const record = readRecord(stateDirectory);
    if (record?.ready === true && record.pid === child.pid) break;
    await Bun.sleep(POLL_MS);
  }
  follow();
  closeSync(log);
  if (child.exitCode !== null || child.signalCode !== null) return child.exitCode ?? 1;
  child.unref();
  write(`${banner(settings, stateDirectory, readDemo(stateDirectory), true)}\n`);
  return 0;
}

/** Passes on what has been added to a file since the last call. */
function follower(file: string, write: (text: string) => void): () => void {
  let position = 0;
  return () => {
    const buffer = Buffer.alloc(16_384);
    const descriptor = openSync(file, "r");
    try {
      for (;;) {
        const length = readSync(descriptor, buffer, 0, buffer.length, position);
        if (length === 0) return;
        position += length;
        write(buffer.toString("utf8", 0, length));
      }
    } finally {
      closeSync(descriptor);
    }
  };
}
