// The tables and cards around the charts: tiles, the load, processes, hops, routes, faults, alerts, runs.

import { byId, duration, el, ms, put, rate, text } from "./dom.js";

const TILES = [
  ["rate", "requests per second"], ["errors", "errors per second"], ["p50", "median"], ["p99", "99th percentile"],
  ["cpu", "cores busy"], ["memory", "memory of the lab"], ["lag", "consumer lag in Kafka"],
];

/** Current figures. Latencies are measured at the client while a load runs, else at the gateway. */
export function tiles(frame) {
  const root = byId("tiles");
  if (!root.childElementCount) {
    for (const [name, words] of TILES) root.append(el("div", { class: "tile", "data-name": name }, el("b", {}, "–"), el("span", {}, words)));
  }
  const { traffic, nodes, lags, host, load } = frame;
  const pooled = load?.phase === "loading" ? load.tick?.routes.all : null;
  const place = pooled ? "at the client" : "at the gateway";
  const lag = Object.values(lags);
  const values = {
    rate: rate(traffic.rate), errors: rate(traffic.errors), p50: `${ms(pooled ? pooled.p50 : traffic.p50_ms)} ms`,
    p99: `${ms(pooled ? pooled.p99 : traffic.p99_ms)} ms`, cpu: `${host.busy.toFixed(2)} of ${host.cores}`,
    memory: `${(nodes.reduce((sum, node) => sum + node.rss_mib, 0) / 1024).toFixed(2)} GiB`,
    lag: lag.length ? rate(lag.reduce((sum, value) => sum + value, 0)) : "–",
  };
  for (const tile of root.children) {
    const name = tile.dataset.name;
    text(tile.firstChild, frame.state === "down" ? "–" : values[name].replace(/^– ms$/, "–"));
    tile.classList.toggle("bad", name === "errors" && traffic.errors > 0);
    if (name === "p50" || name === "p99") text(tile.lastChild, `${name === "p50" ? "median" : "99th percentile"} ${place}`);
  }
}

const PHASES = { warming: "warming the caches", loading: "under load", checking: "load complete, checking invariants", over: "finished", broken: "aborted" };

/** The running load: question, progress with its faults, and the last second. Hidden when no load runs. */
export function load(running) {
  const root = byId("load");
  root.hidden = !running || !["warming", "loading", "checking"].includes(running.phase);
  if (root.hidden) return;
  put(root, `${running.scenario}:${running.started_ms}:${running.phase}`, () => {
    const marks = running.faults.map((fault) => {
      const mark = el("i", { title: `${fault.kind} of ${fault.target || "a node it picks"} at ${fault.at_s} s` });
      mark.style.left = `${(100 * fault.at_s) / running.load_s}%`;
      return mark;
    });
    const bar = el("div", { class: "progress", role: "progressbar", "aria-label": "Progress of the load", "aria-valuemin": 0, "aria-valuemax": running.load_s }, el("span", {}), ...marks);
    return [el("p", { class: "kicker" }, el("b", {}, running.scenario), el("span", { class: `chip ${running.phase}` }, PHASES[running.phase]), el("span", { class: "soft clock" })),
      el("p", { class: "question" }, running.question), bar, el("p", { class: "second soft small" })];
  });
  const bar = root.querySelector(".progress");
  bar.setAttribute("aria-valuenow", Math.round(running.past_s));
  bar.firstChild.style.width = `${Math.min(100, (100 * running.past_s) / running.load_s)}%`;
  text(root.querySelector(".clock"), `${duration(running.past_s)} of ${duration(running.load_s)}`);
  const tick = running.tick;
  const sum = tick?.so_far;
  text(root.querySelector(".second"), tick ? `Operations so far: ${sum.planned} planned, ${sum.sent} sent, ${sum.finished} finished `
    + `(${sum.ok} ok, ${sum.fail + sum.info} failed or unknown), ${tick.in_flight} in flight${sum.unsent ? `, ${sum.unsent} not sent` : ""}; ${sum.requests} HTTP requests; the generator sends at most ${tick.start_lag_ms_p99.toFixed(1)} ms late (p99) on ${Math.round(100 * tick.cpu_share)} % of a core.` : "");
}

function cell(words, css = "") {
  return el("td", css ? { class: css } : {}, words);
}

/** Rows of a table, created once per key and then updated in place, so that selection and focus are kept. */
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

const ROLES = [["mesh", "load balancers"], ["service", "services"], ["store", "stores and quorums"]];

