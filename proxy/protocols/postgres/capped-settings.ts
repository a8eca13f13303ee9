/**
 * Settings of a session that its tier caps. Connections to servers start with them, where they
 * stand above what a tenant has set for its role or database; a visible attempt to set one above
 * its cap is refused.
 *
 * A timeout of 0 means that the server keeps none. That is let through, because dumps and restores
 * begin with it, and because O7s keeps the tier's time limits itself.
 */
import type { Tenant } from "../../../platform/tenants.ts";
import type { TierLimits } from "../../../platform/tiers.ts";
import { type Denial, settingAboveTier } from "../../denial.ts";
import { constantText, SqlScanner, TOKEN } from "./sql-scanner.ts";

type CappedSetting = {
  /** Bytes, or milliseconds. */
  readonly cap: (limits: TierLimits) => number;
  /**
   * The value of a text in the setting's own syntax, in bytes or milliseconds; null where it has
   * none.
   */
  readonly parse: (text: string) => number | null;
  /** A cap in that syntax, which is for people too. */
  readonly format: (value: number) => string;
};

const MEMORY_UNITS: Readonly<Record<string, number>> = {
  B: 1,
  "": 1_024, // The setting's own unit is the kilobyte.
  kB: 1_024,
  MB: 1_048_576,
  GB: 1_073_741_824,
  TB: 1_099_511_627_776,
};

