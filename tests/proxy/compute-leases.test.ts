import { describe, expect, test } from "bun:test";
import {
  type ComputeHost,
  ComputeHostError,
  type ComputeLease as HostLease,
} from "../../platform/compute-host.ts";
import { newDatabaseId } from "../../platform/ids.ts";
import { silentLog } from "../../platform/log.ts";
import { ComputeLease, ComputeLeases, type ComputeUser } from "../../proxy/compute-leases.ts";
import { isDenial } from "../../proxy/pipeline.ts";
import { ManualClock } from "../support/manual-clock.ts";

const IDLE_MS = 10_000;
/** How often `keep` is called. */
const LOOK_MS = 500;

type Wake = Parameters<ComputeHost["wake"]>[1] & { readonly atMs: number };

/** A host whose compute is awake as long as its leases say, on the same clock. */
class Host {
  readonly wakes: Wake[] = [];
  generation = 0;
  awakeUntilMs = Number.NEGATIVE_INFINITY;
  failure: ComputeHostError | null = null;
  readonly #clock: ManualClock;

  constructor(clock: ManualClock) {
    this.#clock = clock;
  }

  get awake(): boolean {
    return this.#clock.nowMs() < this.awakeUntilMs;
  }

  readonly port: ComputeHost = {
    wake: (_computeId, lease) => this.#wake(lease),
    create: () => Promise.resolve(),
    suspend: () => Promise.resolve(),
    repairLogin: () => Promise.resolve(),
    drop: () => Promise.resolve(),
    status: () => Promise.resolve(null),
    list: () => Promise.resolve([]),
  };

  #wake(lease: Parameters<ComputeHost["wake"]>[1]): Promise<HostLease> {
    const now = this.#clock.nowMs();
    this.wakes.push({ ...lease, atMs: now });
    if (this.failure !== null) return Promise.reject(this.failure);
    if (!this.awake) this.generation += 1;
    this.awakeUntilMs = Math.max(this.awakeUntilMs, now + lease.leaseMs);
    const address = { transport: "unix", directory: "/run/compute", port: 5432 } as const;
    return Promise.resolve({ address, generation: this.generation, leaseMs: lease.leaseMs });
  }
}

function setting() {
  const clock = new ManualClock();
  const host = new Host(clock);
  const lease = new ComputeLease(newDatabaseId(), host.port, {
    holder: "o7s-test",
    log: silentLog,
    nowMs: clock.nowMs,
    wakeDeadlineMs: 15_000,
  });
  lease.idleMs = IDLE_MS;
  /** Goes on by so much, looking as the timer does, and lets renewals arrive. */
  const pass = async (ms: number): Promise<void> => {
    for (let passed = 0; passed < ms; passed += LOOK_MS) {
      clock.advance(LOOK_MS);
      lease.keep(clock.nowMs());
      await Promise.resolve();
      await Bun.sleep(0);
    }
  };
  return { clock, host, lease, pass };
}

class User implements ComputeUser {
  slept = 0;
  readonly #needsIt: () => boolean;

  constructor(needsIt: () => boolean = () => false) {
    this.#needsIt = needsIt;
  }

