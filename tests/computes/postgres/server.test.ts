import { expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, writeFileSync } from "node:fs";
import postgres from "postgres";
import { parseAdminServer } from "../../../platform/endpoints.ts";
import { identifyProcess } from "../../../platform/process-identity.ts";
import { startPostgres, type TestPostgres } from "../../support/postgres-server.ts";

setDefaultTimeout(60_000);

function connect(server: TestPostgres, password?: string): postgres.Sql & AsyncDisposable {
  const admin = parseAdminServer(server.adminUrl);
  const sql = postgres({
    host: server.socketDirectory,
    port: server.port,
    username: admin?.user ?? "",
    password: password ?? admin?.password ?? "",
    database: "postgres",
    max: 1,
  });
  return Object.assign(sql, { [Symbol.asyncDispose]: () => sql.end() });
}

test("a server takes queries as soon as its start resolves, in UTF-8 and without a superuser to guess", async () => {
  await using server = await startPostgres();
  await using sql = connect(server);
  const [row] = await sql`select current_setting('server_encoding') as encoding, version()`;
  expect(row?.["encoding"]).toBe("UTF8");
  expect(row?.["version"]).toStartWith("PostgreSQL 18");
});

test("a wrong password is refused on the socket too", async () => {
  await using server = await startPostgres();
  await using sql = connect(server, "wrong");
  expect(
    sql`select 1`.then(
      () => "connected",
      (error) => error.code,
    ),
  ).resolves.toBe("28P01");
});

test("what was committed is there after a kill and a restart", async () => {
  await using server = await startPostgres({ settings: { fsync: "on", synchronous_commit: "on" } });
  {
    await using sql = connect(server);
    await sql`create table kept as select 42 as answer`;
  }
  await server.kill();
  await server.restart();
  await using sql = connect(server);
  expect(await sql`select answer from kept`).toEqual([{ answer: 42 }] as never);
});

test("stopping leaves neither a process nor files", async () => {
  const server = await startPostgres();
  const pid = server.pid;
  expect(identifyProcess(pid)).not.toBeNull();
  await server.stop();
  expect(identifyProcess(pid)).toBeNull();
  expect(existsSync(server.dataDirectory)).toBe(false);
});

test("a lock file whose pid now belongs to another process does not keep a server from starting", async () => {
  await using server = await startPostgres();
  await server.kill();
  writeFileSync(`${server.dataDirectory}/postmaster.pid`, `${process.pid}\n`);
  await server.restart();
  await using sql = connect(server);
  expect(await sql`select 1 as one`).toEqual([{ one: 1 }] as never);
});
