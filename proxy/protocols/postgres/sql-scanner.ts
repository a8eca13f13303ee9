/**
 * Cuts SQL into tokens, in one pass and without copying, as PostgreSQL's own scanner does
 * (`scan.l`) under `standard_conforming_strings`. It knows no grammar: it tells what is a word from
 * what stands in a string or a comment.
 */

export const TOKEN = {
  end: 0,
  /** A keyword or an identifier; `"Quoted"` ones too, quotes included. */
  word: 1,
  /** A string constant of any form, quotes and prefix included. */
  string: 2,
  number: 3,
  /** One character of punctuation or of an operator, or a parameter's `$`. */
  sign: 4,
} as const;

const QUOTE = 0x27;
const DOUBLE_QUOTE = 0x22;
const DOLLAR = 0x24;
const STAR = 0x2a;
const MINUS = 0x2d;
const DOT = 0x2e;
const SLASH = 0x2f;
const BACKSLASH = 0x5c;
const LINE_FEED = 0x0a;
const CARRIAGE_RETURN = 0x0d;
/** A dollar quote's tag: `$$` or `$tag$`. */
const DOLLAR_TAG = /\$(?:[A-Za-z_\x80-\uffff][\w\x80-\uffff]*)?\$/y;

const SPACE = 1;
const LETTER = 2;
const DIGIT = 4;
const CLASSES = classesOfCharacters();

function classesOfCharacters(): Uint8Array {
  const classes = new Uint8Array(256);
  for (const space of [9, 10, 11, 12, 13, 32]) classes[space] = SPACE;
  for (let at = 0x30; at <= 0x39; at++) classes[at] = DIGIT;
  for (let at = 0x41; at <= 0x5a; at++) classes[at] = classes[at + 32] = LETTER;
  for (let at = 0x80; at <= 0xff; at++) classes[at] = LETTER;
  classes[0x5f] = LETTER;
  return classes;
}

function classOf(code: number): number {
  return code < 256 ? (CLASSES[code] as number) : LETTER;
}

export class SqlScanner {
  #text = "";
  /** Where the last token begins and ends. */
  start = 0;
  end = 0;

  /** Begins with another text. */
  read(text: string): this {
    this.#text = text;
    this.start = 0;
    this.end = 0;
    return this;
  }

  /** The last token as it stands in the text. */
  token(): string {
    return this.#text.slice(this.start, this.end);
  }

  /** The last token's first character. */
  get code(): number {
    return this.#text.charCodeAt(this.start);
  }

  /** The last token if it is a word, in lower case and without quotes. */
  get folded(): string {
    const token = this.token();
    return token.startsWith('"') ? token.slice(1, -1).replaceAll('""', '"') : token.toLowerCase();
  }

  /** Goes on to the next token and tells its kind. */
  next(): number {
    const text = this.#text;
    const at = skipBlanks(text, this.end);
    this.start = at;
    if (at >= text.length) {
      this.end = at;
      return TOKEN.end;
    }
    const code = text.charCodeAt(at);
    const kind = classOf(code);
    if (kind === LETTER) return this.#word(code, at);
    if (kind === DIGIT) return this.#number(at);
    switch (code) {
      case QUOTE:
        return this.#string(at, false);
      case DOUBLE_QUOTE:
        this.end = afterQuoted(text, at, DOUBLE_QUOTE, false);
        return TOKEN.word;
      case DOLLAR:
        return this.#dollar(at);
      case DOT:
        if (classOf(text.charCodeAt(at + 1)) === DIGIT) return this.#number(at);
        break;
      default:
        break;
    }
    this.end = at + 1;
    return TOKEN.sign;
  }

  #word(code: number, at: number): number {
    const text = this.#text;
    let end = at + 1;
    while (end < text.length) {
      const next = text.charCodeAt(end);
      if ((classOf(next) & (LETTER | DIGIT)) === 0 && next !== DOLLAR) break;
      end += 1;
    }
    // E'…', B'…', X'…', N'…' and U&'…' are strings with a prefix.
    if (end === at + 1) {
      const letter = code | 32;
      const next = text.charCodeAt(end);
      if (next === QUOTE && "ebxn".includes(String.fromCharCode(letter))) {
        return this.#string(end, letter === 0x65);
      }
      if (letter === 0x75 && next === 0x26 && text.charCodeAt(end + 1) === QUOTE) {
        return this.#string(end + 1, false);
      }
    }
    this.end = end;
    return TOKEN.word;
  }

  #number(at: number): number {
    const text = this.#text;
    let end = at + 1;
    // Exponents and other bases are letters; only a sign after the exponent is not taken with them,
    // and need not be.
    while (end < text.length) {
      const next = text.charCodeAt(end);
      if ((classOf(next) & (LETTER | DIGIT)) === 0 && next !== DOT) break;
      end += 1;
    }
    this.end = end;
    return TOKEN.number;
  }

  #string(quoteAt: number, escapes: boolean): number {
    this.end = afterQuoted(this.#text, quoteAt, QUOTE, escapes);
    return TOKEN.string;
  }

  #dollar(at: number): number {
    const text = this.#text;
    DOLLAR_TAG.lastIndex = at;
    const tag = DOLLAR_TAG.exec(text)?.[0];
    if (tag === undefined) {
      this.end = at + 1;
      return TOKEN.sign;
    }
    const close = text.indexOf(tag, at + tag.length);
    this.end = close < 0 ? text.length : close + tag.length;
    return TOKEN.string;
  }
}

/** Past white space and comments; those between slashes nest. */
function skipBlanks(text: string, from: number): number {
  let at = from;
  for (;;) {
    const code = text.charCodeAt(at);
    if (classOf(code) === SPACE && at < text.length) at += 1;
    else if (code === MINUS && text.charCodeAt(at + 1) === MINUS) at = afterLine(text, at);
    else if (code === SLASH && text.charCodeAt(at + 1) === STAR) at = afterComment(text, at);
    else return at;
  }
}

function afterLine(text: string, from: number): number {
  for (let at = from; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === LINE_FEED || code === CARRIAGE_RETURN) return at;
  }
  return text.length;
}

function afterComment(text: string, from: number): number {
  let depth = 0;
  for (let at = from; at < text.length; at++) {
    const code = text.charCodeAt(at);
    const next = text.charCodeAt(at + 1);
    if (code === SLASH && next === STAR) {
      depth += 1;
      at += 1;
    } else if (code === STAR && next === SLASH) {
      depth -= 1;
      at += 1;
      if (depth === 0) return at + 1;
    }
  }
  return text.length;
}

/** Behind the quote that closes the one at `from`; a doubled one does not. */
function afterQuoted(text: string, from: number, quote: number, escapes: boolean): number {
  for (let at = from + 1; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (escapes && code === BACKSLASH) at += 1;
    else if (code === quote) {
      if (text.charCodeAt(at + 1) !== quote) return at + 1;
      at += 1;
    }
  }
  return text.length;
}

/** What a string constant says, or null where it is written with escapes. */
export function constantText(token: string): string | null {
  if (token.startsWith("'")) return token.slice(1, -1).replaceAll("''", "'");
  if (token.startsWith("$")) {
    const tagEnd = token.indexOf("$", 1) + 1;
    return token.slice(tagEnd, -tagEnd);
  }
  const escaped = /^[eEnN]'([^\\]*)'$/.exec(token)?.[1];
  return escaped?.replaceAll("''", "'") ?? null;
}
