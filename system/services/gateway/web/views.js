// The places of the client. Each function returns what stands in <main>, and what to do when it is left.

import * as api from "./api.js";
import { avatar, busy, count, el, icon, tell } from "./dom.js";
import { composer, tweetCard, tweetList } from "./tweets.js";

const NEWS_EVERY_MS = 8000;

function heading(text, ...more) {
  return el("div", { class: "head" }, el("h1", { tabindex: "-1" }, text), ...more);
}

const withMe = (tweet) => ({ tweets: [tweet], users: new Map([[api.me().id, api.me()]]) });

/** The home timeline; new tweets are announced, and shown when asked for. */
export function home() {
  const feed = tweetList((cursor) => api.home({ pagination_token: cursor }), "Nothing here yet: follow somebody, or post.");
  const news = el("button", { class: "news", type: "button", hidden: true });
  let waiting = null;
  const look = async () => {
    if (document.hidden) return;
    try {
      if (await feed.begin()) return;
      const page = feed.unseen(await api.home({ since_id: feed.since(), max_results: 100 }));
      if (!page.tweets.length) return;
      waiting = page;
      news.textContent = `Show ${page.tweets.length}${page.next ? " and more" : ""} new ${page.tweets.length === 1 ? "tweet" : "tweets"}`;
      news.hidden = false;
    } catch {
      // the next look may find the lab again
    }
  };
  news.addEventListener("click", () => {
    news.hidden = true;
    if (waiting.next) feed.restart(); // more than one page: what lies between it and the list would be missing
    else feed.add(waiting, true)[0]?.querySelector("a.who")?.focus();
  });
  const timer = setInterval(look, NEWS_EVERY_MS);
  document.addEventListener("visibilitychange", look); // who comes back to the tab need not wait for the next look
  const posted = (tweet) => { feed.add(withMe(tweet), true); tell("Posted."); };
  return {
    title: "Home",
    nodes: [heading("Home"), composer(posted), el("div", { role: "status" }, news), feed.root],
    leave: () => {
      clearInterval(timer);
      document.removeEventListener("visibilitychange", look);
    },
  };
}

/** Tweets that hold the words, newest or best first as the lab ranks them. */
export function search(words) {
  const field = el("input", { type: "search", name: "q", value: words, maxlength: 512, placeholder: "Words or #tags",
    "aria-label": "Search tweets", autocomplete: "off" });
  const form = el("form", { class: "searching", role: "search" }, icon("search"), field,
    el("button", { class: "primary", type: "submit" }, "Search"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const wanted = field.value.trim();
    location.hash = wanted.startsWith("@") ? `#/u/${encodeURIComponent(wanted.slice(1))}` : `#/search/${encodeURIComponent(wanted)}`;
  });
  const found = words ? tweetList((cursor) => api.search(words, { next_token: cursor }), `No tweet holds “${words}”.`).root
    : el("p", { class: "note" }, "Search for words, #tags, from:name, \"a phrase\" or -word; @name opens a profile.");
  return { title: words ? `Search: ${words}` : "Search", nodes: [heading("Search"), form, found], focus: words ? null : field };
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
      const told = await api.follow(user.id);
      show(told.pending_follow ? "pending" : "following");
      tell(told.pending_follow ? `@${user.username} will be asked.` : `You follow @${user.username} now.`);
    } else {
      await api.unfollow(user.id);
      show("none");
    }
    changed();
  }));
  const stands = user.connection_status ?? [];
  show(stands.includes("following") ? "following" : stands.includes("follow_request_sent") ? "pending" : "none");
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
    on = (await api.change({ protected: !on })).protected;
    show();
    tell(on ? "Only approved followers read your tweets now." : "Everybody may read your tweets now.");
  }));
  show();
  return button;
}

