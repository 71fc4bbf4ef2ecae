// The data flow as boxes and hops. Boxes are elements in lanes; hops are lines behind them, positioned by the boxes.
// The lines are deliberately not animated: an animation would take CPU from the lab that it shows.

import { el, ms, rate, svg, text } from "./dom.js";

const LANES = [["edge", "Edge"], ["services", "Services"], ["stores", "Stores and events"], ["workers", "Workers"], ["quorum", "Consensus"], ["watch", "Observability"]];
const CLIENTS = { name: "clients", kind: "clients", title: "Clients", lane: "edge", what: "browsers, the load generator", healthy: true, virtual: true };

export class Flow {
  /** `open(kind)` is called when a box is clicked. */
  constructor(root, open) {
    this.root = root;
    this.open = open;
    this.boxes = new Map();
    this.lines = svg("svg", { class: "hops", "aria-hidden": "true" });
    this.lanes = new Map(LANES.map(([name, title]) => [name, el("div", { class: `lane ${name}` }, el("h3", {}, title))]));
    root.append(this.lines, ...this.lanes.values());
    new ResizeObserver(() => this.connect()).observe(root);
  }

  draw(nodes, hops, lags, load) {
    const kinds = new Map([["clients", [CLIENTS]]]);
    for (const node of nodes) kinds.set(node.kind, [...(kinds.get(node.kind) ?? []), node]);
    this.hops = hops.filter((hop) => kinds.has(hop.source) && kinds.has(hop.target));
    const signature = [...kinds.keys()].join();
    if (signature !== this.signature) {
      this.signature = signature;
      this.build(kinds);
    }
    for (const [kind, members] of kinds) this.show(kind, members, lags, load);
    this.connect();
  }

  build(kinds) {
    this.boxes.clear();
    for (const [name, lane] of this.lanes) {
      lane.replaceChildren(lane.firstChild);
      const boxes = [...kinds].filter(([, members]) => (this.lanes.has(members[0].lane) ? members[0].lane : "watch") === name);
      boxes.sort(([a], [b]) => ORDER.indexOf(a) - ORDER.indexOf(b));
      lane.hidden = !boxes.length;
      for (const [kind, members] of boxes) lane.append(this.box(kind, members[0]));
    }
  }

  box(kind, node) {
    const parts = { dots: el("span", { class: "dots" }), main: el("span", { class: "main" }), more: el("span", { class: "more" }) };
    const root = el(node.virtual ? "div" : "button", { class: "box", type: node.virtual ? null : "button", "data-kind": kind },
      el("span", { class: "name" }, el("b", {}, node.title), parts.dots), el("span", { class: "what" }, node.what), parts.main, parts.more);
    if (!node.virtual) root.addEventListener("click", () => this.open(kind));
    for (const event of ["pointerenter", "focus"]) root.addEventListener(event, () => this.choose(kind));
    for (const event of ["pointerleave", "blur"]) root.addEventListener(event, () => this.choose(null));
    this.boxes.set(kind, { root, ...parts });
    return root;
  }

  choose(kind) {
    this.chosen = kind;
    this.connect();
  }

