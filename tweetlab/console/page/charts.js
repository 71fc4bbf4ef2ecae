// Time series charts, drawn as SVG once a second. A gap in the data is a gap in the line.

import { el, svg } from "./dom.js";

const WIDTH = 560;
const HEIGHT = 210;
const LEFT = 52;
const RIGHT = 12;
const TOP = 8;
const BOTTOM = 24;
const SPANS_S = [60, 120, 300]; // the shortest span that holds all points
const GAP_MS = 4_000;

function niceTop(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return power * [1, 1.5, 2, 3, 4, 5, 8, 10].find((step) => step * power >= value);
}

const linear = (values, least) => {
  const top = niceTop(Math.max(least, ...values) * 1.05);
  return { at: (value) => 1 - Math.min(1, value / top), ticks: [0, top / 2, top] };
};

const logarithmic = (values) => {
  const low = 10 ** Math.floor(Math.log10(Math.max(0.1, Math.min(...values, 10))));
  const high = Math.max(low * 100, 10 ** Math.ceil(Math.log10(Math.max(...values, 10))));
  const ticks = [];
  for (let tick = low; tick <= high * 1.01; tick *= 10) ticks.push(tick);
  const span = Math.log10(high / low);
  return { at: (value) => 1 - Math.min(1, Math.max(0, Math.log10(value / low) / span)), ticks };
};

/**
 * One chart. `series`: [{ name, css, of(point), dashed, area }]; `stacked`: stacked areas; `log`: logarithmic axis.
 * `write(value)`: a value as text, `axis` the same on the axis; `least`: minimum upper end of the axis.
 */
export class Chart {
  constructor({ title, note, series, write, axis = write, stacked = false, log = false, least = 0 }) {
    Object.assign(this, { series, write, axis, stacked, log, least });
    this.legend = el("p", { class: "legend" });
    this.readout = el("p", { class: "readout soft small" }, note);
    this.note = note;
    this.svg = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" });
    this.title = title;
    this.root = el("figure", {}, el("figcaption", {}, el("h3", {}, title), this.readout), this.legend, this.svg);
    this.chosen = null;
    this.svg.addEventListener("pointermove", (event) => {
      const box = this.svg.getBoundingClientRect();
      this.chosen = ((event.clientX - box.left) / box.width) * WIDTH;
      this.read();
    });
    this.svg.addEventListener("pointerleave", () => { this.chosen = null; this.read(); });
  }

  x(t) {
    return LEFT + (1 - (this.now - t) / this.span) * (WIDTH - LEFT - RIGHT);
  }

  y(scale, value) {
    return TOP + scale.at(value) * (HEIGHT - TOP - BOTTOM);
  }

  /** Draw `points` (oldest first); `faults`: [{ kind, began_ms, ended_ms, state }]; `bound`: { value, text } or null. */
  draw(points, now, faults = [], bound = null) {
    this.now = now;
    const known_s = (now - (points[0]?.t ?? now)) / 1000;
    this.span = 1000 * (SPANS_S.find((span) => span >= known_s) ?? SPANS_S.at(-1));
    this.points = points.filter((point) => point.t > now - this.span);
    const shown = this.series.filter((one) => this.points.some((point) => Number.isFinite(one.of(point))));
    const rows = this.points.map((point) => this.values(point, shown));
    const all = rows.flatMap((row) => row.tops).filter(Number.isFinite);
    if (bound) all.push(bound.value);
    const scale = this.log ? logarithmic(all.filter((value) => value > 0)) : linear(all, this.least);
    const parts = [this.grid(scale), ...this.marks(faults)];
    if (!this.points.length) parts.push(svg("text", { class: "empty", x: (LEFT + WIDTH) / 2, y: HEIGHT / 2, "text-anchor": "middle" }, "No data yet"));
    shown.forEach((one, index) => parts.push(...this.line(one, index, rows, scale)));
    if (bound) {
      const y = this.y(scale, bound.value);
      parts.push(svg("line", { class: "bound", x1: LEFT, x2: WIDTH - RIGHT, y1: y, y2: y }));
      parts.push(svg("text", { class: "word", x: LEFT + 4, y: y - 4 }, bound.text));
    }
    this.svg.replaceChildren(...parts);
    const names = shown.map((one) => one.name).join();
    if (names !== this.names) {
      this.names = names;
      this.legend.replaceChildren(...shown.map((one) => el("span", {}, el("i", { class: `${one.css} ${one.dashed ? "dashed" : ""}` }), one.name)));
    }
    this.shown = shown;
    this.read();
  }

