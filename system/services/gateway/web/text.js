// Counts a text as the service does (system/kernel/text): a URL 23, an emoji 2, other characters 1 or 2.
// The tables are the service's own: /web/text-rules.json.

export const MAX_WEIGHT = 280;
const URL_WEIGHT = 23;
const EMOJI_WEIGHT = 2;
const MAX_LABEL = 63;
const MAX_URL = 4096;
const MAX_SLUG = 40;
const MAX_JOINED = 4;

const INVALID = "\ufffe\ufeff\uffff";
const SPACES = "\\t-\\r \\x85\\xa0\\u1680\\u180e\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000";
const DIRECTIONAL = "\\u061c\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069";
const LATIN = "À-ÖØ-öø-\\u024f\\u0253\\u0254\\u0256\\u0257\\u0259\\u025b\\u0263\\u0268\\u026f\\u0272\\u0289\\u028b\\u02bb" +
  "\\u0300-\\u036f\\u1e00-\\u1eff";
const CYRILLIC = "\\u0400-\\u04ff";
const PUNCTUATION = "\\-_!\"#%&'()*+,./:;<=>?@\\[\\\\\\]^`{|}~$";
const PLAIN = `A-Za-z${CYRILLIC}0-9!*';:=+,.$/%#\\[\\]\\-\\u2013_~@|&${LATIN}`;

