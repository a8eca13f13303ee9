/**
 * Where tests put servers' data: in memory where there is plenty, because disks differ tenfold in
 * how fast they sync.
 */
import { statfsSync } from "node:fs";
import { tmpdir } from "node:os";

const MEMORY = "/dev/shm";
const ROOM_BYTES_MIN = 4_000_000_000;

export function temporaryRoot(): string {
  try {
    const { bavail, bsize } = statfsSync(MEMORY);
    return bavail * bsize >= ROOM_BYTES_MIN ? MEMORY : tmpdir();
  } catch {
    return tmpdir();
  }
}
