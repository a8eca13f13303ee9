/**
 * The platform's data path for tests: a control plane, a shared server, a compute host and O7s, all
 * real and of their own. It is the stage of the benchmarks on servers that tests can kill and start
 * again.
 */
import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { type Stage, type StageOrg, startStage } from "../../scripts/bench/stage.ts";
import { startPostgres, type TestPostgres } from "./postgres-server.ts";

export type TestOrg = StageOrg;

export type TestPlatform = Stage & {
  readonly shared: TestPostgres;
  readonly control: TestPostgres;
  [Symbol.asyncDispose](): Promise<void>;
};

export async function startPlatform(
  options: {
    readonly computes?: boolean;
    readonly environment?: Readonly<Record<string, string>>;
  } = {},
): Promise<TestPlatform> {
  await using started = new AsyncDisposableStack();
  const home = mkdtempSync(path.join(tmpdir(), "ogel-t-"));
  chmodSync(home, 0o711); // The servers' user has to get to its own directories in it.
  started.defer(() => rmSync(home, { recursive: true, force: true }));
  const [control, shared] = await Promise.all([startPostgres(), startPostgres()]);
  started.use(control);
  started.use(shared);
  const stage = await startStage({
    home,
    controlUrl: control.adminUrl,
    sharedUrl: shared.adminUrl,
    computes: options.computes === true,
    environment: options.environment ?? {},
    defer: (end) => started.defer(end),
  });
  const running = started.move();
  // Assigned to, not spread: its proxy and ports change with a restart.
  return Object.assign(stage, {
    control,
    shared,
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  });
}
