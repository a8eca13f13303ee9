/** Ending the computes of a host that is no more. */
import { existsSync, readdirSync } from "node:fs";
import path from "node:path";
import { adoptServer, stopServer } from "./postgres/server.ts";

/**
 * Stops every compute that runs on a host's directory, and returns how many did. The host itself
 * must not be running: hold its lock, or know that it is gone.
 */
export async function reapComputes(directory: string): Promise<number> {
  const computes = path.join(directory, "computes");
  if (!existsSync(computes)) return 0;
  const stops = readdirSync(computes).map(async (entry) => {
    const server = adoptServer(path.join(computes, entry, "data"));
    if (server === null) return false;
    await stopServer(server, { fastMs: 10_000, immediateMs: 10_000 });
    return true;
  });
  return (await Promise.all(stops)).filter((stopped) => stopped).length;
}
