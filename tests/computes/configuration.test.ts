import { expect, test } from "bun:test";
import { parseListenAddress, readConfiguration } from "../../computes/configuration.ts";

test("all faults of the configuration are told at once, and no secret with them", () => {
  const read = () =>
    readConfiguration({
      COMPUTE_DATA_DIR: "relative",
      COMPUTE_LISTEN: "unix:",
      COMPUTE_HOST_SECRET: "too short",
      O7S_COMPUTES_MAX: "many",
      DATABASE_URL: "mysql://root:hunter2@db/x",
    });
  expect(read).toThrow(
    [
      "The compute host cannot start, its configuration has faults:",
      "  COMPUTE_DATA_DIR must be an absolute path.",
      "  COMPUTE_LISTEN must be unix:/path (at most 103 bytes) or host:port.",
      "  COMPUTE_HOST_SECRET must be 16 to 200 characters without spaces.",
      '  O7S_COMPUTES_MAX must be a whole number from 1 to 10000, not "many".',
      "  DATABASE_URL must be a postgres:// URL.",
    ].join("\n"),
  );
});

test("it listens on a unix socket or on a host and port", () => {
  expect(parseListenAddress("unix:/run/computes.sock")).toEqual({
    transport: "unix",
    path: "/run/computes.sock",
  });
  expect(parseListenAddress("0.0.0.0:7000")).toEqual({
    transport: "tcp",
    hostname: "0.0.0.0",
    port: 7000,
  });
  for (const wrong of ["7000", "host:", "host:70000", `unix:/${"x".repeat(110)}`]) {
    expect(parseListenAddress(wrong)).toBeNull();
  }
});
