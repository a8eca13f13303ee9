/** What strangers may send is limited per subnet, and nobody else is held to it. */
import { expect, test } from "bun:test";
import { SubnetLimit, subnetOf } from "../../proxy/subnet-limit.ts";

test.each([
  ["203.0.113.9", "203.0.113"],
  ["::ffff:203.0.113.9", "203.0.113"],
  ["2001:db8:1:2:3:4:5:6", "2001:db8:1:2"],
  ["2001:0DB8:0001:0002::1", "2001:db8:1:2"],
  ["2001:db8::1", "2001:db8:0:0"],
  ["::1", "0:0:0:0"],
  ["fe80::1:2:3:4%eth0", "fe80:0:0:0"],
  ["1::2:3:4:5:6:7", "1:0:2:3"],
])("the subnet of %s is %s", (address, subnet) => {
  expect(subnetOf(address)).toBe(subnet);
});

test("a subnet has so many in a second, however many addresses it comes from", () => {
  let nowMs = 0;
  const limit = new SubnetLimit(3, () => nowMs);
  const admitted = (network: string): readonly boolean[] =>
    Array.from({ length: 5 }, (_, n) => limit.admit(`${network}.${n}`));
  expect(admitted("203.0.113")).toEqual([true, true, true, false, false]);
  expect(admitted("198.51.100")).toEqual([true, true, true, false, false]);
  nowMs = 999;
  expect(limit.admit("203.0.113.1")).toBe(false);
  nowMs = 1_000;
  expect(admitted("203.0.113")).toEqual([true, true, true, false, false]);
});
