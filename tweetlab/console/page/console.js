// Receives the stream of frames and renders each. When the stream breaks, the browser reconnects by itself, once a second.

import { Chart } from "./charts.js";
import { axisTime, byId, duration, el, ms, rate, text } from "./dom.js";
import { Flow } from "./flow.js";
import * as panels from "./panels.js";

const KEPT = 310;
const LATE_MS = 4000; // without a frame for this long, the page is stale
const WORDS = { healthy: "healthy", impaired: "impaired", starting: "starting", down: "the lab is down" };

const number = (name) => (point) => point[name] ?? NaN;
const cores = (role) => (point) => point.cpu?.[role] ?? NaN;
const share = (point) => Math.max(0, point.host - Object.values(point.cpu ?? {}).reduce((sum, value) => sum + value, 0));

const charts = {
  latency: new Chart({ title: "Latency", note: "Milliseconds. At the client from the intended start; at the gateway from request arrival.", log: true, write: (value) => `${ms(value)} ms`, axis: axisTime, series: [
    { name: "p50 at the client", css: "c1", of: number("c50") }, { name: "p99 at the client", css: "c2", of: number("c99") },
    { name: "p50 at the gateway", css: "c3", dashed: true, of: number("p50") }, { name: "p99 at the gateway", css: "c5", dashed: true, of: number("p99") }] }),
  load: new Chart({ title: "Load", note: "Requests per second at the load balancer.", least: 5, write: rate, series: [
    { name: "requests", css: "c1", area: true, of: number("rate") }, { name: "planned", css: "c8", dashed: true, of: number("planned") },
    { name: "errors", css: "bad", of: number("errors") }] }),
  cpu: new Chart({ title: "CPU", note: "Cores in use, by kind of process.", stacked: true, least: 0.5, write: (value) => value.toFixed(value < 10 ? 1 : 0), series: [
    { name: "stores", css: "c1", of: cores("store") }, { name: "services", css: "c3", of: cores("service") }, { name: "mesh", css: "c5", of: cores("mesh") },
    { name: "observability", css: "c4", of: cores("observer") }, { name: "generator and others", css: "c8", of: share }] }),
  lag: new Chart({ title: "Queues", note: "Consumer lag: records that a worker has not read from Kafka yet.", least: 10, write: rate, series: [] }),
};
byId("charts").append(...Object.values(charts).map((chart) => chart.root));

let points = [];
let frame = null;
let receivedAt = 0;

const flow = new Flow(byId("flow"), (kind) => open(frame.nodes.find((node) => node.kind === kind && !node.healthy)?.name ?? frame.nodes.find((node) => node.kind === kind).name));

async function open(name) {
  const node = frame.nodes.find((node) => node.name === name);
  if (!node) return;
  text(byId("detail-head"), `${name}: ${node.healthy ? "healthy" : node.state === "healthy" ? "unhealthy" : node.state}`);
  const facts = { Health: node.health, Address: node.address, PID: node.pid || "none", Uptime: node.pid ? duration((frame.t - node.started_at * 1000) / 1000) : "–",
    CPU: node.cores === null ? "–" : `${(node.cores * 100).toFixed(1)} % of a core`, Memory: `${node.rss_mib} MiB`, Restarts: node.restarts, "Auto-heal": node.auto_heal ? "on" : "off", ...(node.place ? (node.place.startsWith("zone") ? { Zone: node.zone } : { Region: node.place }) : {}) };
  byId("detail-facts").replaceChildren(...Object.entries(facts).flatMap(([key, value]) => [el("dt", {}, key), el("dd", {}, String(value))]));
  const log = byId("detail-log");
  log.textContent = "…";
  byId("detail").showModal();
  try {
    log.textContent = await (await fetch(`/logs/${encodeURIComponent(name)}`)).text();
  } catch {
    log.textContent = "The console is not responding.";
  }
  log.scrollTop = log.scrollHeight;
}

byId("detail").addEventListener("click", (event) => { if (event.target === byId("detail")) byId("detail").close(); });

function drawCharts(now) {
  const groups = Object.keys(frame.lags).sort();
  charts.lag.series = groups.map((name, index) => ({ name, css: `c${index + 1}`, of: (point) => point.lag?.[name] ?? NaN }));
  const objective = frame.load?.phase === "loading" ? frame.load.objectives.find((row) => row.metric === "p99") : null;
  const bound = objective ? { value: objective.bound * 1000, text: objective.text } : null;
  for (const [name, chart] of Object.entries(charts)) chart.draw(points, now, name === "cpu" ? [] : frame.faults, name === "latency" ? bound : null);
}

function banner(words) {
  const node = byId("banner");
  node.hidden = !words;
  text(node, words);
}

function state(word, css) {
  text(byId("state").firstChild, word);
  byId("state").className = `pill ${css}`;
  document.body.classList.toggle("old", css === "lost");
}

function show() {
  state(WORDS[frame.state], frame.state);
  document.title = `${frame.state === "healthy" ? "" : `${WORDS[frame.state]} · `}Tweetlab console`;
  text(byId("where"), `range ${frame.range} · ${new Date(frame.t).toLocaleTimeString("en-GB")}`);
  banner(frame.state === "down" ? "No lab is running in this range. `tweetlab up --seed` starts one; this page then connects by itself." : "");
  panels.links(frame.links);
  panels.tiles(frame);
  panels.load(frame.load);
  document.body.classList.toggle("down", frame.state === "down");
  flow.draw(frame.nodes, frame.hops, frame.lags, frame.load);
  drawCharts(frame.t);
  panels.zones(frame.nodes, frame.active, open);
  panels.lines(frame.lines);
  panels.nodes(frame.nodes, open);
  panels.hops(frame.hops, new Map(frame.nodes.map((node) => [node.kind, node.title])));
  panels.routes(frame.traffic.routes);
  panels.caches(frame.caches);
  panels.breakers(frame.breakers);
  panels.faults(frame.faults, frame.t);
  panels.alerts(frame.alerts, frame.observed, frame.t);
  panels.runs(frame.runs);
}

// Seconds of the load before this page was opened, as points of the charts.
function pointsOf(past) {
  const known = new Set(past.points.map((point) => Math.round(point.t / 1000)));
  const early = past.ticks.map((tick) => ({ t: past.started_ms + (tick.t_s + 1) * 1000, rate: tick.sent, errors: tick.fail, planned: tick.planned,
    c50: tick.routes.all?.p50, c99: tick.routes.all?.p99 }));
  return [...early.filter((point) => !known.has(Math.round(point.t / 1000))), ...past.points].sort((a, b) => a.t - b.t);
}

const stream = new EventSource("/events");
stream.addEventListener("past", (event) => { points = pointsOf(JSON.parse(event.data)); });
stream.addEventListener("frame", (event) => {
  receivedAt = Date.now();
  const next = JSON.parse(event.data);
  if (next.t !== frame?.t && next.t > (points.at(-1)?.t ?? 0)) points.push(next.point);
  points = points.slice(-KEPT);
  frame = next;
  show();
});
setInterval(() => {
  if (receivedAt && Date.now() - receivedAt > LATE_MS) {
    state("not responding", "lost");
    banner(`The console has not answered for ${duration((Date.now() - receivedAt) / 1000)}. Is \`tweetlab console\` still running? This page reconnects by itself.`);
  }
}, 1000);
