// Builds elements and formats numbers. Data from the lab only ever becomes text, never markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

export const el = (tag, props = {}, ...children) => fill(document.createElement(tag), props, children);
export const svg = (tag, props = {}, ...children) => fill(document.createElementNS(SVG, tag), props, children);
export const byId = (id) => document.getElementById(id);

/** Replace the children of a node only if `key` changed, so that selection and focus are kept. */
export function put(node, key, make) {
  if (node.dataset.key === key) return;
  node.dataset.key = key;
  node.replaceChildren(...[make()].flat());
}

export function text(node, value) {
  if (node.textContent !== value) node.textContent = value;
}

/** 0, 0.4, 12.3, 1,234 */
export function rate(value) {
  if (value === null || value === undefined) return "–";
  if (value >= 100) return Math.round(value).toLocaleString("en");
  return value === 0 ? "0" : value < 0.05 ? "<0.1" : value.toFixed(1);
}

/** 0.84, 4.2, 87, 1,230 (milliseconds) */
export function ms(value) {
  if (value === null || value === undefined) return "–";
  return value >= 100 ? Math.round(value).toLocaleString("en") : value >= 10 ? value.toFixed(0) : value >= 1 ? value.toFixed(1) : value.toFixed(2);
}

/** A time in ms on an axis: 1 ms, 100 ms, 1 s */
export const axisTime = (value) => (value >= 1000 ? `${(value / 1000).toLocaleString("en")} s` : `${ms(value).replace(".0", "")} ms`);

export function duration(seconds) {
  const total = Math.max(0, Math.round(seconds));
  if (total < 60) return `${total} s`;
  if (total < 3600) return `${Math.floor(total / 60)} min ${total % 60} s`;
  return `${Math.floor(total / 3600)} h ${Math.floor((total % 3600) / 60)} min`;
}
