/** The queue gives back what it was given, in order, however long it goes on without running empty. */
import { expect, test } from "bun:test";
import { Fifo } from "../../proxy/fifo.ts";

test("a queue that never runs empty keeps its order past any number of entries", () => {
  const queue = new Fifo<number>();
  queue.push(0);
  for (let n = 1; n <= 10_000; n++) {
    queue.push(n);
    expect(queue.peek()).toBe(n - 1);
    expect(queue.shift()).toBe(n - 1);
    expect(queue.length).toBe(1);
  }
});

test("an empty one gives nothing, and can be filled again", () => {
  const queue = new Fifo<string>();
  expect(queue.shift()).toBeUndefined();
  queue.push("a");
  expect([queue.shift(), queue.shift(), queue.length]).toEqual(["a", undefined, 0]);
  queue.push("b");
  expect(queue.peek()).toBe("b");
});
