// Builds elements. Text from users only becomes text nodes; nothing here turns text into HTML.

const SVG = "http://www.w3.org/2000/svg";

const ICONS = {
  home: "M4 11 12 4l8 7v8a1 1 0 0 1-1 1h-4v-6H9v6H5a1 1 0 0 1-1-1z",
  search: "M10.5 4a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13zM15.5 15.5 20 20",
  person: "M12 4a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM4.5 20c.8-3.6 3.7-5.5 7.5-5.5s6.7 1.9 7.5 5.5",
  requests: "M9 5a3.5 3.5 0 1 0 0 7 3.5 3.5 0 0 0 0-7zM2.5 19c.7-3 3-4.6 6.5-4.6s5.8 1.6 6.5 4.6M16.5 11l2 2 3.5-4",
  leave: "M10 4H6a2 2 0 0 0-2 2v12a2 2 0 0 0 2 2h4M15 8l4 4-4 4M19 12H9",
  heart: "M12 20S4 15.2 4 9.6A4.3 4.3 0 0 1 12 7.3a4.3 4.3 0 0 1 8 2.3C20 15.2 12 20 12 20z",
  reply: "M20 11.5c0 4-3.6 7-8 7a9 9 0 0 1-3-.5L4.5 20l1-3.6A6.6 6.6 0 0 1 4 11.5c0-4 3.6-7 8-7s8 3 8 7z",
  trash: "M5 7h14M10 7V4.5h4V7M7 7l.8 12.5h8.4L17 7M10.5 10.5v5.5M13.5 10.5v5.5",
  picture: "M5 5h14a1 1 0 0 1 1 1v12a1 1 0 0 1-1 1H5a1 1 0 0 1-1-1V6a1 1 0 0 1 1-1zM4.5 16.5l4.5-4.5 3.5 3.5 3-3 4 4M15.5 8.5h.01",
  lock: "M7 11h10a1 1 0 0 1 1 1v7a1 1 0 0 1-1 1H7a1 1 0 0 1-1-1v-7a1 1 0 0 1 1-1zM8.5 11V8a3.5 3.5 0 0 1 7 0v3",
  back: "M19 12H5M11 6l-6 6 6 6",
  close: "M6 6l12 12M18 6 6 18",
};

/** Return a new element. `props`: attributes; `on…` are listeners; false, null and undefined are left out. */
export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name in node && typeof value !== "string") node[name] = value;
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** Return an icon from ICONS, hidden from screen readers: its button has the label. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  for (const [key, value] of Object.entries({ viewBox: "0 0 24 24", class: "icon", "aria-hidden": "true" })) svg.setAttribute(key, value);
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

/** Return the address of a search; of a profile for a single @name. */
export const addressOf = (words) =>
  /^@[A-Za-z0-9_]{1,15}$/.test(words) ? `#/u/${words.slice(1)}` : `#/search/${encodeURIComponent(words)}`;

/** Return the nodes of a tweet's text: text, and links for the entities, whose positions count code points. */
export function linked(text, entities = {}) {
  const chars = [...text];
  const found = Object.entries(entities).flatMap(([kind, list]) => list.map((entity) => ({ kind, ...entity })));
  const nodes = [];
  let end = 0;
  for (const entity of found.sort((a, b) => a.start - b.start)) {
    nodes.push(chars.slice(end, entity.start).join(""), linkOf(entity, chars.slice(entity.start, entity.end).join("")));
    end = entity.end;
  }
  return [...nodes, chars.slice(end).join("")];
}

function linkOf(entity, shown) {
  if (entity.kind === "mentions") return el("a", { href: `#/u/${encodeURIComponent(entity.username)}` }, shown);
  if (entity.kind !== "urls") return el("a", { href: `#/search/${encodeURIComponent(shown)}` }, shown);
  if (!/^https?:/i.test(entity.expanded_url) || !URL.canParse(entity.expanded_url)) return shown;
  return el("a", { href: entity.expanded_url, rel: "noopener noreferrer nofollow", target: "_blank" }, shown);
}

const STEPS = [[60, "second"], [3600, "minute"], [86400, "hour"], [604800, "day"]];
const AGO = new Intl.RelativeTimeFormat("en", { numeric: "auto", style: "narrow" });
const DAY = new Intl.DateTimeFormat("en", { dateStyle: "medium" });
const FULL = new Intl.DateTimeFormat("en", { dateStyle: "medium", timeStyle: "short" });

/** Return a <time>: relative for a week, then the date; the full time is its title. */
export function when(iso) {
  const then = new Date(iso);
  const ago = Math.max(0, (Date.now() - then.getTime()) / 1000);
  let label = DAY.format(then);
  let unit = 1;
  for (const [limit, name] of STEPS) {
    if (ago < limit) {
      label = ago < 10 ? "now" : AGO.format(-Math.floor(ago / unit), name);
      break;
    }
    unit = limit;
  }
  return el("time", { datetime: iso, title: FULL.format(then) }, label);
}

const COUNT = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

/** Return a count in compact form: 999, 1.2K. */
export const count = (value) => COUNT.format(value);

/** Return the avatar of a user: the first letter of the name on one of eight colors. */
export function avatar(user, size = "") {
  const letter = [...(user.name || user.username || "?").trim()][0] || "?";
  return el("span", { class: `avatar ${size} a${Number(BigInt(user.id || 0) % 8n)}`, "aria-hidden": "true" }, letter.toUpperCase());
}

let hiding = 0;

/** Show a message for some seconds; screen readers announce it. */
export function notify(text, bad = false) {
  const toast = document.getElementById("toast");
  toast.textContent = text;
  toast.classList.toggle("bad", bad);
  toast.classList.add("shown");
  clearTimeout(hiding);
  hiding = setTimeout(() => toast.classList.remove("shown"), 5000);
}

/** Run `work` while `button` is busy and return its result; an error is shown, and undefined returned. */
export async function busy(button, work) {
  if (button.getAttribute("aria-busy") === "true") return undefined;
  button.setAttribute("aria-busy", "true");
  try {
    return await work();
  } catch (problem) {
    notify(problem.message, true);
    return undefined;
  } finally {
    button.removeAttribute("aria-busy");
  }
}
