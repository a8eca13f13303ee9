/** Cutting bytes into pieces, as a network may: whole, byte by byte, and at random. */
import fc from "fast-check";

export function bytewise(bytes: Uint8Array): Uint8Array[] {
  return Array.from(bytes, (byte) => Uint8Array.of(byte));
}

/** Cuts at each of `fractions` of the length; those that fall together cut once. */
export function splitAt(bytes: Uint8Array, fractions: readonly number[]): Uint8Array[] {
  const cuts = fractions.map((fraction) => Math.floor(fraction * bytes.length));
  const edges = [...new Set([0, ...cuts, bytes.length])].sort((a, b) => a - b);
  return edges.slice(1).map((edge, index) => bytes.slice(edges[index], edge));
}

/** Up to `cutsMax` places to cut at, as fractions of a length. */
export function cutPlaces(cutsMax: number): fc.Arbitrary<number[]> {
  return fc.array(fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }), {
    maxLength: cutsMax,
  });
}
