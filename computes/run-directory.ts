/**
 * A short directory for sockets: their paths are limited to some hundred bytes, and data
 * directories may lie deep.
 */
import { createHash } from "node:crypto";
import { chmodSync, lstatSync, mkdirSync } from "node:fs";
import path from "node:path";

/** What a socket's path may have, on Linux and on macOS. */
const SOCKET_PATH_BYTES_MAX = 103;

/**
 * Makes and returns `run` inside `dataDirectory`, or, where socket paths of `longestName` bytes
 * would become too long there, a directory under /tmp named after it. Nobody else can enter by more
 * than a name he knows, and a directory that somebody else laid there first is refused.
 */
export function ensureRunDirectory(dataDirectory: string, longestNameBytes: number): string {
  const inside = path.join(dataDirectory, "run");
  const fits = Buffer.byteLength(inside) + 1 + longestNameBytes <= SOCKET_PATH_BYTES_MAX;
  const hash = createHash("sha256").update(path.resolve(dataDirectory)).digest("hex").slice(0, 12);
  const directory = fits ? inside : path.join("/tmp", `ogel-${hash}`);
  mkdirSync(directory, { recursive: true, mode: 0o711 });
  const found = lstatSync(directory);
  if (!found.isDirectory() || found.uid !== process.getuid?.()) {
    throw new Error(
      `${directory}, which is to hold sockets, belongs to somebody else. Remove it, or use another data directory.`,
    );
  }
  chmodSync(directory, 0o711);
  return directory;
}