const TIME_UNITS: Readonly<Record<string, number>> = {
  us: 0.001,
  "": 1,
  ms: 1,
  s: 1_000,
  min: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

/**
 * PostgreSQL documentation, "Parameter Names and Values": a number, and a unit that may follow
 * after a space.
 */
const VALUE =
  /^\s*([+-]?(?:0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?))\s*([A-Za-z]*)\s*$/;

function parserOf(units: Readonly<Record<string, number>>): (text: string) => number | null {
  return (text) => {
    const match = VALUE.exec(text);
    const unit = match === null ? undefined : units[match[2] ?? ""];
    return match === null || unit === undefined ? null : Number(match[1]) * unit;
  };
}

function formatterOf(
  units: Readonly<Record<string, number>>,
  names: readonly string[],
): (value: number) => string {
  return (value) => {
    const name = names.find((candidate) => value % (units[candidate] ?? 1) === 0) ?? "";
    return `${value / (units[name] ?? 1)}${name}`;
  };
}

const parseTime = parserOf(TIME_UNITS);
const formatTime = formatterOf(TIME_UNITS, ["h", "min", "s", "ms"]);

const CAPPED: ReadonlyMap<string, CappedSetting> = new Map([
  [
    "work_mem",
    {
      cap: (limits: TierLimits) => limits.workMemBytes,
      parse: parserOf(MEMORY_UNITS),
      format: formatterOf(MEMORY_UNITS, ["GB", "MB", "kB"]),
    },
  ],
  [
    "statement_timeout",
    {
      cap: (limits: TierLimits) => limits.statementTimeoutMs,
      parse: parseTime,
      format: formatTime,
    },
  ],
  [
    "idle_in_transaction_session_timeout",
    {
      cap: (limits: TierLimits) => limits.idleInTransactionTimeoutMs,
      parse: parseTime,
      format: formatTime,
    },
  ],
]);

/** Tells in one pass which texts are worth a closer look. */
const SUSPICIOUS = /work_mem|statement_timeout|idle_in_transaction_session_timeout/i;

/**
 * Why `text`, which a client wants to run or to prepare, is not run: it sets something above the
 * tier's cap.
 */
export function settingRefusal(text: string, tenant: Tenant): Denial | null {
  if (!SUSPICIOUS.test(text)) return null;
  for (const [name, value] of settingsIn(text)) {
    const refusal = refusalOf(name, value, tenant);
    if (refusal !== null) return refusal;
  }
  return null;
}

/** The same for what a client asks for when it logs in. */
export function startupRefusal(
  parameters: ReadonlyMap<string, string>,
  tenant: Tenant,
): Denial | null {
  for (const [name, value] of startupSettings(parameters)) {
    const refusal = refusalOf(name, value, tenant);
    if (refusal !== null) return refusal;
  }
  return null;
}

/**
 * What a connection to a server is started with: the client's own startup parameters, and each
 * capped setting as the client wants it, or at its cap where it wants nothing or, after a change of
 * tier, too much.
 */
export function startupParameters(
  parameters: ReadonlyMap<string, string>,
  limits: TierLimits,
): ReadonlyMap<string, string> {
  const wanted = startupSettings(parameters);
  const started = new Map<string, string>();
  for (const [name, value] of parameters) {
    if (!CAPPED.has(name.toLowerCase())) started.set(name, value);
  }
  // Named by themselves they stand above `options`, whatever those hold and however it is written.
  for (const [name, setting] of CAPPED) {
    const value = wanted.get(name);
    const cap = setting.cap(limits);
    const tooMuch = value === undefined || (setting.parse(value) ?? 0) > cap;
    started.set(name, tooMuch ? setting.format(cap) : value);
  }
  return started;
}

/**
 * What of a tier's limits the servers' connections were started with, to be compared when the tier
 * changes.
 */
export function settingsKey(limits: TierLimits): string {
  return [...CAPPED.values()].map((setting) => setting.cap(limits)).join(" ");
}

function refusalOf(name: string, value: string, tenant: Tenant): Denial | null {
  const setting = CAPPED.get(name);
  if (setting === undefined) return null;
  const cap = setting.cap(tenant.limits);
  // What is no value at all is the server's to refuse.
  if ((setting.parse(value) ?? 0) <= cap) return null;
  return settingAboveTier(tenant, name, value, setting.format(cap));
}

/**
 * The capped settings among startup parameters, by name; the parameters themselves stand above
 * `options`.
 */
function startupSettings(parameters: ReadonlyMap<string, string>): ReadonlyMap<string, string> {
  const wanted = new Map<string, string>();
  for (const [name, value] of optionSettings(parameters.get("options") ?? "")) {
    if (CAPPED.has(name)) wanted.set(name, value);
  }
  for (const [name, value] of parameters) {
    if (CAPPED.has(name.toLowerCase())) wanted.set(name.toLowerCase(), value);
  }
  return wanted;
}

/**
 * `-c name=value`, `--name=value` and `-S kilobytes` in the order in which they stand. Source:
 * `pg_split_opts` and `process_postgres_switches`: words are parted by spaces, a backslash keeps
 * what follows it.
 */
function* optionSettings(options: string): Generator<readonly [string, string]> {
  const words = (options.match(/(?:\\[\s\S]|[^\s\\])+/g) ?? []).map((word) =>
    word.replace(/\\([\s\S])/g, "$1"),
  );
  for (let at = 0; at < words.length; at++) {
    const word = words[at] ?? "";
    const flag = word.slice(0, 2);
    if (flag !== "--" && flag !== "-c" && flag !== "-S") continue;
    const rest = word.length > 2 || flag === "--" ? word.slice(2) : (words[++at] ?? "");
    if (flag === "-S") {
      yield ["work_mem", rest];
      continue;
    }
    const equals = rest.indexOf("=");
    if (equals < 0) continue;
    const name = rest.slice(0, equals).replaceAll("-", "_").toLowerCase();
    yield [name, rest.slice(equals + 1)];
  }
}

/**
 * Every `SET name = constant` that begins a statement, and every `set_config('name', 'constant'`.
 */
function* settingsIn(text: string): Generator<readonly [string, string]> {
  const scanner = new SqlScanner().read(text);
  let begins = true;
  for (let kind = scanner.next(); kind !== TOKEN.end; kind = scanner.next()) {
    const word = kind === TOKEN.word ? scanner.folded : "";
    if (word === "set_config") {
      const set = setConfig(scanner);
      if (set !== null) yield set;
    } else if (begins && word === "set") {
      const set = setStatement(scanner);
      if (set !== null) yield set;
    }
    begins = scanner.token() === ";";
  }
}

function setStatement(scanner: SqlScanner): readonly [string, string] | null {
  let kind = scanner.next();
  if (kind === TOKEN.word && /^(?:session|local)$/i.test(scanner.token())) kind = scanner.next();
  if (kind !== TOKEN.word) return null;
  const name = scanner.folded.toLowerCase();
  kind = scanner.next();
  if (scanner.token() !== "=" && scanner.token().toLowerCase() !== "to") return null;
  kind = scanner.next();
  if (scanner.token() === "+") kind = scanner.next();
  if (kind === TOKEN.number) return [name, scanner.token()];
  const value = kind === TOKEN.string ? constantText(scanner.token()) : null;
  return value === null ? null : [name, value];
}

function setConfig(scanner: SqlScanner): readonly [string, string] | null {
  scanner.next();
  if (scanner.token() !== "(") return null;
  const name = scanner.next() === TOKEN.string ? constantText(scanner.token()) : null;
  scanner.next();
  if (name === null || scanner.token() !== ",") return null;
  const value = scanner.next() === TOKEN.string ? constantText(scanner.token()) : null;
  return value === null ? null : [name.toLowerCase(), value];
}