/** A card per zone or region: how many of its processes are healthy, and each of them by name. Hidden without zones. */
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
    ...ROLES.map(([role, title]) => [title, zoned.filter((node) => node.zone === zone && node.role === role)]).filter(([, members]) => members.length)
      .map(([title, members]) => el("p", { class: "members" }, el("span", { class: "soft small" }, title), ...members.map(chip))))));
  for (const card of byId("zones").children) {
    const members = zoned.filter((node) => node.zone === Number(card.dataset.zone));
    const healthy = members.filter((node) => node.healthy).length;
    text(card.querySelector(".sum"), healthy === members.length ? `all ${healthy} processes healthy` : healthy ? `${healthy} of ${members.length} processes healthy` : `lost: none of ${members.length} processes healthy`);
    card.querySelector(".active").hidden = !active || places.get(Number(card.dataset.zone)) !== active;
    card.classList.toggle("sick", healthy === 0);
    card.classList.toggle("part", healthy > 0 && healthy < members.length);
    for (const member of card.querySelectorAll(".chip")) {
      const node = by.get(member.dataset.node);
      member.className = `chip ${node.healthy ? "healthy" : node.state === "starting" ? "waits" : "sick"}`;
      member.title = `${node.name}: ${node.health}`;
    }
  }
}

/** The WAN links between regions: delay, loss, cuts. */
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
      const hop = shown.find((candidate) => `${candidate.source}>${candidate.target}` === key);
      [name(hop.source), name(hop.target), rate(hop.rate), rate(hop.errors), ms(hop.p50_ms), ms(hop.p99_ms)].forEach((words, index) => text(row.children[index], words));
    });
}

export function routes(byName) {
  const names = Object.keys(byName).sort();
  if (!names.length) {
    put(byId("routes"), "none", () => el("tr", {}, el("td", { colspan: 5, class: "soft" }, "No requests in the last seconds.")));
    return;
  }
  rows(byId("routes"), names, (name) => el("tr", {}, el("td", { class: "name" }, name), cell("", "n"), cell("", "n"), cell("", "n"), cell("", "n")), (row, name) => {
    const route = byName[name];
    [rate(route.rate), rate(route.errors), ms(route.p50_ms), ms(route.p99_ms)].forEach((words, index) => text(row.children[index + 1], words));
  });
}

export function caches(byName) {
  const names = Object.keys(byName).sort();
  if (!names.length) {
    put(byId("caches"), "none", () => el("tr", {}, el("td", { colspan: 3, class: "soft" }, "No lookups in the last seconds.")));
    return;
  }
  rows(byId("caches"), names, (name) => el("tr", {}, el("td", { class: "name" }, name), cell("", "n"), cell("", "n")), (row, name) => {
    [rate(byName[name].rate), `${(100 * byName[name].hits).toFixed(1)} %`].forEach((words, index) => text(row.children[index + 1], words));
  });
}

/** Circuit breakers that are not closed, shown below the faults. */
export function breakers(list) {
  const node = byId("breakers");
  node.hidden = !list.length;
  put(node, JSON.stringify(list), () => el("ul", {}, ...list.map((one) => el("li", {}, el("span", { class: `chip ${one.state === "open" ? "sick" : "waits"}` }, one.state),
    el("span", {}, "circuit breaker of ", el("b", {}, one.node), ` to ${one.dependency}`)))));
}

export function faults(list, now) {
  put(byId("faults"), JSON.stringify(list) + Math.floor(now / 5000) * list.length, () => (list.length ? el("ul", {}, ...list.map((fault) => el("li", {},
    el("span", { class: `chip ${fault.state === "active" ? "sick" : fault.state === "recovered" ? "healthy" : "waits"}` }, fault.state),
    el("span", {}, el("b", {}, fault.kind), ` on ${fault.target}`),
    el("span", { class: "soft small" }, `${duration((now - fault.began_ms) / 1000)} ago`)))) : el("p", { class: "soft" }, "No fault is active.")));
}

const since = (at, now) => (Number.isFinite(Date.parse(at)) ? `${duration(Math.max(0, now - Date.parse(at)) / 1000)} ago` : "");

export function alerts(list, observed, now) {
  put(byId("alerts"), JSON.stringify(list) + observed + Math.floor(now / 5000) * (list?.length ?? 0), () => {
    if (list === null && observed) return el("p", { class: "soft" }, "Prometheus does not answer; the active alerts are unknown.");
    if (list === null) return el("p", { class: "soft" }, "This lab runs without the observability stack; ", el("code", {}, "tweetlab up --observe"), " adds Prometheus and its alerts.");
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
    el("code", {}, "tweetlab run first_run"), " creates one.")));
}

export function links(list) {
  put(byId("links"), JSON.stringify(list), () => list.map((link) => el("a", { href: link.url, target: "_blank", rel: "noopener" }, link.name)));
}
