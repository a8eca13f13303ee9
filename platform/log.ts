/**
 * Structured logging: one JSON object per line, so that a machine can read it and a person can grep
 * it. Secrets are never passed in: there is no redaction to rely on.
 */

export type LogLevel = "debug" | "info" | "warn" | "error";
export type LogFields = Readonly<Record<string, string | number | boolean | null | undefined>>;

export type Log = {
  debug(event: string, fields?: LogFields): void;
  info(event: string, fields?: LogFields): void;
  warn(event: string, fields?: LogFields): void;
  error(event: string, fields?: LogFields): void;
};

const LEVELS: readonly LogLevel[] = ["debug", "info", "warn", "error"];

export function parseLogLevel(text: string): LogLevel | null {
  return (LEVELS as readonly string[]).includes(text) ? (text as LogLevel) : null;
}

/** `write` takes one line without its newline; `now` is in milliseconds since the epoch. */
export function createLog(options: {
  service: string;
  level: LogLevel;
  write: (line: string) => void;
  now?: () => number;
}): Log {
  const now = options.now ?? Date.now;
  const threshold = LEVELS.indexOf(options.level);
  const at =
    (level: LogLevel) =>
    (event: string, fields: LogFields = {}): void => {
      if (LEVELS.indexOf(level) < threshold) return;
      const time = new Date(now()).toISOString();
      options.write(JSON.stringify({ time, level, service: options.service, event, ...fields }));
    };
  return { debug: at("debug"), info: at("info"), warn: at("warn"), error: at("error") };
}

/** A log that keeps nothing, for tests and tools. */
export const silentLog: Log = { debug() {}, info() {}, warn() {}, error() {} };
