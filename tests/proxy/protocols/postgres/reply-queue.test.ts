import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { EXPECT, ReplyQueue } from "../../../../proxy/protocols/postgres/reply-queue.ts";
import { seed } from "../../../support/seed.ts";

const { parse, bind, describe: describeKind, execute, sync, query, functionCall } = EXPECT;
const { ownParse, ownClose, local, none } = EXPECT;

function queueOf(...kinds: readonly number[]): ReplyQueue {
  const queue = new ReplyQueue();
  for (const kind of kinds) queue.push(kind);
  return queue;
}

function failing(queue: ReplyQueue): number[] {
  const dropped: number[] = [];
  queue.fail((kind) => dropped.push(kind));
  return dropped;
}

function rest(queue: ReplyQueue): number[] {
  const kinds: number[] = [];
  while (queue.length > 0) kinds.push(queue.shift());
  return kinds;
}

describe("an error", () => {
  test("in a batch costs what comes before its Sync, and nothing behind it", () => {
    const queue = queueOf(parse, bind, describeKind, execute, sync, parse, sync);
    queue.shift();
    expect(failing(queue)).toEqual([bind, describeKind, execute]);
    expect(queue.skipping).toBe(false);
    expect(rest(queue)).toEqual([sync, parse, sync]);
  });

  test("in a batch whose Sync has not been sent makes the rest of it be skipped", () => {
    const queue = queueOf(parse, bind, execute);
    expect(failing(queue)).toEqual([parse, bind, execute]);
    expect(queue.skipping).toBe(true);
    expect(queue.length).toBe(0);
  });

  test("in a simple query leaves its ReadyForQuery to be waited for", () => {
    for (const kind of [query, functionCall]) {
      const queue = queueOf(kind, parse, sync);
      expect(failing(queue)).toEqual([]);
      expect(rest(queue)).toEqual([kind, parse, sync]);
    }
  });

  test("in what O7s sent for the batch itself costs the batch the same", () => {
    const queue = queueOf(ownParse, ownClose, bind, execute, sync, query);
    expect(failing(queue)).toEqual([ownParse, ownClose, bind, execute]);
    expect(rest(queue)).toEqual([sync, query]);
  });

  test("takes the answers of O7s's own that stand in its batch with it", () => {
    expect(failing(queueOf(execute, local, sync))).toEqual([execute, local]);
  });

  test("that answers nothing changes nothing", () => {
    const queue = queueOf();
    expect(failing(queue)).toEqual([]);
    expect(queue.skipping).toBe(false);
  });
});

test("clearing forgets everything", () => {
  const queue = queueOf(execute);
  failing(queue);
  queue.push(sync);
  queue.clear();
  expect(queue.length).toBe(0);
  expect(queue.readies).toBe(0);
  expect(queue.head).toBe(none);
  expect(queue.skipping).toBe(false);
});

/** The same queue as a plain list. */
class Model {
  entries: number[] = [];
  skipping = false;

  get readies(): number {
    return this.entries.filter((kind) => kind === sync || kind === query || kind === functionCall)
      .length;
  }

  fail(): number[] {
    const head = this.entries[0];
    if (head === undefined || head === query || head === functionCall) return [];
    const end = this.entries.indexOf(sync);
    const dropped = this.entries.splice(0, end < 0 ? this.entries.length : end);
    if (this.entries.length === 0) this.skipping = true;
    return dropped;
  }
}

type Act = { readonly act: "push"; readonly kinds: number[] } | { readonly act: "shift" | "fail" };

test("any sequence of acts leaves it as a plain list would be, also when it grows and wraps", () => {
  const kind = fc.integer({ min: EXPECT.parse, max: local });
  const act: fc.Arbitrary<Act> = fc.oneof(
    {
      weight: 3,
      arbitrary: fc.record({
        act: fc.constant("push" as const),
        kinds: fc.array(kind, { maxLength: 50 }),
      }),
    },
    { weight: 10, arbitrary: fc.record({ act: fc.constant("shift" as const) }) },
    { weight: 1, arbitrary: fc.record({ act: fc.constant("fail" as const) }) },
  );
  fc.assert(
    fc.property(fc.array(act, { maxLength: 200 }), (acts) => {
      const queue = new ReplyQueue();
      const model = new Model();
      for (const step of acts) {
        if (step.act === "push") {
          for (const pushed of step.kinds) queue.push(pushed);
          model.entries.push(...step.kinds);
        } else if (step.act === "shift") {
          expect(queue.shift()).toBe(model.entries.shift() ?? none);
        } else {
          expect(failing(queue)).toEqual(model.fail());
        }
        expect(queue.length).toBe(model.entries.length);
        expect(queue.head).toBe(model.entries[0] ?? none);
        expect(queue.readies).toBe(model.readies);
        expect(queue.skipping).toBe(model.skipping);
      }
      expect(rest(queue)).toEqual(model.entries);
    }),
    { seed },
  );
});