const HEAVY = /[^\u0000-\u10ff\u2000-\u200d\u2010-\u201f\u2032-\u2037]/u;
const INVALID_CHAR = new RegExp(`[${INVALID}]`, "u");
const NOT_BEFORE = new RegExp(`[A-Za-z0-9@＠$#＃${INVALID}]`, "u");
const NOT_BEFORE_BARE = new RegExp(`[A-Za-z0-9@＠$#＃${INVALID}\\-_./]`, "u");
const PROTOCOL = /https?:\/\//gi;
const HOST_CHAR = `[^${PUNCTUATION}${SPACES}${INVALID}${DIRECTIONAL}]`;
const HOST = new RegExp(`${HOST_CHAR}(?:${HOST_CHAR}|[\\-_.])*`, "yu");
const BARE = new RegExp(`[A-Za-z0-9${LATIN}][A-Za-z0-9${LATIN}\\-_.]*`, "gu");
const TOP = /[A-Za-z]+/y;
const PUNYCODE = /xn--[-0-9a-z]+/iy;
const NOT_AFTER_TOP = /[0-9A-Za-z@+\-]/;
const PORT = /:[0-9]+/y;
const PATH_RUN = new RegExp(`[${PLAIN}]+`, "yu");
const PARENTHESES = new RegExp(`\\([${PLAIN}]*(?:\\([${PLAIN}]+\\)[${PLAIN}]*)?\\)`, "yu");
const PATH_END = new RegExp(`[A-Za-z${CYRILLIC}0-9=_#/+\\-${LATIN}]`, "u");
const QUERY_RUN = /[A-Za-z0-9!?*'@();:&=+$/%#[\]\-_.,~|]+/y;
const QUERY_END = /[A-Za-z0-9\-_&=#/]/;
const SHORT = /https?:\/\/t\.co\/([A-Za-z0-9]+)/iy;

let domains = new Set();
let domainsByChar = new Map();
let emoji = /(?!)/gu;

/** Fetch the tables. Until then a text without URLs and emoji is counted right. */
export async function load() {
  const response = await fetch("/web/text-rules.json");
  if (!response.ok) throw new Error(`The rules of texts could not be read (${response.status}); reload the page.`);
  use(await response.json());
}

/** Use these tables. */
export function use(rules) {
  domains = new Set(rules.domains);
  domainsByChar = new Map();
  for (const name of rules.domains.filter((one) => /[^\x00-\x7f]/.test(one)).sort((a, b) => b.length - a.length)) {
    domainsByChar.set(name[0], [...(domainsByChar.get(name[0]) ?? []), name]);
  }
  emoji = new RegExp(emojiPattern(rules), "gu");
}

function emojiPattern(rules) {
  const tones = "\\u{1f3fb}-\\u{1f3ff}";
  const set = (ranges) => ranges.filter(([first]) => first !== 0xa9 && first !== 0xae)
    .map(([first, last]) => `\\u{${first.toString(16)}}-\\u{${last.toString(16)}}`).join("");
  const tags = (name) => [...name].map((char) => String.fromCodePoint(char.charCodeAt(0) + 0xe0000)).join("");
  const flag = (name) => [...name].map((char) => String.fromCodePoint(char.charCodeAt(0) - 65 + 0x1f1e6)).join("");
  const element = `(?:[${set(rules.toned)}][${tones}]|[${set(rules.emoji)}]|[©®](?=\\ufe0f))\\ufe0f?`;
  return `[0-9#*]\\ufe0f?\\u20e3|${rules.flags.map(flag).join("|")}|\\u{1f3f4}(?:${rules.regions.map(tags).join("|")})\\u{e007f}|` +
    `${element}(?:\\u200d${element}){0,${MAX_JOINED - 1}}`;
}

/** Return whether a text holds a code point that no tweet may hold. */
export const hasInvalid = (text) => INVALID_CHAR.test(text) || text.includes("\0");

/** Return what a text counts. */
export function weight(text) {
  const composed = text.normalize("NFC");
  let total = 0;
  let rest = "";
  let end = 0;
  for (const [start, stop] of urls(composed)) {
    rest += `${composed.slice(end, start)}\n`;
    total += URL_WEIGHT - 1;
    end = stop;
  }
  rest += composed.slice(end);
  const without = rest.replace(emoji, () => {
    total += EMOJI_WEIGHT;
    return "";
  });
  for (const char of without) total += HEAVY.test(char) ? 2 : 1;
  return total;
}

/** Return [start, end] of each URL, in UTF-16 units. */
function urls(text) {
  if (!text.includes(".")) return [];
  const found = [];
  let end = 0;
  for (const match of text.matchAll(PROTOCOL)) {
    if (match.index < end) continue;
    found.push(...bare(text, end, match.index));
    end = withProtocol(text, match, found, end);
  }
  found.push(...bare(text, end, text.length));
  return found;
}

/** Return the match of a sticky expression at `at`, as its end; -1 if there is none. */
function endAt(expression, text, at) {
  expression.lastIndex = at;
  return expression.test(text) ? expression.lastIndex : -1;
}

/** Return the character that ends before `at`: a surrogate pair is one. */
const before = (text, at) => [...text.slice(Math.max(0, at - 2), at)].at(-1) ?? "";

function withProtocol(text, match, found, end) {
  const start = match.index;
  if (start && NOT_BEFORE.test(before(text, start))) return Math.max(end, start);
  const begin = start + match[0].length;
  const hostEnd = endAt(HOST, text, begin);
  const stop = hostEnd < 0 ? -1 : domainEnd(text, begin, text.slice(0, hostEnd).lastIndexOf("."));
  if (stop < 0) return Math.max(end, start);
  const port = endAt(PORT, text, stop);
  const after = port < 0 ? stop : port;
  let ended = queryEnd(text, text[after] === "/" ? pathEnd(text, after) : after);
  SHORT.lastIndex = start;
  const short = SHORT.exec(text);
  if (short) {
    if (short[1].length > MAX_SLUG) return ended;
    ended = queryEnd(text, start + short[0].length);
  }
  if (isValid(text.slice(begin, stop), ended - start)) found.push([start, ended]);
  return ended;
}

function bare(text, begin, stop) {
  const found = [];
  let at = begin;
  const part = text.slice(0, stop);
  BARE.lastIndex = begin;
  for (let match = BARE.exec(part); match; match = BARE.exec(part)) {
    const start = match.index;
    const last = match[0].lastIndexOf(".");
    if (start < at || last < 0 || (start && NOT_BEFORE_BARE.test(before(text, start)))) continue;
    let end = domainEnd(text, start, start + last);
    if (end < 0) continue;
    const domain = text.slice(start, end);
    const port = endAt(PORT, text, end);
    const after = port < 0 ? end : port;
    if (text[after] === "/") end = queryEnd(text, pathEnd(text, after));
    if (isValid(domain, end - start)) found.push([start, end]);
    at = end;
  }
  return found;
}

function domainEnd(text, start, lastDot) {
  const validTo = validLabels(text, start, lastDot);
  for (let dot = lastDot; dot > start; dot = text.lastIndexOf(".", dot - 1)) {
    if (dot > validTo) continue;
    const end = topEnd(text, dot + 1);
    const name = text.slice(Math.max(start, text.lastIndexOf(".", dot - 1) + 1), dot);
    if (end >= 0 && !name.includes("_")) return end;
  }
  return -1;
}

function validLabels(text, start, dot) {
  let begin = start;
  for (const label of text.slice(start, dot).split(".")) {
    if (!label || "-_".includes(label[0]) || "-_".includes(label.at(-1))) return begin - 1;
    begin += label.length + 1;
  }
  return dot;
}

function topEnd(text, start) {
  const punycode = endAt(PUNYCODE, text, start);
  if (punycode >= 0) return punycode;
  const free = (end) => !NOT_AFTER_TOP.test(text[end] ?? "");
  for (const name of domainsByChar.get((text[start] ?? "").toLowerCase()) ?? []) {
    const end = start + name.length;
    if (text.slice(start, end).toLowerCase() === name && free(end)) return end;
  }
  const end = endAt(TOP, text, start);
  return end >= 0 && domains.has(text.slice(start, end).toLowerCase()) && free(end) ? end : -1;
}

function pathEnd(text, start) {
  let at = start;
  let end = start;
  for (;;) {
    const run = endAt(PATH_RUN, text, at);
    if (run >= 0) {
      let last = run;
      while (last > at && !PATH_END.test(text[last - 1])) last -= 1;
      if (last > at) end = last;
      at = run;
      continue;
    }
    const balanced = endAt(PARENTHESES, text, at);
    if (balanced < 0) return end;
    at = balanced;
    end = balanced;
  }
}

function queryEnd(text, start) {
  if (text[start] !== "?") return start;
  let end = endAt(QUERY_RUN, text, start + 1);
  while (end > start + 1 && !QUERY_END.test(text[end - 1])) end -= 1;
  return end > start + 1 ? end : start;
}

function isValid(domain, length) {
  if (length > MAX_URL) return false;
  let added = 0;
  for (const label of domain.split(".")) {
    const ascii = /^[\x00-\x7f]*$/.test(label);
    if (!ascii && label.toLowerCase().startsWith("xn--")) return false;
    const size = ascii ? label.length : 4 + punycodeLength(label.toLowerCase());
    if (size > MAX_LABEL) return false;
    added += size - label.length;
  }
  return length + added <= MAX_URL;
}

/** Return the length of the punycode of a label (RFC 3492). */
function punycodeLength(label) {
  const codes = [...label].map((char) => char.codePointAt(0));
  const basic = codes.filter((code) => code < 128).length;
  let size = basic + (basic ? 1 : 0);
  let code = 128;
  let delta = 0;
  let bias = 72;
  for (let done = basic; done < codes.length; delta += 1, code += 1) {
    const next = Math.min(...codes.filter((one) => one >= code));
    delta += (next - code) * (done + 1);
    code = next;
    for (const one of codes) {
      if (one < code) delta += 1;
      if (one !== code) continue;
      let rest = delta;
      for (let base = 36; ; base += 36) {
        const limit = base <= bias ? 1 : base >= bias + 26 ? 26 : base - bias;
        size += 1;
        if (rest < limit) break;
        rest = Math.floor((rest - limit) / (36 - limit));
      }
      bias = adapt(delta, done + 1, done === basic);
      delta = 0;
      done += 1;
    }
  }
  return size;
}

function adapt(delta, points, first) {
  let rest = Math.floor(delta / (first ? 700 : 2));
  rest += Math.floor(rest / points);
  let base = 0;
  for (; rest > 455; base += 36) rest = Math.floor(rest / 35);
  return base + Math.floor((36 * rest) / (rest + 38));
}
