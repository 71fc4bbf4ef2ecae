// Routes the hash of the address (#/…) to a view, shows it, and updates focus, title and navigation.

import * as api from "./api.js";
import { addressOf, avatar, el, icon, notify } from "./dom.js";
import * as text from "./text.js";
import * as views from "./views.js";

const main = document.getElementById("main");
const nav = document.getElementById("nav");
const side = document.getElementById("side");

const ROUTES = [
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
    el("form", { class: "search-form", role: "search", onsubmit: find }, icon("search"),
      el("input", { type: "search", name: "q", placeholder: "Search", "aria-label": "Search", maxlength: 512, autocomplete: "off" })),
    el("p", { class: "soft small" }, "A small client of the public API, served by the gateway. The API is described at ",
      el("a", { href: "/openapi.json" }, "/openapi.json"), "."));
}

function find(event) {
  event.preventDefault();
  const words = new FormData(event.currentTarget).get("q").trim();
  if (words) location.hash = addressOf(words);
}

async function signOut() {
  await api.signOut();
  location.hash = "#/";
  show();
}

function viewOf(address) {
  for (const [pattern, view] of ROUTES) {
    const match = pattern.exec(address);
    if (!match) continue;
    try {
      return () => view(match[1] === undefined ? undefined : decodeURIComponent(match[1]));
    } catch {
      break; // an invalid % sequence in the address
    }
  }
  return () => { throw new api.ApiError(404, "This page does not exist."); };
}

async function show(moved = true) {
  const number = ++visit;
  leave?.();
  leave = null;
  navigate();
  let shown;
  try {
    shown = api.me() ? await viewOf(location.hash)() : views.signIn(() => show());
  } catch (problem) {
    if (!api.me()) return show();
    shown = { title: "Not found", nodes: [el("div", { class: "head" }, el("h1", { tabindex: "-1" }, "Not found")),
      el("p", { class: "note" }, problem.message), el("p", { class: "note" }, el("a", { href: "#/" }, "Back to the home timeline"))] };
  }
  if (number !== visit) return shown.leave?.(); // the user navigated on in the meantime
  leave = shown.leave ?? null;
  document.title = `${shown.title} · Tweetlab`;
  main.replaceChildren(...shown.nodes);
  if (moved) {
    window.scrollTo(0, 0);
    (shown.focus ?? main.querySelector("h1"))?.focus({ preventScroll: true });
  }
  return undefined;
}

api.ended.listener = () => { notify("Your session has ended; sign in again.", true); show(); };
window.addEventListener("hashchange", () => show());
document.querySelector(".skip").addEventListener("click", (event) => { event.preventDefault(); main.querySelector("h1")?.focus(); });
text.load().catch((problem) => notify(problem.message, true));
show(false);
