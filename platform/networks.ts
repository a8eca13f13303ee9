/** Networks of clients, in CIDR notation, and which addresses belong to them. */
import { BlockList, isIP, isIPv4 } from "node:net";

/** What a network has to look like, for people. */
export const NETWORK_RULE =
  "A network is an IPv4 or IPv6 address and the length of its prefix, such as 203.0.113.0/24 " +
  "or 2001:db8::/32; a single address may stand without one.";

/** A database may have so many; the proxy looks through all of them at each login. */
export const NETWORKS_MAX = 100;

type Network = { readonly address: string; readonly prefixBits: number };

/** The text of a network with the length of its prefix; null where it is none. */
export function parseNetwork(text: string): string | null {
  const network = split(text.trim());
  return network === null ? null : `${network.address}/${network.prefixBits}`;
}

/**
 * Whether a client with this address may come: where no networks are listed, everyone may. An IPv4
 * client may be written as IPv6 (`::ffff:203.0.113.9`), as sockets for both do.
 */
export function networksAllow(networks: readonly string[], address: string): boolean {
  if (networks.length === 0) return true;
  const list = new BlockList();
  for (const text of networks) {
    const network = split(text);
    if (network !== null) {
      list.addSubnet(network.address, network.prefixBits, familyOf(network.address));
    }
  }
  const plain = plainAddress(address);
  return isIP(plain) !== 0 && list.check(plain, familyOf(plain));
}

/** An address without a zone, and an IPv4 one in its own notation. */
export function plainAddress(address: string): string {
  const withoutZone = address.replace(/%.*$/, "");
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(withoutZone)?.[1];
  return mapped ?? withoutZone;
}

function split(text: string): Network | null {
  const match = /^([0-9a-fA-F:.]+)(?:\/(\d{1,3}))?$/.exec(text);
  const address = match?.[1] ?? "";
  const family = isIP(address);
  // An IPv4 network is to be written as one: its clients are looked for there.
  if (match === null || family === 0 || plainAddress(address) !== address) return null;
  const bitsMax = family === 4 ? 32 : 128;
  const prefixBits = match[2] === undefined ? bitsMax : Number(match[2]);
  return prefixBits <= bitsMax ? { address, prefixBits } : null;
}

function familyOf(address: string): "ipv4" | "ipv6" {
  return isIPv4(address) ? "ipv4" : "ipv6";
}