  values(point, shown) {
    let sum = 0;
    const tops = shown.map((one) => {
      const value = one.of(point);
      if (!this.stacked) return value;
      sum += Number.isFinite(value) ? value : 0;
      return sum;
    });
    return { t: point.t, tops };
  }

  grid(scale) {
    const group = svg("g", {});
    for (const tick of scale.ticks) {
      const y = this.y(scale, tick);
      group.append(svg("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y, y2: y }),
        svg("text", { x: LEFT - 7, y: y + 4, "text-anchor": "end" }, this.axis(tick)));
    }
    const step = this.span <= 60_000 ? 15 : this.span <= 120_000 ? 30 : 60;
    for (let ago = this.span / 1000; ago >= 0; ago -= step) {
      const anchor = ago === 0 ? "end" : ago * 1000 === this.span ? "start" : "middle";
      const words = ago === 0 ? "now" : step < 60 ? `−${ago} s` : `−${ago / 60} min`;
      group.append(svg("text", { x: this.x(this.now - ago * 1000), y: HEIGHT - 6, "text-anchor": anchor }, words));
    }
    return group;
  }

  marks(faults) {
    return faults.filter((fault) => fault.began_ms > this.now - this.span).flatMap((fault) => {
      const from = this.x(fault.began_ms);
      const to = this.x(fault.state === "active" ? this.now : Math.min(fault.ended_ms, this.now));
      return [svg("rect", { class: "fault", x: from, y: TOP, width: Math.max(1.5, to - from), height: HEIGHT - TOP - BOTTOM }),
        from > WIDTH * 0.8 ? svg("text", { class: "fault-word", x: from - 4, y: TOP + 11, "text-anchor": "end" }, fault.kind)
          : svg("text", { class: "fault-word", x: from + 4, y: TOP + 11 }, fault.kind)];
    });
  }

  line(one, index, rows, scale) {
    const runs = [];
    let last = -Infinity;
    for (const row of rows) {
      const value = row.tops[index];
      if (!Number.isFinite(value) || (this.log && value <= 0)) continue;
      if (row.t - last > GAP_MS) runs.push([]);
      const below = index > 0 && this.stacked ? row.tops[index - 1] : 0;
      runs.at(-1).push([this.x(row.t).toFixed(1), this.y(scale, value).toFixed(1), this.log ? 0 : this.y(scale, below).toFixed(1)]);
      last = row.t;
    }
    const drawn = runs.filter((run) => run.length);
    const path = (run) => `M${run.map(([x, y]) => `${x} ${y}`).join("L")}`;
    const parts = [];
    if (this.stacked || one.area) {
      const areas = drawn.map((run) => `${path(run)}L${run.toReversed().map(([x, , base]) => `${x} ${base}`).join("L")}Z`).join("");
      parts.push(svg("path", { class: `area ${one.css} ${one.area && !this.stacked ? "faint" : ""}`, d: areas }));
    }
    if (!this.stacked) parts.push(svg("path", { class: `line ${one.css} ${one.dashed ? "dashed" : ""}`, d: drawn.map(path).join("") }));
    return parts;
  }

  /** Show the values under the pointer; without a pointer, describe the newest ones for screen readers. */
  read() {
    if (!this.points?.length) return;
    const wanted = this.chosen === null ? this.now : this.now - (1 - (this.chosen - LEFT) / (WIDTH - LEFT - RIGHT)) * this.span;
    const near = this.points.reduce((best, point) => (Math.abs(point.t - wanted) < Math.abs(best.t - wanted) ? point : best));
    const values = this.shown.map((one) => [one.name, one.of(near)]).filter(([, value]) => Number.isFinite(value))
      .map(([name, value]) => `${name} ${this.write(value)}`).join(" · ");
    const ago = Math.round((this.now - near.t) / 1000);
    this.readout.textContent = this.chosen === null ? this.note : `${ago < 2 ? "now" : `${ago} s ago`}: ${values}`;
    this.svg.querySelector(".cursor")?.remove();
    if (this.chosen !== null) {
      const x = this.x(near.t);
      this.svg.append(svg("line", { class: "cursor", x1: x, x2: x, y1: TOP, y2: HEIGHT - BOTTOM }));
    } else {
      this.svg.setAttribute("aria-label", `${this.title}; now: ${values || "no data"}`);
    }
  }
}
