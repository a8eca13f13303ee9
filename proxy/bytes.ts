/**
 * Reading bytes at offsets that the caller has checked: the one place where an unchecked index is
 * taken.
 */

export function byteAt(bytes: Uint8Array, at: number): number {
  return bytes[at] as number;
}

/** Big-endian, unsigned. */
export function uint32At(bytes: Uint8Array, at: number): number {
  return (
    (((bytes[at] as number) << 24) |
      ((bytes[at + 1] as number) << 16) |
      ((bytes[at + 2] as number) << 8) |
      (bytes[at + 3] as number)) >>>
    0
  );
}

/**
 * `bytes[start, end)` as text, a character for each byte. Called on the bytes themselves: a Buffer
 * made over the same memory would cost more than all the rest.
 */
export function textAt(bytes: Uint8Array, start: number, end: number): string {
  return Buffer.prototype.toString.call(bytes, "latin1", start, Math.max(start, end));
}

/** The offset of the first zero byte in `bytes[start, end)`, or -1. */
export function zeroIn(bytes: Uint8Array, start: number, end: number): number {
  const at = bytes.indexOf(0, start);
  return at >= 0 && at < end ? at : -1;
}

/**
 * A copy of `bytes[start, end)` in memory of its own. `slice` is none on a Buffer, which is what
 * sockets hand out: there it is a view that keeps all of what was read with it alive.
 */
export function copyOf(bytes: Uint8Array, start = 0, end = bytes.length): Uint8Array {
  return new Uint8Array(bytes.subarray(start, end));
}
