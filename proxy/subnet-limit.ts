/**
 * A limit on what anybody may send, without having logged in, per subnet of the network: a /24 of
 * IPv4 or a /64 of IPv6 is what one party has at little cost.
 */
import { isIPv4 } from "node:net";
import { plainAddress } from "../platform/networks.ts";
import { BoundedMap } from "./bounded-map.ts";

const WINDOW_MS = 1_000;
const SUBNETS_MAX = 10_000;

type Window = { sinceMs: number; count: number };

export class SubnetLimit {
  readonly #perSecond: number;
  readonly #nowMs: () => number;
  readonly #windows = new BoundedMap<string, Window>(SUBNETS_MAX);

  constructor(perSecond: number, nowMs: () => number) {
    this.#perSecond = perSecond;
    this.#nowMs = nowMs;
  }

  /** Counts one from this address; false where its subnet has had its share of the second. */
  admit(address: string): boolean {
    const now = this.#nowMs();
    const subnet = subnetOf(address);
    const window = this.#windows.get(subnet);
    if (window === undefined || now - window.sinceMs >= WINDOW_MS) {
      this.#windows.set(subnet, { sinceMs: now, count: 1 });
      return true;
    }
    window.count += 1;
    return window.count <= this.#perSecond;
  }
}

/**
 * Whom an address is taken for: itself, or the first 64 bits of an IPv6 one, because whoever has
 * one of those addresses has all of them.
 */
export function partyOf(address: string): string {
  const plain = plainAddress(address);
  return isIPv4(plain) ? plain : subnetOf(plain);
}

/** The first 24 bits of an IPv4 address, the first 64 of an IPv6 one. */
export function subnetOf(address: string): string {
  const plain = plainAddress(address);
  if (isIPv4(plain)) return plain.slice(0, plain.lastIndexOf("."));
  const [head = "", tail = ""] = plain.split("::");
  const leading = head === "" ? [] : head.split(":");
  const trailing = tail === "" ? [] : tail.split(":");
  // What stands after `::` only reaches into the first half where little is left out.
  const zeros = Math.max(0, 8 - leading.length - trailing.length);
  const groups = [...leading, ...Array.from({ length: zeros }, () => "0"), ...trailing];
  return groups
    .slice(0, 4)
    .map((group) => Number.parseInt(group, 16).toString(16))
    .join(":");
}
