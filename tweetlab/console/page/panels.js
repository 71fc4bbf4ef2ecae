// The tables and cards beside the charts: tiles, the load, processes, hops, routes, faults, alerts, runs.

import { byId, duration, el, ms, put, rate, text } from "./dom.js";

const TILES = [
  ["rate", "requests a second"], ["errors", "errors a second"], ["p50", "median"], ["p99", "99th percentile"],
  ["cpu", "cores busy"], ["memory", "memory of the lab"], ["lag", "records waiting in Kafka"],
];

/** Figures of now. Times are the client's where a load runs, else those at the gateway. */
export function tiles(frame) {
  const root = byId("tiles");
  if (!root.childElementCount) {
    for (const [name, words] of TILES) root.append(el("div", { class: "tile", "data-name": name }, el("b", {}, "–"), el("span", {}, words)));
  }
  const { traffic, nodes, lags, host, load } = frame;
  const pooled = load?.phase === "loading" ? load.tick?.routes.all : null;
  const place = pooled ? "at the client" : "at the gateway";
  const lag = Object.values(lags);
  const told = {
    rate: rate(traffic.rate), errors: rate(traffic.errors), p50: `${ms(pooled ? pooled.p50 : traffic.p50_ms)} ms`,
    p99: `${ms(pooled ? pooled.p99 : traffic.p99_ms)} ms`, cpu: `${host.busy.toFixed(2)} of ${host.cores}`,
    memory: `${(nodes.reduce((sum, node) => sum + node.rss_mib, 0) / 1024).toFixed(2)} GiB`,
    lag: lag.length ? rate(lag.reduce((sum, value) => sum + value, 0)) : "–",
  };
  for (const tile of root.children) {
    const name = tile.dataset.name;
    text(tile.firstChild, frame.state === "down" ? "–" : told[name].replace(/^– ms$/, "–"));
    tile.classList.toggle("bad", name === "errors" && traffic.errors > 0);
    if (name === "p50" || name === "p99") text(tile.lastChild, `${name === "p50" ? "median" : "99th percentile"} ${place}`);
  }
}

const PHASES = { warming: "warming the caches", loading: "under load", checking: "load over, checking what it left", over: "finished", broken: "broken off" };

/** The load that runs: question, progress with its faults, and this second. One that is over is told no more. */
export function load(told) {
  const root = byId("load");
  root.hidden = !told || !["warming", "loading", "checking"].includes(told.phase);
  if (root.hidden) return;
  put(root, `${told.scenario}:${told.started_ms}:${told.phase}`, () => {
    const marks = told.faults.map((fault) => {
      const mark = el("i", { title: `${fault.kind} of ${fault.target || "a node it picks"} at ${fault.at_s} s` });
      mark.style.left = `${(100 * fault.at_s) / told.load_s}%`;
      return mark;
    });
    const bar = el("div", { class: "progress", role: "progressbar", "aria-label": "Progress of the load", "aria-valuemin": 0, "aria-valuemax": told.load_s }, el("span", {}), ...marks);
    return [el("p", { class: "kicker" }, el("b", {}, told.scenario), el("span", { class: `chip ${told.phase}` }, PHASES[told.phase]), el("span", { class: "soft clock" })),
      el("p", { class: "question" }, told.question), bar, el("p", { class: "second soft small" })];
  });
  const bar = root.querySelector(".progress");
  bar.setAttribute("aria-valuenow", Math.round(told.past_s));
  bar.firstChild.style.width = `${Math.min(100, (100 * told.past_s) / told.load_s)}%`;
  text(root.querySelector(".clock"), `${duration(told.past_s)} of ${duration(told.load_s)}`);
  const tick = told.tick;
  const sum = tick?.so_far;
  text(root.querySelector(".second"), tick ? `Operations so far: ${sum.planned} planned, ${sum.sent} sent, ${sum.finished} finished `
    + `(${sum.ok} ok, ${sum.fail + sum.info} failed or unknown), ${tick.in_flight} in flight${sum.unsent ? `, ${sum.unsent} not sent` : ""}; ${sum.requests} HTTP requests; the generator sends at most ${tick.start_lag_ms_p99.toFixed(1)} ms late (p99) on ${Math.round(100 * tick.cpu_share)} % of a core.` : "");
}

function cell(words, css = "") {
  return el("td", css ? { class: css } : {}, words);
}

/** Rows of a table, made once for each key and then filled: what is selected or focused stays. */
function rows(body, keys, make, fill) {
  put(body, keys.join("|"), () => keys.map(make));
  keys.forEach((key, index) => fill(body.children[index], key));
}

