/**
 * Where a platform's state lives: a directory that both the platform and its servers' user can
 * reach.
 */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readlinkSync,
  realpathSync,
  symlinkSync,
} from "node:fs";
import path from "node:path";
import { asUser, type ServerUser } from "../../computes/postgres/server-user.ts";
import { Problem } from "./problem.ts";

/** Where state goes that root keeps in a directory that no other user can enter. */
const SYSTEM_STATE = "/var/lib/ogel";

/**
 * Makes the data directory and returns its real path. Where `user` cannot come to it, as in a
 * checkout in root's home, the state is kept under /var/lib/ogel and the directory is a link to
 * there.
 */
export function ensureStateDirectory(directory: string, user: ServerUser | null): string {
  if (lstatSync(directory, { throwIfNoEntry: false }) === undefined) {
    mkdirSync(path.dirname(directory), { recursive: true });
    if (user === null || canEnter(user, path.dirname(directory))) mkdirSync(directory);
    else symlinkSync(makeSystemState(directory), directory);
  }
  // A link whose target was removed: its data is gone, its place is not.
  if (!existsSync(directory)) mkdirSync(readlinkSync(directory), { recursive: true, mode: 0o711 });
  const real = realpathSync(directory);
  // Servers keep their data below, so their user must get through; what is here is closed file by
  // file.
  chmodSync(real, 0o711);
  if (user === null || canEnter(user, real)) return real;
  throw new Problem(
    `PostgreSQL runs as ${user.name} and cannot reach ${real}. Move that directory to a place which ` +
      `${user.name} can enter, and name the place in OGEL_DATA_DIR.`,
  );
}

function makeSystemState(directory: string): string {
  const hash = createHash("sha256").update(directory).digest("hex").slice(0, 12);
  const state = path.join(SYSTEM_STATE, hash);
  mkdirSync(state, { recursive: true, mode: 0o711 });
  return state;
}

/** Asked of the system itself, which knows about modes, access lists and mounts. */
function canEnter(user: ServerUser, directory: string): boolean {
  const run = spawnSync("/bin/sh", ["-c", 'cd "$1"', "sh", directory], {
    ...asUser(user),
    cwd: "/",
    stdio: "ignore",
  });
  return run.status === 0;
}
