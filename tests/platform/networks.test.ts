/** Which addresses belong to which networks. */
import { describe, expect, test } from "bun:test";
import { networksAllow, parseNetwork } from "../../platform/networks.ts";

describe("a network", () => {
  test.each([
    ["203.0.113.0/24", "203.0.113.0/24"],
    [" 203.0.113.7 ", "203.0.113.7/32"],
    ["2001:db8::/32", "2001:db8::/32"],
    ["::1", "::1/128"],
    ["0.0.0.0/0", "0.0.0.0/0"],
  ])("%j is %s", (text, network) => {
    expect(parseNetwork(text)).toBe(network);
  });

  test.each([
    "",
    "203.0.113.0/33",
    "203.0.113/24",
    "2001:db8::/129",
    "example.org",
    "1.2.3.4/",
    "1.2.3.4/-1",
    "::ffff:1.2.3.4/120",
    "fe80::1%eth0",
    "1.2.3.4/24, 5.6.7.8/24",
  ])("%j is none", (text) => {
    expect(parseNetwork(text)).toBeNull();
  });
});

test.each([
  [[], "198.51.100.1", true],
  [["203.0.113.0/24"], "203.0.113.255", true],
  [["203.0.113.0/24"], "203.0.114.0", false],
  [["203.0.113.0/24"], "::ffff:203.0.113.9", true],
  [["203.0.113.0/24"], "2001:db8::1", false],
  [["10.0.0.0/8", "2001:db8:5::/48"], "2001:db8:5:ffff::1", true],
  [["10.0.0.0/8", "2001:db8:5::/48"], "2001:db8:6::1", false],
  [["fe80::/10"], "fe80::1%eth0", true],
  [["0.0.0.0/0"], "198.51.100.1", true],
  [["0.0.0.0/0"], "2001:db8::1", false],
  [["203.0.113.7/32"], "203.0.113.7", true],
  [["203.0.113.7/32"], "nonsense", false],
] as const)("the networks %j let %s in: %p", (networks, address, allowed) => {
  expect(networksAllow(networks, address)).toBe(allowed);
});