export function nodes(unsorted, open) {
  const list = [...unsorted].sort((a, b) => (a.zone || 99) - (b.zone || 99));
  const by = new Map(list.map((node) => [node.name, node]));
  rows(byId("nodes"), list.map((node) => node.name), (name) => el("tr", {},
    el("td", { class: "name" }, el("button", { class: "link", type: "button", onclick: () => open(name) }, name),
      by.get(name).place ? el("span", { class: "soft small" }, ` ${by.get(name).place}`) : null),
    cell(el("span", { class: "chip" })), el("td", { class: "n" }, el("span", { class: "value" }), el("span", { class: "meter" }, el("i", {}))),
    cell("", "n"), cell("", "n")), (row, name) => {
    const node = by.get(name);
    const chip = row.children[1].firstChild;
    text(chip, node.healthy ? "healthy" : node.state === "healthy" ? "unhealthy" : node.state);
    chip.className = `chip ${node.healthy ? "healthy" : node.state === "starting" ? "waits" : "sick"}`;
    chip.title = node.health;
    text(row.querySelector(".value"), node.cores === null ? "–" : `${Math.round(node.cores * 100)} %`);
    row.querySelector(".meter i").style.width = `${Math.min(100, (node.cores ?? 0) * 100)}%`;
    text(row.children[3], String(node.rss_mib));
    text(row.children[4], String(node.restarts));
  });
}

const ROLES = [["mesh", "doors"], ["service", "services"], ["store", "stores and quorums"]];

/** A card for each zone or region: how many of its processes are well, and each of them by name. Nothing where there are none. */
export function zones(list, active, open) {
  const zoned = list.filter((node) => node.zone);
  byId("zones-part").hidden = !zoned.length;
  const numbers = [...new Set(zoned.map((node) => node.zone))].sort();
  const by = new Map(zoned.map((node) => [node.name, node]));
  const places = new Map(zoned.map((node) => [node.zone, node.place]));
  const regions = zoned.some((node) => !node.place.startsWith("zone"));
  text(byId("zones-word"), regions ? "Regions" : "Zones");
  const chip = (node) => el("button", { class: "chip", type: "button", "data-node": node.name, onclick: () => open(node.name) }, node.name.replace(/-\d+$/, ""));
  put(byId("zones"), zoned.map((node) => node.name).join(), () => numbers.map((zone) => el("article", { class: "zone", "data-zone": zone },
    el("h3", {}, el("span", {}, places.get(zone).replace(/^./, (first) => first.toUpperCase())), el("span", { class: "active", hidden: true }, "active")), el("p", { class: "sum" }),
    ...ROLES.map(([role, title]) => [title, zoned.filter((node) => node.zone === zone && node.role === role)]).filter(([, here]) => here.length)
      .map(([title, here]) => el("p", { class: "members" }, el("span", { class: "soft small" }, title), ...here.map(chip))))));
  for (const card of byId("zones").children) {
    const here = zoned.filter((node) => node.zone === Number(card.dataset.zone));
    const well = here.filter((node) => node.healthy).length;
    text(card.querySelector(".sum"), well === here.length ? `all ${well} processes well` : well ? `${well} of ${here.length} processes well` : `lost: none of ${here.length} processes well`);
    card.querySelector(".active").hidden = !active || places.get(Number(card.dataset.zone)) !== active;
    card.classList.toggle("sick", well === 0);
    card.classList.toggle("part", well > 0 && well < here.length);
    for (const member of card.querySelectorAll(".chip")) {
      const node = by.get(member.dataset.node);
      member.className = `chip ${node.healthy ? "healthy" : node.state === "starting" ? "waits" : "sick"}`;
      member.title = `${node.name}: ${node.health}`;
    }
  }
}

/** The lines between regions: how long a packet takes, what is lost, which are cut. */
export function lines(list) {
  byId("lines").hidden = !list.length;
  put(byId("lines"), list.map((line) => `${line.one}>${line.other}`).join(), () => list.map((line) => el("li", {}, el("b", {}, `${line.one} – ${line.other}`), " ", el("span", { class: "chip" }))));
  list.forEach((line, index) => {
    const chip = byId("lines").children[index].querySelector(".chip");
    text(chip, line.words);
    chip.className = `chip ${line.cut ? "sick" : line.calm ? "healthy" : "waits"}`;
  });
}

export function hops(list, titles) {
  const shown = list.filter((hop) => titles.has(hop.source) || hop.source === "clients");
  const name = (kind) => titles.get(kind) ?? "Clients";
  rows(byId("hops"), shown.map((hop) => `${hop.source}>${hop.target}`), () => el("tr", {}, cell(""), cell(""), cell("", "n"), cell("", "n"), cell("", "n"), cell("", "n")),
    (row, key) => {
      const hop = shown.find((one) => `${one.source}>${one.target}` === key);
      [name(hop.source), name(hop.target), rate(hop.rate), rate(hop.errors), ms(hop.p50_ms), ms(hop.p99_ms)].forEach((words, index) => text(row.children[index], words));
    });
}