  show(kind, members, lags, load) {
    const box = this.boxes.get(kind);
    const into = this.hops.filter((hop) => hop.target === kind);
    const sum = into.reduce((total, hop) => total + hop.rate, 0);
    const errors = into.reduce((total, hop) => total + hop.errors, 0);
    const p99 = Math.max(...into.map((hop) => hop.p99_ms ?? -1));
    const sick = members.filter((node) => !node.healthy);
    if (box.dots.childElementCount !== members.length) box.dots.replaceChildren(...members.map(() => el("i", {})));
    members.forEach((node, index) => {
      box.dots.children[index].title = node.place ? `${node.name}, ${node.place}` : node.name;
      box.dots.children[index].className = node.virtual ? "idle" : node.healthy ? "healthy" : node.state === "starting" ? "waits" : "sick";
    });
    box.root.classList.toggle("sick", sick.length === members.length);
    box.root.classList.toggle("part", sick.length > 0 && sick.length < members.length);
    if (kind === "clients") {
      const out = this.hops.filter((hop) => hop.source === kind).reduce((total, hop) => total + hop.rate, 0);
      text(box.main, `${rate(out)}/s`);
      text(box.more, load?.phase === "loading" ? `load of ${load.scenario}` : "");
      return;
    }
    const queues = Object.entries(lags).filter(([group]) => group === kind || group.startsWith(`${kind}-`)).map(([, value]) => value);
    const lag = queues.length ? queues.reduce((total, value) => total + value, 0) : undefined;
    text(box.main, sick.length === members.length ? members[0].state : into.length ? `${rate(sum)}/s` : "");
    text(box.more, [errors > 0 ? `${rate(errors)} errors/s` : "", p99 >= 0 && sum > 0 ? `p99 ${ms(p99)} ms` : "", lag === undefined ? "" : `lag ${rate(lag)}`,
      `${Math.round(100 * members.reduce((total, node) => total + (node.cores ?? 0), 0))} % CPU`].filter(Boolean).join(" · "));
    const label = `${members[0].title}: ${members.length - sick.length} of ${members.length} healthy; ${box.main.textContent} ${box.more.textContent}. Show log and metrics.`;
    if (box.root.getAttribute("aria-label") !== label) box.root.setAttribute("aria-label", label);
  }

  /** Draw the hops between the boxes at their current positions. On a phone the lanes are stacked and no lines are drawn. */
  connect() {
    if (!this.hops || getComputedStyle(this.lines).display === "none") return;
    const frame = this.root.getBoundingClientRect();
    this.lines.setAttribute("viewBox", `0 0 ${frame.width} ${frame.height}`);
    const places = new Map([...this.boxes].map(([kind, { root }]) => {
      const box = root.getBoundingClientRect();
      return [kind, { left: box.left - frame.left, right: box.right - frame.left, top: box.top - frame.top, bottom: box.bottom - frame.top }];
    }));
    const parts = [];
    for (const hop of this.hops) {
      const [from, to] = [places.get(hop.source), places.get(hop.target)];
      if (!from || !to) continue;
      const mine = this.chosen === null || this.chosen === undefined || hop.source === this.chosen || hop.target === this.chosen;
      const state = hop.errors > 0 ? "bad" : hop.rate > 0 ? "busy" : "idle";
      const line = curve(from, to);
      parts.push(svg("path", { class: `hop ${state} ${mine ? "" : "dim"}`, d: line.d, "stroke-width": hop.rate > 0 ? Math.min(7, 1.4 + Math.log10(1 + hop.rate) * 1.9) : 1 }));
      if (this.chosen && mine && (hop.rate > 0 || hop.errors > 0)) {
        const words = `${rate(hop.rate)}/s${hop.p99_ms === null || hop.p99_ms === undefined ? "" : `, p99 ${ms(hop.p99_ms)} ms`}`;
        parts.push(svg("text", { class: "hop-word", x: line.x, y: line.y }, words));
      }
    }
    this.lines.replaceChildren(...parts);
  }
}

const ORDER = ["pdns", "nginx", "clients", "haproxy", "gateway", "limits", "timelines", "tweets", "users", "likes", "search", "media", "redis", "cassandra", "kafka",
  "postgres", "elasticsearch", "minio", "fanout", "relay", "liker", "indexer", "etcd", "sentinel"];

function curve(from, to) {
  const middle = (box) => (box.top + box.bottom) / 2;
  if (Math.abs(from.left - to.left) < 10) {
    const x = (from.left + from.right) / 2;
    const [a, b] = from.top < to.top ? [from.bottom, to.top] : [from.top, to.bottom];
    return { d: `M${x} ${a}L${x} ${b}`, x: x + 6, y: (a + b) / 2 + 4 };
  }
  const [x1, x2] = from.left < to.left ? [from.right, to.left] : [from.left, to.right];
  const [y1, y2] = [middle(from), middle(to)];
  const bend = (x2 - x1) / 2;
  return { d: `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`, x: (x1 + x2) / 2, y: (y1 + y2) / 2 - 3 };
}
