/** The Studio API as its callers meet it: a real Studio in a process of its own. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { type ApiAnswer, answerOf, startStudio, type TestStudio } from "../support/studio.ts";
import { until } from "../support/until.ts";

/** Servers are started here, on a machine that may be busy. */
setDefaultTimeout(60_000);

let studio: TestStudio;

beforeAll(async () => {
  studio = await startStudio();
});

afterAll(async () => {
  await studio[Symbol.asyncDispose]();
});

async function newOrg(tier = "PRO"): Promise<string> {
  const { body } = await studio.call("POST", "/orgs", { name: "Acme", tier });
  return String(body["orgId"]);
}

function expectProblem(answer: ApiAnswer, status: number, code: string): void {
  expect(answer.status).toBe(status);
  expect(Object.keys(answer.body)).toEqual(["error"]);
  const { error } = answer.body;
  expect(error?.code).toBe(code as never);
  expect(error?.message.length).toBeGreaterThan(10);
  expect(error?.requestId).toBe(answer.requestId as never);
  expect(answer.requestId).toMatch(/^req_[0-9a-f]{32}$/);
}

describe("who may call", () => {
  const ask = async (path: string, init: RequestInit = {}) =>
    await answerOf(await fetch(`${studio.url}${path}`, init));

  test.each([
    ["nothing", {}],
    ["another key", { authorization: "Bearer not-the-operator-key-at-all" }],
    ["another scheme", { authorization: "Basic b3BlcmF0b3I6eA==" }],
    ["an empty key", { authorization: "Bearer " }],
  ])("with %s is 401, whatever is asked for", async (_, headers) => {
    for (const path of ["/orgs", "/orgs/org_aaaaaaaaaaaaaaaa", "/orgs/nonsense/databases"]) {
      expectProblem(await ask(`/api/v1${path}`, { headers }), 401, "unauthorized");
    }
    const post = { method: "POST", headers: { ...headers, "content-type": "application/json" } };
    for (const body of ["{", "{}", JSON.stringify({ name: 1 })]) {
      expectProblem(await ask("/api/v1/orgs", { ...post, body }), 401, "unauthorized");
    }
  });

  test("a route that is not there is 404, with a session and without", async () => {
    expectProblem(await ask("/api/v1/nowhere"), 404, "not_found");
    expectProblem(await studio.call("GET", "/nowhere"), 404, "not_found");
    expectProblem(await studio.call("DELETE", "/orgs"), 404, "not_found");
  });

  test("health and the API's description need no session", async () => {
    expect((await ask("/healthz")).body).toEqual({ ok: true });
    expect((await ask("/api/v1/openapi/json")).status).toBe(200);
    expect((await fetch(`${studio.url}/api/v1/openapi`)).status).toBe(200);
  });
});

describe("orgs", () => {
  test("are created, shown, moved, limited, suspended and resumed", async () => {
    const created = await studio.call("POST", "/orgs", { name: "Acme", tier: "FREE" });
    expect(created.status).toBe(201);
    expect(created.body["token"]).toMatch(/^ogel_[A-Za-z0-9]{43}$/);
    const path = `/orgs/${created.body["orgId"]}`;
    expect((await studio.call("GET", path)).body).toMatchObject({ name: "Acme", status: "active" });
    const moved = await studio.call("PUT", `${path}/tier`, { tier: "STARTER" });
    expect(moved.body).toMatchObject({
      tier: "STARTER",
      limits: { connections: 10, limitQps: 50 },
    });
    const limited = await studio.call("PATCH", `${path}/limits`, { limitQps: 7 });
    expect(limited.body).toMatchObject({
      limits: { connections: 10, limitQps: 7 },
      overrides: { connections: null, limitQps: 7 },
    });
    expect((await studio.call("POST", `${path}/suspend`)).body).toMatchObject({
      status: "suspended",
    });
    expect((await studio.call("POST", `${path}/resume`)).body).toMatchObject({ status: "active" });
    const { body } = await studio.call("GET", "/orgs?limit=1");
    expect(body["orgs"]).toHaveLength(1);
  });

  test.each([
    ["a missing name", "POST", "/orgs", { tier: "FREE" }, "name"],
    ["a name that breaks the rule", "POST", "/orgs", { name: " x", tier: "FREE" }, "1 to 80"],
    ["an unknown tier", "POST", "/orgs", { name: "x", tier: "GOLD" }, "FREE, STARTER, PRO"],
    ["no body", "POST", "/orgs", undefined, "body"],
    ["a page that is too long", "GET", "/orgs?limit=501", undefined, "limit"],
  ])("with %s are refused with the rule", async (_, method, path, body, rule) => {
    const answer = await studio.call(method, path, body);
    expectProblem(answer, 400, "invalid");
    expect(answer.body.error?.message).toContain(rule as never);
  });

  test("with limits out of bounds, or none at all, are refused with the rule", async () => {
    const path = `/orgs/${await newOrg()}/limits`;
    for (const body of [{}, { limitQps: 0 }, { connections: 10_001 }, { limitQps: "many" }]) {
      expectProblem(await studio.call("PATCH", path, body), 400, "invalid");
    }
  });

  test("that are not there are 404", async () => {
    for (const id of ["org_aaaaaaaaaaaaaaaa", "nonsense", "org_%00"]) {
      expectProblem(await studio.call("GET", `/orgs/${id}`), 404, "org_not_found");
      expectProblem(await studio.call("GET", `/orgs/${id}/databases`), 404, "org_not_found");
      expectProblem(await studio.call("GET", `/orgs/${id}/usage`), 404, "org_not_found");
    }
  });
});

