import { expect, setDefaultTimeout, test } from "bun:test";
import { existsSync } from "node:fs";
import path from "node:path";
import { newPlace } from "../../support/supervised-platform.ts";

setDefaultTimeout(60_000);

test("a taken port is refused before anything starts, naming the variable that changes it", async () => {
  await using place = newPlace();
  using listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const port = String(listener.port);
  const refused = place.run(["up"], { O7S_POSTGRES_PORT: port });
  expect(await refused.exited).toBe(1);
  expect(refused.output()).toBe(
    `Port ${port} is in use by another program. Set O7S_POSTGRES_PORT to another, or free it.\n`,
  );
  expect(existsSync(path.join(place.directory, "control-plane"))).toBe(false);
});

test("all faults of the configuration are told at once, and secrets are not repeated", async () => {
  await using place = newPlace();
  const refused = place.run(["up"], {
    O7S_POSTGRES_PORT: "0",
    STUDIO_PORT: "six",
    OGEL_MASTER_KEY: "hunter2",
    OGEL_OPERATOR_KEY: "short",
  });
  expect(await refused.exited).toBe(1);
  expect(refused.output()).toBe(
    [
      "The platform cannot start, its configuration has faults:",
      '  O7S_POSTGRES_PORT must be a whole number from 1 to 65535, not "0".',
      '  STUDIO_PORT must be a whole number from 1 to 65535, not "six".',
      "  OGEL_MASTER_KEY must be 64 hexadecimal digits.",
      "  OGEL_OPERATOR_KEY must have 24 to 200 characters, and no spaces.",
      "",
    ].join("\n"),
  );
});

test("down on a platform that does not run says so and succeeds", async () => {
  await using place = newPlace();
  const down = place.run(["down"]);
  expect(await down.exited).toBe(0);
  expect(down.output()).toBe("The platform is not running.\n");
});

test("a data directory that is a file is named", async () => {
  await using place = newPlace();
  await Bun.write(place.directory, "not a directory");
  const refused = place.run(["up"]);
  expect(await refused.exited).toBe(1);
  expect(refused.output()).toContain(place.directory);
});