/** A user: who, how many, follow, and the tweets. */
export async function profile(name) {
  const user = await api.userNamed(name);
  const own = user.id === api.me().id;
  const card = el("section", { class: "profile", "aria-label": `Profile of ${user.name}` });
  const show = (shown) => {
    const told = shown.public_metrics ?? {};
    return el("p", { class: "numbers" },
      el("span", {}, el("b", {}, count(told.following_count ?? 0)), " following"),
      el("span", {}, el("b", {}, count(told.followers_count ?? 0)), told.followers_count === 1 ? " follower" : " followers"));
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
  const none = user.protected && !own ? "These tweets are protected: only approved followers read them." : "No tweets yet.";
  const feed = tweetList((cursor) => api.tweetsOf(user.id, { pagination_token: cursor }), none);
  return { title: `${user.name} (@${user.username})`, nodes: [card, feed.root] };
}

/** One tweet, what it answers, and a box to answer it. */
export async function thread(id) {
  const { tweet, author } = await api.tweet(id);
  const nodes = [heading("Tweet", el("a", { class: "quiet button", href: "#/" }, icon("back"), "Home"))];
  const parent = tweet.referenced_tweets?.find((each) => each.type === "replied_to");
  if (parent) {
    const told = await api.tweet(parent.id).catch(() => null);
    nodes.push(told ? tweetCard(told.tweet, told.author) : el("p", { class: "note" }, "The tweet it answers is not there for you."));
  }
  const answers = el("div", { class: "list" });
  const card = tweetCard(tweet, author);
  card.classList.add("chosen");
  const posted = (answer) => { answers.append(tweetCard(answer, api.me())); tell("Your reply is posted."); };
  nodes.push(card, composer(posted, id), answers);
  return { title: `${author?.name ?? "A tweet"}: ${tweet.text.slice(0, 40)}`, nodes };
}

/** Who wants to follow me, while my tweets are protected. */
export async function requests() {
  const users = await api.requests();
  const list = el("ul", { class: "people" });
  for (const user of users) {
    const row = el("li", {});
    const decide = (label, work, told, kind) => el("button", { type: "button", class: kind, "aria-label": `${label} @${user.username}`,
      onclick: (event) => busy(event.currentTarget, async () => { await work(user.id); row.remove(); tell(told); }) }, label);
    row.append(avatar(user), el("a", { href: `#/u/${user.username}`, class: "grow who" }, el("b", {}, user.name),
      el("span", { class: "soft" }, ` @${user.username}`)),
    decide("Approve", api.approve, `@${user.username} follows you now.`, "primary"),
    decide("Refuse", api.refuse, `@${user.username} was refused.`, "quiet"));
    list.append(row);
  }
  const none = users.length ? null : el("p", { class: "note" }, "Nobody waits for your approval.");
  return { title: "Follow requests", nodes: [heading("Follow requests"), list, none].filter(Boolean) };
}

function field(label, props) {
  const input = el("input", { required: true, ...props });
  return { input, row: el("label", { class: "field" }, el("span", {}, label), input) };
}

/** Sign in, or sign up. `entered()` is called when that worked. */
export function door(entered) {
  const name = field("Name", { autocomplete: "name", maxlength: 50, name: "name" });
  const user = field("User name", { autocomplete: "username", maxlength: 15, pattern: "[A-Za-z0-9_]{1,15}", name: "username",
    autocapitalize: "none", spellcheck: "false", title: "1 to 15 letters, digits or underscores" });
  const word = field("Password", { type: "password", minlength: 8, maxlength: 128, autocomplete: "current-password", name: "password" });
  const go = el("button", { class: "primary wide", type: "submit" });
  const other = el("button", { class: "link", type: "button" });
  const title = el("h1", { tabindex: "-1" });
  const wrong = el("p", { class: "bad", role: "alert" });
  let fresh = false;
  const show = () => {
    title.textContent = fresh ? "Make an account" : "Sign in";
    go.textContent = fresh ? "Sign up" : "Sign in";
    other.textContent = fresh ? "I have an account: sign in" : "New here? Sign up";
    name.row.hidden = !fresh;
    name.input.required = fresh;
    word.input.autocomplete = fresh ? "new-password" : "current-password";
    wrong.textContent = "";
  };
  other.addEventListener("click", () => { fresh = !fresh; show(); (fresh ? name : user).input.focus(); });
  const form = el("form", { class: "door" }, title, name.row, user.row, word.row, wrong, go, other);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    wrong.textContent = "";
    busy(go, async () => {
      try {
        if (fresh) await api.signUp(name.input.value.trim(), user.input.value, word.input.value);
        else await api.signIn(user.input.value, word.input.value);
      } catch (problem) {
        wrong.textContent = problem.message;
        return;
      }
      entered();
    });
  });
  show();
  const hero = el("div", { class: "hero" }, el("img", { src: "/web/icon.svg", alt: "", width: 56, height: 56 }),
    el("p", { class: "claim" }, "A Twitter that fits on a laptop."),
    el("p", { class: "soft" }, "Real servers, on this machine alone. What you post is gone when the lab is reset."));
  return { title: "Sign in", nodes: [el("div", { class: "entry" }, hero, form)], focus: user.input };
}