test("tokens are created, listed without their secret, and revoked", async () => {
  const path = `/orgs/${await newOrg()}/tokens`;
  const created = await studio.call("POST", path);
  expect(created.status).toBe(201);
  const tokenId = String(created.body["tokenId"]);
  const listed = JSON.stringify((await studio.call("GET", path)).body);
  expect(listed).toContain(tokenId);
  expect(listed).not.toContain(String(created.body["token"]));
  expect((await studio.call("DELETE", `${path}/${tokenId}`)).status).toBe(204);
  expect((await studio.call("DELETE", `${path}/${tokenId}`)).status).toBe(204);
  const missing = await studio.call("DELETE", `${path}/tok_aaaaaaaaaaaaaaaa`);
  expectProblem(missing, 404, "token_not_found");
});

describe("databases", () => {
  test("are created, shown with a string to connect with, listed and dropped", async () => {
    const orgId = await newOrg();
    const path = `/orgs/${orgId}/databases`;
    const created = await studio.call("POST", path, { name: "shop", kind: "postgres" });
    expect(created.status).toBe(201);
    expect(created.body).toMatchObject({
      kind: "postgres",
      status: "ready",
      connectionString: `postgresql://${orgId}@127.0.0.1:6440/shop`,
    });
    expect((await studio.call("GET", `${path}/shop`)).body).toEqual(created.body);
    expect((await studio.call("GET", path)).body).toEqual({ databases: [created.body] });
    expect((await studio.call("DELETE", `${path}/shop`)).status).toBe(204);
    expectProblem(await studio.call("GET", `${path}/shop`), 404, "database_not_found");
    expectProblem(await studio.call("DELETE", `${path}/shop`), 404, "database_not_found");
  });

  test("are refused beyond the tier, in another kind, and with bad names", async () => {
    const path = `/orgs/${await newOrg("FREE")}/databases`;
    const create = (name: string, kind: string) => studio.call("POST", path, { name, kind });
    await Promise.all(["a", "b", "c"].map((name) => create(name, "postgres")));
    expectProblem(await create("d", "postgres"), 409, "database_limit");
    expectProblem(await create("a", "redis"), 422, "kind_unavailable");
    expectProblem(await create("a", "oracle"), 400, "invalid");
    const misnamed = await create("Shop!", "postgres");
    expectProblem(misnamed, 400, "invalid");
    expect(misnamed.body.error?.message).toContain("starts with a lower-case letter");
  });

  test("take clients from the networks that are listed, or from everywhere", async () => {
    const path = `/orgs/${await newOrg()}/databases`;
    const created = await studio.call("POST", path, { name: "shop", kind: "postgres" });
    expect(created.body["allowedNetworks"]).toEqual([]);
    const allow = (networks: unknown, name = "shop") =>
      studio.call("PUT", `${path}/${name}/networks`, { networks });
    const listed = await allow(["203.0.113.99/24", "2001:db8::7", "203.0.113.0/24"]);
    expect(listed.status).toBe(200);
    expect(listed.body["allowedNetworks"]).toEqual(["203.0.113.0/24", "2001:db8::7/128"]);
    expect((await studio.call("GET", `${path}/shop`)).body).toEqual(listed.body);
    const wrong = await allow(["203.0.113.0/24", "example.org"]);
    expectProblem(wrong, 400, "invalid");
    expect(wrong.body.error?.message).toStartWith("A network is an IPv4 or IPv6 address");
    const many = Array.from({ length: 101 }, (_, n) => `10.0.${n}.0/24`);
    expectProblem(await allow(many), 400, "invalid");
    expectProblem(await allow([], "nowhere"), 404, "database_not_found");
    expect((await allow([])).body["allowedNetworks"]).toEqual([]);
  });

  test("that are always up neither sleep nor wake, and say so", async () => {
    const path = `/orgs/${await newOrg()}/databases`;
    await studio.call("POST", path, { name: "shop", kind: "postgres" });
    for (const act of ["suspend", "wake"]) {
      expectProblem(await studio.call("POST", `${path}/shop/${act}`), 422, "not_applicable");
    }
  });
});

