// Finds the place that the address names (#/…), shows it, and keeps focus, title and navigation right.

import * as api from "./api.js";
import { avatar, el, icon, tell } from "./dom.js";
import * as views from "./views.js";

const main = document.getElementById("main");
const nav = document.getElementById("nav");
const side = document.getElementById("side");

const PLACES = [
  [/^#?\/?$/, () => views.home()],
  [/^#\/search(?:\/(.*))?$/, (words) => views.search(words ?? "")],
  [/^#\/u\/([A-Za-z0-9_]{1,15})$/, (name) => views.profile(name)],
  [/^#\/t\/([0-9]{1,19})$/, (id) => views.thread(id)],
  [/^#\/requests$/, () => views.requests()],
];

let leave = null;
let visit = 0;

function navigate() {
  const user = api.me();
  nav.hidden = side.hidden = !user;
  document.body.classList.toggle("out", !user);
  if (!user) return;
  const at = location.hash || "#/";
  const link = (href, name, label) => el("a", { href, "aria-current": at === href || (href !== "#/" && at.startsWith(`${href}/`)) ? "page" : null },
    icon(name), el("span", {}, label));
  nav.replaceChildren(link("#/", "home", "Home"), link("#/search", "search", "Search"), link(`#/u/${user.username}`, "person", "Profile"),
    ...(user.protected ? [link("#/requests", "requests", "Requests")] : []),
    el("button", { type: "button", onclick: signOut }, icon("leave"), el("span", {}, "Sign out")));
  side.replaceChildren(
    el("a", { class: "card mine", href: `#/u/${user.username}` }, avatar(user), el("span", {}, el("b", {}, user.name), el("br"),
      el("span", { class: "soft" }, `@${user.username}`))),
    el("form", { class: "searching", role: "search", onsubmit: find }, icon("search"),
      el("input", { type: "search", name: "q", placeholder: "Search", "aria-label": "Search", maxlength: 512, autocomplete: "off" })),
    el("p", { class: "soft small" }, "A small client of the public API, served by the gateway. The API is described at ",
      el("a", { href: "/openapi.json" }, "/openapi.json"), "."));
}

function find(event) {
  event.preventDefault();
  const words = new FormData(event.currentTarget).get("q").trim();
  if (words) location.hash = words.startsWith("@") ? `#/u/${encodeURIComponent(words.slice(1))}` : `#/search/${encodeURIComponent(words)}`;
}

async function signOut() {
  await api.signOut();
  location.hash = "#/";
  show();
}

function placeOf(address) {
  for (const [pattern, view] of PLACES) {
    const found = pattern.exec(address);
    if (!found) continue;
    try {
      return () => view(found[1] === undefined ? undefined : decodeURIComponent(found[1]));
    } catch {
      break; // a broken % sequence in the address
    }
  }
  return () => { throw new api.Refused(404, "There is no such page here."); };
}

async function show(moved = true) {
  const number = ++visit;
  leave?.();
  leave = null;
  navigate();
  let found;
  try {
    found = api.me() ? await placeOf(location.hash)() : views.door(() => show());
  } catch (problem) {
    if (!api.me()) return show();
    found = { title: "Not here", nodes: [el("div", { class: "head" }, el("h1", { tabindex: "-1" }, "Not here")),
      el("p", { class: "note" }, problem.message), el("p", { class: "note" }, el("a", { href: "#/" }, "Back to the home timeline"))] };
  }
  if (number !== visit) return found.leave?.(); // somebody went on meanwhile
  leave = found.leave ?? null;
  document.title = `${found.title} · Tweetlab`;
  main.replaceChildren(...found.nodes);
  if (moved) {
    window.scrollTo(0, 0);
    (found.focus ?? main.querySelector("h1"))?.focus({ preventScroll: true });
  }
  return undefined;
}

api.ended.listener = () => { tell("Your session has ended; sign in again.", true); show(); };
window.addEventListener("hashchange", () => show());
document.querySelector(".skip").addEventListener("click", (event) => { event.preventDefault(); main.querySelector("h1")?.focus(); });
show(false);
