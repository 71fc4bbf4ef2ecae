// The views of the client. Each function returns { title, nodes of <main>, focus, leave }.

import * as api from "./api.js";
import { addressOf, avatar, busy, count, el, icon, notify } from "./dom.js";
import { composer, tweetCard, tweetList } from "./tweets.js";

const POLL_EVERY_MS = 8000;

function heading(text, ...more) {
  return el("div", { class: "head" }, el("h1", { tabindex: "-1" }, text), ...more);
}

const withMe = (tweet) => ({ tweets: [tweet], users: new Map([[api.me().id, api.me()]]) });

/** The home timeline; new tweets are announced, and shown on request. */
export function home() {
  const feed = tweetList((cursor) => api.home({ pagination_token: cursor }), "Nothing here yet: follow someone, or post.");
  const newTweets = el("button", { class: "news", type: "button", hidden: true });
  let waiting = null;
  const poll = async () => {
    if (document.hidden) return;
    try {
      if (await feed.loadFirst()) return;
      const page = feed.unseen(await api.home({ since_id: feed.since(), max_results: 100 }));
      if (!page.tweets.length) return;
      waiting = page;
      newTweets.textContent = `Show ${page.tweets.length}${page.next ? " and more" : ""} new ${page.tweets.length === 1 ? "tweet" : "tweets"}`;
      newTweets.hidden = false;
    } catch {
      // the next poll may succeed
    }
  };
  newTweets.addEventListener("click", () => {
    newTweets.hidden = true;
    if (waiting.next) feed.restart(); // more than one page: those between it and the list would be missing
    else feed.add(waiting, true)[0]?.querySelector("a.who")?.focus();
  });
  const timer = setInterval(poll, POLL_EVERY_MS);
  document.addEventListener("visibilitychange", poll); // without waiting for the next poll when the tab is shown again
  const posted = (tweet) => { feed.add(withMe(tweet), true); notify("Posted."); };
  return {
    title: "Home",
    nodes: [heading("Home"), composer(posted), el("div", { role: "status" }, newTweets), feed.root],
    leave: () => {
      clearInterval(timer);
      document.removeEventListener("visibilitychange", poll);
    },
  };
}

/** Tweets that match the query, in the lab's default order. */
export function search(words) {
  const field = el("input", { type: "search", name: "q", value: words, maxlength: 512, placeholder: "Words, #tags, @names",
    "aria-label": "Search tweets", autocomplete: "off" });
  const form = el("form", { class: "search-form", role: "search" }, icon("search"), field,
    el("button", { class: "primary", type: "submit" }, "Search"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const query = field.value.trim();
    location.hash = addressOf(query);
  });
  const results = words ? tweetList((cursor) => api.search(words, { next_token: cursor }), `No tweets match “${words}”.`).root
    : el("p", { class: "note" }, "Search for words, #tags, from:name, \"a phrase\" or -word; @name opens a profile.");
  return { title: words ? `Search: ${words}` : "Search", nodes: [heading("Search"), form, results], focus: words ? null : field };
}

function followButton(user, changed) {
  const button = el("button", { class: "primary", type: "button", disabled: true }, "Follow");
  let state = "none";
  const show = (next) => {
    state = next;
    button.disabled = false;
    button.textContent = { none: "Follow", pending: "Requested", following: "Following" }[state];
    button.classList.toggle("quiet", state !== "none");
    button.setAttribute("aria-pressed", String(state !== "none"));
  };
  button.addEventListener("click", () => busy(button, async () => {
    if (state === "none") {
      const edge = await api.follow(user.id);
      show(edge.pending_follow ? "pending" : "following");
      notify(edge.pending_follow ? `You requested to follow @${user.username}.` : `You follow @${user.username} now.`);
    } else {
      await api.unfollow(user.id);
      show("none");
    }
    changed();
  }));
  const connections = user.connection_status ?? [];
  show(connections.includes("following") ? "following" : connections.includes("follow_request_sent") ? "pending" : "none");
  return button;
}

function protectButton(user) {
  if (user.protected === undefined) return null;
  const button = el("button", { class: "quiet", type: "button" });
  let on = user.protected;
  const show = () => {
    button.textContent = on ? "Tweets are protected" : "Protect my tweets";
    button.setAttribute("aria-pressed", String(on));
  };
  button.addEventListener("click", () => busy(button, async () => {
    on = (await api.changeProfile({ protected: !on })).protected;
    show();
    notify(on ? "Only approved followers can read your tweets now." : "Everyone can read your tweets now.");
  }));
  show();
  return button;
}

