/**
 * Reading configuration from environment variables. A reader notes every fault and `finish` reports
 * them all at once, so that a misconfigured service is put right in one go.
 */

export type Environment = Readonly<Record<string, string | undefined>>;

/** Thrown by `finish`; its message is meant for the person who starts the service. */
export class ConfigurationError extends Error {
  readonly faults: readonly string[];

  constructor(service: string, faults: readonly string[]) {
    const list = faults.map((fault) => `  ${fault}`).join("\n");
    super(`${service} cannot start, its configuration has faults:\n${list}`);
    this.name = "ConfigurationError";
    this.faults = faults;
  }
}

export class EnvironmentReader {
  readonly #environment: Environment;
  readonly #service: string;
  readonly #faults: string[] = [];

  constructor(service: string, environment: Environment) {
    this.#service = service;
    this.#environment = environment;
  }

  /** A variable that must be set; `meaning` says what it holds when it is missing. */
  required(name: string, meaning: string): string {
    const value = this.optional(name);
    if (value === null) this.fault(name, `is not set. It holds ${meaning}.`);
    return value ?? "";
  }

  /** Unset and empty mean the same. */
  optional(name: string): string | null {
    const value = this.#environment[name]?.trim();
    return value === undefined || value === "" ? null : value;
  }

  integer(name: string, fallback: number, range: { min: number; max: number }): number {
    const text = this.optional(name);
    if (text === null) return fallback;
    const value = /^-?\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
    if (value >= range.min && value <= range.max) return value;
    this.fault(name, `must be a whole number from ${range.min} to ${range.max}, not "${text}".`);
    return fallback;
  }

  port(name: string, fallback: number): number {
    return this.integer(name, fallback, { min: 0, max: 65_535 });
  }

  flag(name: string, fallback: boolean): boolean {
    const text = this.optional(name)?.toLowerCase();
    if (text === undefined) return fallback;
    if (["1", "true", "yes", "on"].includes(text)) return true;
    if (["0", "false", "no", "off"].includes(text)) return false;
    this.fault(name, `must be true or false, not "${text}".`);
    return fallback;
  }

  /** A value with a parser of its own; `rule` completes the sentence "NAME must be …". */
  parsed<T>(name: string, meaning: string, rule: string, parse: (text: string) => T | null): T {
    const text = this.required(name, meaning);
    const value = text === "" ? null : parse(text);
    // The value itself may be a secret: it is not repeated.
    if (value === null && text !== "") this.fault(name, `must be ${rule}.`);
    return value as T;
  }

  fault(name: string, sentence: string): void {
    this.#faults.push(`${name} ${sentence}`);
  }

  /** To be called before any value that was read is used. */
  finish(): void {
    if (this.#faults.length > 0) throw new ConfigurationError(this.#service, this.#faults);
  }
}