  keepAwake(nowMs: number, lease: ComputeLease): void {
    if (this.#needsIt()) lease.touch(nowMs);
  }

  computeSleeps(): void {
    this.slept += 1;
  }
}

describe("waking", () => {
  test("is asked for once by all who come meanwhile", async () => {
    const { clock, host, lease } = setting();
    expect(lease.use(clock.nowMs())).toBeNull();
    const woken = await Promise.all([lease.wake(), lease.wake(), lease.wake()]);
    expect(host.wakes.length).toBe(1);
    expect(woken.map((running) => !isDenial(running) && running.generation)).toEqual([1, 1, 1]);
    expect(lease.use(clock.nowMs())?.address).toEqual({
      transport: "unix",
      directory: "/run/compute",
      port: 5432,
    });
  });

  test("that fails is a denial for all of them, and is tried again by the next", async () => {
    const { clock, host, lease } = setting();
    host.failure = new ComputeHostError("capacity", "no room");
    const [first, second] = await Promise.all([lease.wake(), lease.wake()]);
    expect(isDenial(first) && first.code).toBe("upstream_unavailable");
    expect(second).toBe(first);
    expect(lease.use(clock.nowMs())).toBeNull();
    host.failure = null;
    expect(isDenial(await lease.wake())).toBe(false);
    expect(lease.use(clock.nowMs())).not.toBeNull();
  });
});

describe("a query", () => {
  test("is never sent without a lease that outlasts the next look", async () => {
    const { clock, host, lease } = setting();
    await lease.wake();
    for (let step = 0; step < 400; step++) {
      if (lease.use(clock.nowMs()) !== null) {
        expect(host.awakeUntilMs - clock.nowMs()).toBeGreaterThan(LOOK_MS);
      }
      // Whoever queries now and then, with looks that come late.
      clock.advance((step * 37) % 900);
      if (step % 3 === 0) {
        lease.keep(clock.nowMs());
        await Bun.sleep(0);
      }
    }
  });

  test("keeps the compute awake while there are more of them", async () => {
    const { clock, host, lease, pass } = setting();
    await lease.wake();
    for (let time = 0; time < 10; time++) {
      await pass(5_000);
      expect(lease.use(clock.nowMs())).not.toBeNull();
    }
    expect(host.generation).toBe(1);
  });
});

describe("an idle compute", () => {
  test("is let go when its idle time has passed, within a look, and its users are told before", async () => {
    const { clock, host, lease, pass } = setting();
    const user = new User();
    lease.users.add(user);
    await lease.wake();
    lease.use(clock.nowMs());
    const lastUseMs = clock.nowMs();
    await pass(IDLE_MS - 2 * LOOK_MS);
    expect(user.slept).toBe(0);
    for (let look = 0; look < 6 && user.slept === 0; look++) await pass(LOOK_MS);
    expect(user.slept).toBe(1);
    expect(host.awake).toBe(true);
    await pass(2 * LOOK_MS);
    expect(host.awake).toBe(false);
    expect(host.awakeUntilMs - lastUseMs).toBeLessThanOrEqual(IDLE_MS + LOOK_MS);
    expect(lease.use(clock.nowMs())).toBeNull();
  });

  test("is not asked for again and again", async () => {
    const { host, lease, pass } = setting();
    await lease.wake();
    await pass(60_000);
    expect(host.wakes.length).toBeLessThanOrEqual(2);
    expect(host.generation).toBe(1);
  });

  test("wakes in another life, which can be told from the one before", async () => {
    const { clock, lease, pass } = setting();
    const first = await lease.wake();
    await pass(IDLE_MS + 4 * LOOK_MS);
    const second = await lease.wake();
    if (isDenial(first) || isDenial(second)) throw new Error("did not wake");
    expect(second.generation).toBe(first.generation + 1);
    expect(lease.use(clock.nowMs())?.generation).toBe(second.generation);
  });
});

test("a session that needs it awake keeps it awake though nobody queries, and no longer", async () => {
  const { host, lease, pass } = setting();
  let holds = true;
  const user = new User(() => holds);
  lease.users.add(user);
  await lease.wake();
  await pass(6 * IDLE_MS);
  expect(user.slept).toBe(0);
  expect(host.awake).toBe(true);
  expect(host.generation).toBe(1);
  holds = false;
  await pass(IDLE_MS + 4 * LOOK_MS);
  expect(user.slept).toBe(1);
  expect(host.awake).toBe(false);
});

test("a compute that is known to be gone is not trusted with a query, but one since woken is", async () => {
  const { clock, host, lease } = setting();
  await lease.wake();
  host.awakeUntilMs = clock.nowMs();
  lease.lost(1);
  expect(lease.use(clock.nowMs())).toBeNull();
  await lease.wake();
  lease.lost(1); // Late news of the life before.
  expect(lease.use(clock.nowMs())?.generation).toBe(2);
});

test("a compute that was stopped is not started again for past queries, only for who needs it now", async () => {
  const { clock, host, lease, pass } = setting();
  let needed = false;
  lease.users.add(new User(() => needed));
  await lease.wake();
  clock.advance(100);
  expect(lease.use(clock.nowMs())).not.toBeNull();
  host.awakeUntilMs = clock.nowMs();
  lease.lost(1);
  await pass(5 * LOOK_MS);
  expect(host.wakes.length).toBe(1);
  needed = true;
  await pass(LOOK_MS);
  expect(host.wakes.length).toBe(2);
  expect(host.awake).toBe(true);
});

test("a lease is forgettable when nobody uses it and the compute may sleep", async () => {
  const { lease, pass } = setting();
  const user = new User();
  lease.users.add(user);
  await lease.wake();
  lease.users.delete(user);
  expect(lease.forgettable).toBe(false);
  await pass(IDLE_MS + 4 * LOOK_MS);
  expect(lease.forgettable).toBe(true);
});

test("leases are one per compute, and none for a host that is not configured", () => {
  const { clock, host } = setting();
  const leases = new ComputeLeases(new Map([["local", host.port]]), {
    holder: "o7s-test",
    log: silentLog,
    nowMs: clock.nowMs,
    wakeDeadlineMs: 15_000,
  });
  const computeId = newDatabaseId();
  expect(leases.lease("local", computeId)).toBe(leases.lease("local", computeId));
  expect(leases.lease("local", newDatabaseId())).not.toBe(leases.lease("local", computeId));
  expect(leases.lease("elsewhere", newDatabaseId())).toBeNull();
  leases.close();
});