export function routes(told) {
  const names = Object.keys(told).sort();
  if (!names.length) {
    put(byId("routes"), "none", () => el("tr", {}, el("td", { colspan: 5, class: "soft" }, "No requests in the last seconds.")));
    return;
  }
  rows(byId("routes"), names, (name) => el("tr", {}, el("td", { class: "name" }, name), cell("", "n"), cell("", "n"), cell("", "n"), cell("", "n")), (row, name) => {
    const route = told[name];
    [rate(route.rate), rate(route.errors), ms(route.p50_ms), ms(route.p99_ms)].forEach((words, index) => text(row.children[index + 1], words));
  });
}

export function caches(told) {
  const names = Object.keys(told).sort();
  if (!names.length) {
    put(byId("caches"), "none", () => el("tr", {}, el("td", { colspan: 3, class: "soft" }, "No look-ups in the last seconds.")));
    return;
  }
  rows(byId("caches"), names, (name) => el("tr", {}, el("td", { class: "name" }, name), cell("", "n"), cell("", "n")), (row, name) => {
    [rate(told[name].rate), `${(100 * told[name].hits).toFixed(1)} %`].forEach((words, index) => text(row.children[index + 1], words));
  });
}

/** Breakers that are not closed; they stand with the faults. */
export function breakers(list) {
  const node = byId("breakers");
  node.hidden = !list.length;
  put(node, JSON.stringify(list), () => el("ul", {}, ...list.map((one) => el("li", {}, el("span", { class: `chip ${one.state === "open" ? "sick" : "waits"}` }, one.state),
    el("span", {}, "breaker of ", el("b", {}, one.node), ` to ${one.dependency}`)))));
}

export function faults(list, now) {
  put(byId("faults"), JSON.stringify(list) + Math.floor(now / 5000) * list.length, () => (list.length ? el("ul", {}, ...list.map((fault) => el("li", {},
    el("span", { class: `chip ${fault.state === "standing" ? "sick" : fault.state === "recovered" ? "healthy" : "waits"}` }, fault.state === "standing" ? "active" : fault.state),
    el("span", {}, el("b", {}, fault.kind), ` on ${fault.target}`),
    el("span", { class: "soft small" }, `${duration((now - fault.began_ms) / 1000)} ago`)))) : el("p", { class: "soft" }, "No fault stands.")));
}

const since = (at, now) => (Number.isFinite(Date.parse(at)) ? `${duration(Math.max(0, now - Date.parse(at)) / 1000)} ago` : "");

export function alerts(list, observed, now) {
  put(byId("alerts"), JSON.stringify(list) + observed + Math.floor(now / 5000) * (list?.length ?? 0), () => {
    if (list === null && observed) return el("p", { class: "soft" }, "Prometheus does not answer; nobody knows which alerts are active.");
    if (list === null) return el("p", { class: "soft" }, "Nobody observes this lab; ", el("code", {}, "tweetlab up --observe"), " adds Prometheus and its alerts.");
    if (!list.length) return el("p", { class: "soft" }, "No alert is active.");
    return el("ul", {}, ...list.map((alert) => el("li", {}, el("span", { class: `chip ${alert.state === "firing" ? "sick" : "waits"}` }, alert.state),
      el("span", { class: "grow" }, el("b", {}, alert.name), alert.text ? ` ${alert.text}` : "",
        alert.others.length ? el("span", { class: "soft small", title: alert.others.join("\n") }, ` and ${alert.others.length} more`) : null),
      el("span", { class: "soft small" }, [alert.severity, since(alert.since, now)].filter(Boolean).join(" · ")))));
  });
}

export function runs(list) {
  put(byId("runs"), JSON.stringify(list), () => (list.length ? el("ul", {}, ...list.map((run, index) => el("li", {},
    el("span", { class: `chip ${run.verdict.toLowerCase()}` }, run.verdict),
    el("span", { class: "grow" }, run.report ? el("a", { href: `/runs/${run.run}/report.html`, target: "_blank", rel: "noopener" }, run.scenario) : el("b", {}, run.scenario),
      el("span", { class: "soft small" }, run.kind === "twin" ? " on the twin" : " on the system"),
      list.findIndex((one) => one.scenario === run.scenario) === index ? el("span", { class: "soft small below" }, run.question) : null),
    el("span", { class: "soft small when" }, run.started_at.replace("T", " ").replace("Z", ""))))) : el("p", { class: "soft" }, "No runs yet; ",
    el("code", {}, "tweetlab run first_run"), " makes one.")));
}

export function links(list) {
  put(byId("links"), JSON.stringify(list), () => list.map((link) => el("a", { href: link.url, target: "_blank", rel: "noopener" }, link.name)));
}