/** A user: profile, counts, follow button, and the tweets. */
export async function profile(name) {
  const user = await api.userNamed(name);
  const own = user.id === api.me().id;
  const card = el("section", { class: "profile", "aria-label": `Profile of ${user.name}` });
  const show = (shown) => {
    const metrics = shown.public_metrics ?? {};
    return el("p", { class: "numbers" },
      el("span", {}, el("b", {}, count(metrics.following_count ?? 0)), " following"),
      el("span", {}, el("b", {}, count(metrics.followers_count ?? 0)), metrics.followers_count === 1 ? " follower" : " followers"));
  };
  let numbers = show(user);
  const changed = async () => {
    const fresh = show(await api.userNamed(name).catch(() => user));
    numbers.replaceWith(fresh);
    numbers = fresh;
  };
  const joined = new Date(user.created_at).toLocaleDateString("en", { month: "long", year: "numeric" });
  card.append(
    el("div", { class: "top" }, avatar(user, "big"), own ? protectButton(user) : followButton(user, changed)),
    el("h1", { tabindex: "-1" }, user.name, user.protected ? icon("lock") : null),
    el("p", { class: "soft" }, `@${user.username} · joined ${joined}`), numbers);
  const none = user.protected && !own ? "These tweets are protected: only approved followers can read them." : "No tweets yet.";
  const feed = tweetList((cursor) => api.tweetsOf(user.id, { pagination_token: cursor }), none);
  return { title: `${user.name} (@${user.username})`, nodes: [card, feed.root] };
}

/** One tweet, its parent, and a form to reply. */
export async function thread(id) {
  const { tweet, author } = await api.tweet(id);
  const nodes = [heading("Tweet", el("a", { class: "quiet button", href: "#/" }, icon("back"), "Home"))];
  const parent = tweet.referenced_tweets?.find((reference) => reference.type === "replied_to");
  if (parent) {
    const shown = await api.tweet(parent.id).catch(() => null);
    nodes.push(shown ? tweetCard(shown.tweet, shown.author) : el("p", { class: "note" }, "The tweet that it replies to is not available."));
  }
  const replies = el("div", { class: "list" });
  const card = tweetCard(tweet, author);
  card.classList.add("chosen");
  const posted = (reply) => { replies.append(tweetCard(reply, api.me())); notify("Your reply is posted."); };
  nodes.push(card, composer(posted, id), replies);
  return { title: `${author?.name ?? "A tweet"}: ${tweet.text.slice(0, 40)}`, nodes };
}

/** Open follow requests to the user. */
export async function requests() {
  const users = await api.requests();
  const list = el("ul", { class: "people" });
  for (const user of users) {
    const row = el("li", {});
    const decide = (label, work, message, kind) => el("button", { type: "button", class: kind, "aria-label": `${label} @${user.username}`,
      onclick: (event) => busy(event.currentTarget, async () => { await work(user.id); row.remove(); notify(message); }) }, label);
    row.append(avatar(user), el("a", { href: `#/u/${user.username}`, class: "grow who" }, el("b", {}, user.name),
      el("span", { class: "soft" }, ` @${user.username}`)),
    decide("Approve", api.approve, `@${user.username} follows you now.`, "primary"),
    decide("Refuse", api.refuse, `@${user.username} was refused.`, "quiet"));
    list.append(row);
  }
  const none = users.length ? null : el("p", { class: "note" }, "No open follow requests.");
  return { title: "Follow requests", nodes: [heading("Follow requests"), list, none].filter(Boolean) };
}

function field(label, props) {
  const input = el("input", { required: true, ...props });
  return { input, row: el("label", { class: "field" }, el("span", {}, label), input) };
}

/** Sign in, or sign up. `signedIn()` is called on success. */
export function signIn(signedIn) {
  const name = field("Name", { autocomplete: "name", maxlength: 50, name: "name" });
  const user = field("User name", { autocomplete: "username", maxlength: 15, pattern: "[A-Za-z0-9_]{1,15}", name: "username",
    autocapitalize: "none", spellcheck: "false", title: "1 to 15 letters, digits or underscores" });
  const password = field("Password", { type: "password", minlength: 8, maxlength: 128, autocomplete: "current-password", name: "password" });
  const go = el("button", { class: "primary wide", type: "submit" });
  const other = el("button", { class: "link", type: "button" });
  const title = el("h1", { tabindex: "-1" });
  const wrong = el("p", { class: "bad", role: "alert" });
  let fresh = false;
  const show = () => {
    title.textContent = fresh ? "Create an account" : "Sign in";
    go.textContent = fresh ? "Sign up" : "Sign in";
    other.textContent = fresh ? "I have an account: sign in" : "New here? Sign up";
    name.row.hidden = !fresh;
    name.input.required = fresh;
    password.input.autocomplete = fresh ? "new-password" : "current-password";
    wrong.textContent = "";
  };
  other.addEventListener("click", () => { fresh = !fresh; show(); (fresh ? name : user).input.focus(); });
  const form = el("form", { class: "sign-in" }, title, name.row, user.row, password.row, wrong, go, other);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    wrong.textContent = "";
    busy(go, async () => {
      try {
        if (fresh) await api.signUp(name.input.value.trim(), user.input.value, password.input.value);
        else await api.signIn(user.input.value, password.input.value);
      } catch (problem) {
        wrong.textContent = problem.message;
        return;
      }
      signedIn();
    });
  });
  show();
  const hero = el("div", { class: "hero" }, el("img", { src: "/web/icon.svg", alt: "", width: 56, height: 56 }),
    el("p", { class: "claim" }, "A Twitter that fits on a laptop."),
    el("p", { class: "soft" }, "Real servers, on this machine alone. Posts are deleted when the lab is reset."));
  return { title: "Sign in", nodes: [el("div", { class: "entry" }, hero, form)], focus: user.input };
}