test("usage of an org that did nothing is zero, of this month unless said otherwise", async () => {
  const orgId = await newOrg();
  const { body } = await studio.call("GET", `/orgs/${orgId}/usage`);
  expect(body).toMatchObject({
    orgId,
    period: new Date().toISOString().slice(0, 7),
    complete: true,
    quantities: { queries: 0, rows: 0, bytesIn: 0, bytesOut: 0, busyMs: 0, computeSeconds: 0 },
    byDatabase: [],
  });
  const past = await studio.call("GET", `/orgs/${orgId}/usage?period=2026-01`);
  expect(past.body["period"]).toBe("2026-01");
  for (const period of ["2026-13", "2026", "now", "2026-01-01"]) {
    const answer = await studio.call("GET", `/orgs/${orgId}/usage?period=${period}`);
    expectProblem(answer, 400, "invalid");
  }
});

test("a body beyond its bound, or that is not JSON, is refused", async () => {
  const headers = {
    authorization: `Bearer ${studio.operatorKey}`,
    "content-type": "application/json",
  };
  const post = async (body: string) =>
    await answerOf(await fetch(`${studio.url}/api/v1/orgs`, { method: "POST", headers, body }));
  expectProblem(await post("x".repeat(70_000)), 413, "too_large");
  expectProblem(await post("{"), 400, "invalid");
});

test("the API's description names every route, its body and its refusals", async () => {
  const response = await fetch(`${studio.url}/api/v1/openapi/json`);
  const { paths } = (await response.json()) as {
    paths: Record<string, Record<string, { requestBody?: { content: object }; responses: object }>>;
  };
  const routes = Object.entries(paths).flatMap(([path, methods]) =>
    Object.keys(methods).map((method) => `${method} ${path}`),
  );
  expect(routes.sort()).toEqual([
    "delete /api/v1/orgs/{orgId}/databases/{name}",
    "delete /api/v1/orgs/{orgId}/tokens/{tokenId}",
    "get /api/v1/orgs",
    "get /api/v1/orgs/{orgId}",
    "get /api/v1/orgs/{orgId}/databases",
    "get /api/v1/orgs/{orgId}/databases/{name}",
    "get /api/v1/orgs/{orgId}/tokens",
    "get /api/v1/orgs/{orgId}/usage",
    "patch /api/v1/orgs/{orgId}/limits",
    "post /api/v1/orgs",
    "post /api/v1/orgs/{orgId}/databases",
    "post /api/v1/orgs/{orgId}/databases/{name}/suspend",
    "post /api/v1/orgs/{orgId}/databases/{name}/wake",
    "post /api/v1/orgs/{orgId}/resume",
    "post /api/v1/orgs/{orgId}/suspend",
    "post /api/v1/orgs/{orgId}/tokens",
    "put /api/v1/orgs/{orgId}/databases/{name}/networks",
    "put /api/v1/orgs/{orgId}/tier",
  ]);
  const create = paths["/api/v1/orgs"]?.["post"];
  expect(Object.keys(create?.requestBody?.content ?? {})).toContain("application/json");
  expect(Object.keys(create?.responses ?? {})).toEqual(
    expect.arrayContaining(["201", "400", "401"]),
  );
});

test("the log holds neither the operator key nor a token", () => {
  const lines = JSON.stringify(studio.service.lines());
  expect(lines).toContain("request");
  expect(lines).not.toContain(studio.operatorKey);
  expect(lines).not.toMatch(/ogel_[A-Za-z0-9]{20}/);
});

test("a control plane that is away is said to be, without a word of the inside", async () => {
  await using own = await startStudio();
  await own.server.kill();
  expect((await fetch(`${own.url}/healthz`)).status).toBe(503);
  const answer = await own.call("GET", "/orgs");
  expectProblem(answer, 503, "unavailable");
  expect(answer.body.error?.message).not.toContain("/");
  await own.server.restart();
  await until(
    "Studio to be well again",
    async () => (await own.call("GET", "/orgs")).status === 200,
  );
});
