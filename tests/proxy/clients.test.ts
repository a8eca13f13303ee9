/** Unmodified clients, as tenants use them. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { SQL } from "bun";
import pg from "pg";
import postgres from "postgres";
import { startPlatform, type TestOrg, type TestPlatform } from "../support/platform.ts";
import { type Finished, isInstalled, run } from "../support/programs.ts";

let platform: TestPlatform;
let org: TestOrg;
const scratch = mkdtempSync(path.join(tmpdir(), "ogel-clients-"));

beforeAll(async () => {
  platform = await startPlatform();
  org = await platform.createOrg("ENTERPRISE", { limitQps: 1_000_000 });
  await platform.createDatabase(org, "app");
}, 60_000);

afterAll(async () => {
  await platform[Symbol.asyncDispose]();
  rmSync(scratch, { recursive: true, force: true });
}, 60_000);

function psql(script: string, ...options: string[]): Promise<Finished> {
  const url = platform.url(org, "app");
  return run(["psql", "-X", "-q", "-A", "-t", ...options, url], { input: script });
}

describe.skipIf(!isInstalled("psql"))("psql", () => {
  test("runs what it would run on a direct connection", async () => {
    const { stdout, stderr, exitCode } = await psql(`
      CREATE TABLE item (id int PRIMARY KEY, name text NOT NULL);
      BEGIN; INSERT INTO item VALUES (1, 'one'), (2, 'zwei'); COMMIT;
      BEGIN; DELETE FROM item; ROLLBACK;
      SELECT * FROM item ORDER BY id;
    `);
    expect(stderr).toBe("");
    expect(stdout).toBe("1|one\n2|zwei\n");
    expect(exitCode).toBe(0);
  });

  test("shows its own queries' answers, as \\d does", async () => {
    const { stdout } = await psql(`
      CREATE TABLE shown (id int PRIMARY KEY, at timestamptz DEFAULT now());
      \\pset tuples_only off
      \\d shown
      \\conninfo
    `);
    expect(stdout).toContain("id|integer||not null|");
    expect(stdout).toContain('"shown_pkey" PRIMARY KEY, btree (id)');
    expect(stdout).toContain("SSL");
  });

  test("copies files in and out, whole and in error", async () => {
    const file = path.join(scratch, "rows.csv");
    const lines = Array.from({ length: 20_000 }, (_, n) => `${n},row ${n}\n`).join("");
    writeFileSync(file, lines);
    const copied = await psql(`
      CREATE TABLE copied (id int, name text);
      \\copy copied FROM '${file}' CSV
      SELECT count(*), max(name) FROM copied;
      \\copy (SELECT * FROM copied ORDER BY id) TO '${file}.out' CSV
    `);
    expect(copied.stderr).toBe("");
    expect(copied.stdout).toBe("20000|row 9999\n");
    expect(readFileSync(`${file}.out`, "utf8")).toBe(lines);

    writeFileSync(file, "1,one\nnot a number,two\n");
    const failed = await psql(`\\copy copied FROM '${file}' CSV\nSELECT count(*) FROM copied;`);
    expect(failed.stderr).toContain('invalid input syntax for type integer: "not a number"');
    expect(failed.stderr).toContain("copied, line 2, column id");
    expect(failed.stdout).toBe("20000\n");
  });

  test("points at the place of an error, and goes on behind it", async () => {
    const { stdout, stderr } = await psql("SELECT 1,\n  nonsense;\nSELECT 2;");
    expect(stderr).toBe(
      'ERROR:  column "nonsense" does not exist\nLINE 2:   nonsense;\n          ^\n',
    );
    expect(stdout).toBe("2\n");
  });

  test("shows notices, warnings and notifications", async () => {
    const { stdout, stderr } = await psql(`
      DO $$ BEGIN RAISE NOTICE 'hello %', 'you'; END $$;
      ROLLBACK;
      LISTEN news; NOTIFY news, 'extra'; SELECT 1;
    `);
    expect(stderr).toContain("NOTICE:  hello you\n");
    expect(stderr).toContain("WARNING:  there is no transaction in progress\n");
    expect(stdout).toContain(
      'Asynchronous notification "news" with payload "extra" received from server process with PID',
    );
  });

  test("gets all replies to several statements in one message", async () => {
    const url = platform.url(org, "app");
    const three = "SELECT 1; SELECT 2 WHERE false; SELECT 3";
    const done = await run(["psql", "-X", "-A", "-t", "-c", three, url]);
    expect(done.stdout).toBe("1\n3\n");
    const broken = await run([
      "psql",
      "-X",
      "-A",
      "-t",
      "-c",
      "SELECT 1; SELECT 1/0; SELECT 3",
      url,
    ]);
    expect(broken.stdout).toBe("1\n");
    expect(broken.stderr).toBe("ERROR:  division by zero\n");
  });

  test("takes large results row by row", async () => {
    const { stdout } = await psql("SELECT n, repeat('x', 200) FROM generate_series(1, 50000) n;");
    expect(stdout.length).toBe(50_000 * 202 + 238_894);
    expect(stdout.endsWith(`50000|${"x".repeat(200)}\n`)).toBe(true);
  });

  test("is told by \\c that there is no other org's database", async () => {
    const other = await platform.createOrg("FREE");
    await platform.createDatabase(other, "theirs");
    const { stderr } = await psql("\\c theirs\n");
    expect(stderr).toContain('FATAL:  database "theirs" does not exist');
  });
});

describe("postgres.js", () => {
  test("pipelines prepared statements over a pool", async () => {
    const sql = postgres(platform.url(org, "app"), { max: 5 });
    const answers = await Promise.all(
      Array.from({ length: 200 }, (_, n) => sql<{ n: number }[]>`SELECT ${n}::int AS n`),
    );
    expect(answers.map(([row]) => row?.n)).toEqual(Array.from({ length: 200 }, (_, n) => n));
    await sql.end();
  });

  test("keeps transactions, savepoints and errors apart", async () => {
    const sql = postgres(platform.url(org, "app"), { max: 2 });
    await sql`CREATE TABLE kept (id int UNIQUE)`;
    await sql.begin(async (tx) => {
      await tx`INSERT INTO kept VALUES (1)`;
      const refused = tx.savepoint((point) => point`INSERT INTO kept VALUES (1)`);
      await refused.then(
        () => {
          throw new Error("accepted twice");
        },
        (error: postgres.PostgresError) => {
          expect(error.code).toBe("23505");
          expect(error.constraint_name).toBe("kept_id_key");
        },
      );
      await tx`INSERT INTO kept VALUES (2)`;
    });
    expect((await sql`SELECT id FROM kept ORDER BY id`).map((row) => row["id"])).toEqual([1, 2]);
    await sql.end();
  });

  test("hears notifications from another connection", async () => {
    const sql = postgres(platform.url(org, "app"), { max: 1 });
    const heard = Promise.withResolvers<string>();
    const { unlisten } = await sql.listen("jobs", heard.resolve);
    await sql.notify("jobs", "payload");
    expect(await heard.promise).toBe("payload");
    await unlisten();
    await sql.end();
  });

  test("reads through a cursor, and copies as streams", async () => {
    const sql = postgres(platform.url(org, "app"), { max: 1 });
    let rows = 0;
    await sql`SELECT generate_series(1, 1000)`.cursor(64, (chunk) => {
      rows += chunk.length;
    });
    expect(rows).toBe(1_000);
    await sql`CREATE TABLE streamed (a int)`;
    const writable = await sql`COPY streamed FROM STDIN`.writable();
    for (let n = 0; n < 1_000; n++) writable.write(`${n}\n`);
    await new Promise<void>((resolve, reject) => {
      writable.on("error", reject);
      writable.on("finish", resolve);
      writable.end();
    });
    const [sum] = await sql`SELECT sum(a)::int AS sum FROM streamed`;
    expect(sum?.["sum"]).toBe(499_500);
    await sql.end();
  });
});

describe("pg", () => {
  test("binds parameters, names statements and reads every type it knows", async () => {
    const client = new pg.Client({ connectionString: platform.url(org, "app") });
    await client.connect();
    const at = new Date("2026-11-22T12:00:00Z");
    for (let time = 0; time < 3; time++) {
      const { rows } = await client.query({
        name: "typed",
        text: "SELECT $1::int AS a, $2::text AS b, $3::timestamptz AS c, $4::jsonb AS d, $5::bytea AS e",
        values: [time, "ü", at, { deep: [1] }, Buffer.from([0, 255])],
      });
      expect(rows).toEqual([
        { a: time, b: "ü", c: at, d: { deep: [1] }, e: Buffer.from([0, 255]) },
      ]);
    }
    await client.end();
  });

  test("sends its startup parameters through to the server", async () => {
    const client = new pg.Client({
      connectionString: platform.url(org, "app"),
      application_name: "reporting",
      statement_timeout: 4_321,
      options: "-c search_path=elsewhere -c TimeZone=Asia/Tokyo",
    });
    await client.connect();
    const show = async (name: string): Promise<string> =>
      (await client.query(`SHOW ${name}`)).rows[0][name];
    expect(await show("application_name")).toBe("reporting");
    expect(await show("statement_timeout")).toBe("4321ms");
    expect(await show("search_path")).toBe("elsewhere");
    expect((await client.query("SHOW TimeZone")).rows[0]["TimeZone"]).toBe("Asia/Tokyo");
    await client.end();
  });

  test("is told word for word what is wrong with a startup parameter", async () => {
    const client = new pg.Client({
      connectionString: platform.url(org, "app"),
      options: "-c no_such_setting=1",
    });
    client.on("error", () => {});
    const error = await client.connect().then(
      () => null,
      (refusal: pg.DatabaseError) => refusal,
    );
    expect(error?.code).toBe("42704");
    expect(error?.message).toBe('unrecognized configuration parameter "no_such_setting"');
  });

  test("cancels nothing but its own by a statement timeout of its own", async () => {
    const client = new pg.Client({
      connectionString: platform.url(org, "app"),
      statement_timeout: 50,
    });
    await client.connect();
    const error = await client.query("SELECT pg_sleep(30)").then(
      () => null,
      (refusal: pg.DatabaseError) => refusal,
    );
    expect(error?.code).toBe("57014");
    expect(error?.message).toBe("canceling statement due to statement timeout");
    expect((await client.query("SELECT 1 AS a")).rows).toEqual([{ a: 1 }]);
    await client.end();
  });
});

describe("Bun's SQL client", () => {
  test("queries, and begins transactions", async () => {
    const sql = new SQL({ url: platform.url(org, "app"), max: 3 });
    await sql`CREATE TABLE of_bun (id int, name text)`;
    await sql.begin(async (tx) => {
      await tx`INSERT INTO of_bun VALUES (${1}, ${"eins"})`;
      await tx`INSERT INTO of_bun VALUES (${2}, ${"zwei"})`;
    });
    const rows: { id: number; name: string }[] = await sql`SELECT * FROM of_bun ORDER BY id`;
    expect(rows.map((row) => `${row.id} ${row.name}`)).toEqual(["1 eins", "2 zwei"]);
    const error = await sql`SELECT * FROM missing`.then(
      () => null,
      (refusal: Error & { errno?: string }) => refusal,
    );
    expect(error?.message).toContain('relation "missing" does not exist');
    await sql.close();
  });
});

describe.skipIf(!isInstalled("pgbench"))("pgbench", () => {
  test("fills its tables and runs in every query mode without a failed transaction", async () => {
    const url = platform.url(org, "app");
    const filled = await run(["pgbench", "-i", "-q", "-s", "1", url]);
    expect(filled.exitCode).toBe(0);
    for (const mode of ["simple", "extended", "prepared"]) {
      const { stdout, exitCode } = await run([
        "pgbench",
        "-n",
        "-M",
        mode,
        "-c",
        "4",
        "-t",
        "20",
        url,
      ]);
      expect(exitCode).toBe(0);
      expect(stdout).toContain("number of transactions actually processed: 80/80");
      expect(stdout).toContain("number of failed transactions: 0 (0.000%)");
    }
  }, 60_000);
});
