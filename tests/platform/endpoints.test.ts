import { describe, expect, test } from "bun:test";
import {
  parseAdminServer,
  parseAdminServers,
  parseComputeHosts,
} from "../../platform/endpoints.ts";

describe("an administered server", () => {
  test("on TCP", () => {
    expect(
      parseAdminServer("main=postgres://me:p%40ss@db.example:5433/app?sslmode=require"),
    ).toEqual({
      name: "main",
      address: { transport: "tcp", host: "db.example", port: 5_433, tls: "require" },
      user: "me",
      password: "p@ss",
      database: "app",
    });
  });

  test("on a unix socket", () => {
    expect(parseAdminServer("postgres://me@/app?host=/run/pg&port=5433")).toEqual({
      name: "/run/pg:5433",
      address: { transport: "unix", directory: "/run/pg", port: 5_433 },
      user: "me",
      password: "",
      database: "app",
    });
  });

  test("with an IPv6 address, and everything else left out", () => {
    expect(parseAdminServer("postgresql://[::1]")).toEqual({
      name: "[::1]:5432",
      address: { transport: "tcp", host: "::1", port: 5_432, tls: "disable" },
      user: "postgres",
      password: "",
      database: "postgres",
    });
  });

  test.each([
    "",
    "mysql://h/d",
    "postgres://",
    "postgres:///d",
    "postgres://h:0/d",
    "postgres://h:70000/d",
    "postgres://h/d?sslmode=sometimes",
    "postgres://%zz@h/d",
    "Main=postgres://h/d",
  ])("is not %j", (text) => {
    expect(parseAdminServer(text)).toBeNull();
  });

  test("has a name of its own in a list", () => {
    expect(parseAdminServers("a=postgres://h/d, b=postgres://h/d")?.map((s) => s.name)).toEqual([
      "a",
      "b",
    ]);
    expect(parseAdminServers("a=postgres://h/d,a=postgres://i/d")).toBeNull();
    expect(parseAdminServers("a=postgres://h/d,")).toBeNull();
  });
});

describe("compute hosts", () => {
  test("are reached over a unix socket or a URL", () => {
    expect(parseComputeHosts("local=unix:/run/c.sock,far=https://c.example:8443")).toEqual([
      { name: "local", unixSocket: "/run/c.sock", url: "http://compute-host" },
      { name: "far", unixSocket: null, url: "https://c.example:8443" },
    ]);
  });

  test.each(["", "local", "local=unix:relative", "a=http://h/path", "a=unix:/x,a=unix:/y"])(
    "are not %j",
    (text) => {
      expect(parseComputeHosts(text)).toBeNull();
    },
  );
});
