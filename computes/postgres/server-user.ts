/**
 * Whom PostgreSQL runs as. It refuses to run as root, so a platform that was started by root runs
 * its servers as a user of their own; otherwise they run as whoever started it.
 */
import { spawnSync } from "node:child_process";
import { chownSync } from "node:fs";

export type ServerUser = { readonly name: string; readonly uid: number; readonly gid: number };

export class ServerUserError extends Error {}

const DEDICATED_USER = "ogel";

/**
 * The user for servers, or null where the current user will do. As root it is `requested`, else the
 * system user `ogel`, which is created where the system lets us, else `nobody`.
 */
export function chooseServerUser(requested: string | null): ServerUser | null {
  if (process.getuid?.() !== 0) return null;
  if (requested !== null) {
    const user = findUser(requested);
    if (user === null || user.uid === 0) {
      throw new ServerUserError(
        `OGEL_SERVER_USER is "${requested}", which must be an existing user other than root: ` +
          "PostgreSQL refuses to run as root.",
      );
    }
    return user;
  }
  const user = findUser(DEDICATED_USER) ?? createDedicatedUser() ?? findUser("nobody");
  if (user !== null && user.uid !== 0) return user;
  throw new ServerUserError(
    "PostgreSQL refuses to run as root, and this system has no other user for it. " +
      "Create one and name it in OGEL_SERVER_USER.",
  );
}

/** Spread into the options of a spawn. */
export function asUser(user: ServerUser | null): { uid?: number; gid?: number } {
  return user === null ? {} : { uid: user.uid, gid: user.gid };
}

/** Gives a path to the server user; nothing where that is the current user. */
export function giveTo(user: ServerUser | null, path: string): void {
  if (user !== null) chownSync(path, user.uid, user.gid);
}

function findUser(name: string): ServerUser | null {
  if (!/^[a-z_][a-z0-9_-]{0,31}$/i.test(name)) return null;
  const uid = idOf("-u", name);
  const gid = idOf("-g", name);
  return uid === null || gid === null ? null : { name, uid, gid };
}

function idOf(flag: string, name: string): number | null {
  const run = spawnSync("id", [flag, name], { encoding: "utf8" });
  return run.status === 0 && /^\d+\s*$/.test(run.stdout) ? Number(run.stdout) : null;
}

function createDedicatedUser(): ServerUser | null {
  // The first is Debian's and Red Hat's, the second Alpine's.
  const commands: readonly (readonly [string, ...string[]])[] = [
    ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", DEDICATED_USER],
    ["adduser", "-S", "-D", "-H", "-s", "/sbin/nologin", DEDICATED_USER],
  ];
  for (const [command, ...args] of commands) {
    spawnSync(command, args, { stdio: "ignore" });
    // Asked again even after a failure: another process may have created it at the same moment.
    const user = findUser(DEDICATED_USER);
    if (user !== null) return user;
  }
  return null;
}
