// A tweet, lists of tweets, and the form to write one.

import * as api from "./api.js";
import { avatar, busy, count, el, icon, linked, notify, when } from "./dom.js";
import { hasInvalid, MAX_WEIGHT, weight } from "./text.js";

const MAX_PICTURE_BYTES = 5 * 1024 * 1024;
const PICTURES = "image/png,image/jpeg,image/webp,image/gif";
const URL_TTL_MS = 60_000; // signed URLs are valid for two minutes; requested again before that

const LATE = 20; // number of newest tweets among which a late arrival is still noticed

const urls = new Map();

async function pictureUrl(key) {
  const cached = urls.get(key);
  if (cached && Date.now() - cached.at < URL_TTL_MS) return cached.url;
  const url = await api.mediaUrl(key);
  urls.set(key, { url, at: Date.now() });
  return url;
}

function pictures(tweet, author) {
  const keys = tweet.attachments?.media_keys ?? [];
  if (!keys.length) return null;
  const box = el("div", { class: `pictures n${Math.min(keys.length, 4)}` });
  for (const key of keys) {
    const image = el("img", { alt: `Picture posted by ${author.name}`, loading: "lazy", decoding: "async" });
    const show = () => pictureUrl(key).then((url) => { image.src = url; }, showError);
    const showError = () => image.replaceWith(el("p", { class: "note small" }, "The picture cannot be shown."));
    // Loaded when it scrolls into view, which may be long after its URL was signed: on an error it is signed once more.
    image.addEventListener("error", () => {
      image.addEventListener("error", showError, { once: true });
      urls.delete(key);
      show();
    }, { once: true });
    box.append(image);
    show();
  }
  return box;
}

function likeButton(tweet) {
  let liked = false;
  let likes = tweet.public_metrics?.like_count ?? 0;
  const number = el("span", { class: "number" });
  const button = el("button", { class: "act like", type: "button" }, icon("heart"), number);
  const show = () => {
    button.setAttribute("aria-pressed", String(liked));
    button.setAttribute("aria-label", `Like; ${likes} ${likes === 1 ? "like" : "likes"}`);
    number.textContent = likes ? count(likes) : "";
  };
  button.addEventListener("click", () => busy(button, async () => {
    await (liked ? api.unlike(tweet.id) : api.like(tweet.id));
    likes = Math.max(0, likes + (liked ? -1 : 1));
    liked = !liked;
    show();
  }));
  show();
  if (likes) api.likes(tweet.id).then((contained) => { liked = contained; show(); }, () => {});
  return button;
}

function removeButton(tweet, article) {
  const button = el("button", { class: "act", type: "button", "aria-label": "Delete this tweet" }, icon("trash"));
  button.addEventListener("click", () => {
    if (!button.classList.contains("sure")) {
      button.classList.add("sure");
      button.append(el("span", {}, "Delete?"));
      setTimeout(() => { button.classList.remove("sure"); button.querySelector("span")?.remove(); }, 4000);
      return;
    }
    busy(button, async () => {
      await api.remove(tweet.id);
      article.remove();
      notify("The tweet is deleted.");
    });
  });
  return button;
}

/** Return one tweet as an <article>. `author`: absent if only the id of the author is known. */
export function tweetCard(tweet, author = { id: tweet.author_id, name: "Unknown user", username: "" }) {
  const parent = tweet.referenced_tweets?.find((reference) => reference.type === "replied_to");
  const profile = author.username ? `#/u/${author.username}` : null;
  const article = el("article", { class: "tweet", "data-id": tweet.id, "aria-label": `Tweet by ${author.name}` });
  const head = el("header", {},
    el("a", { class: "who", href: profile }, el("b", {}, author.name), author.protected ? icon("lock") : null,
      el("span", { class: "soft" }, author.username ? ` @${author.username}` : "")),
    el("a", { class: "soft when", href: `#/t/${tweet.id}`, "aria-label": "Open this tweet" }, when(tweet.created_at)));
  const own = tweet.author_id === api.me()?.id;
  const acts = el("footer", {},
    el("a", { class: "act", href: `#/t/${tweet.id}`, "aria-label": "Reply" }, icon("reply")),
    likeButton(tweet), own ? removeButton(tweet, article) : null);
  article.append(
    el("a", { class: "face", href: profile, tabindex: "-1", "aria-hidden": "true" }, avatar(author)),
    el("div", { class: "body" }, head,
      parent ? el("p", { class: "soft small" }, "In reply to ", el("a", { href: `#/t/${parent.id}` }, "this tweet")) : null,
      tweet.text ? el("p", { class: "text", dir: "auto" }, linked(tweet.text, tweet.entities)) : null,
      pictures(tweet, author), acts));
  return article;
}

/** Return a list that loads page by page. `read(cursor)` returns { tweets, users, next }; `empty`: text of an empty list. */
export function tweetList(read, empty) {
  const seen = new Set();
  const items = el("div", { class: "list", role: "feed", "aria-busy": "true" });
  const OLDER = "Show older tweets";
  const more = el("button", { class: "more", type: "button", hidden: true }, OLDER);
  const note = el("p", { class: "note" }, "Loading …");
  const root = el("section", { class: "feed", "aria-label": "Tweets" }, items, note, more);
  let next; // undefined until the first page is loaded
  const olderThan = (id) => [...items.children].find((card) => BigInt(card.dataset.id) < BigInt(id)) ?? null;
  const add = (page, first = false) => {
    const fresh = page.tweets.filter((tweet) => !seen.has(tweet.id));
    const cards = fresh.map((tweet) => tweetCard(tweet, page.users.get(tweet.author_id)));
    fresh.forEach((tweet) => seen.add(tweet.id));
    if (!first) items.append(...cards);
    for (const card of first ? cards : []) items.insertBefore(card, olderThan(card.dataset.id));
    note.hidden = items.childElementCount > 0;
    return cards;
  };
  const load = async () => {
    items.setAttribute("aria-busy", "true");
    try {
      const page = await read(next);
      const cards = add(page);
      if (next !== undefined) cards[0]?.querySelector("a.who")?.focus();
      next = page.next;
      note.textContent = empty;
      note.hidden = items.childElementCount > 0;
      more.textContent = OLDER;
    } catch (problem) {
      note.hidden = false;
      note.textContent = problem.message;
      more.textContent = "Try again";
    } finally {
      items.setAttribute("aria-busy", "false");
      more.hidden = next === null;
    }
  };
  more.addEventListener("click", () => busy(more, load));
  load();
  // A late arrival may be older than tweets that are shown, such as the own post: new means not shown yet, not newer.
  const since = () => [...items.children].slice(0, LATE)[LATE - 1]?.dataset.id ?? items.lastElementChild?.dataset.id;
  const unseen = (page) => ({ ...page, tweets: page.tweets.filter((tweet) => !seen.has(tweet.id)) });
  // True if the first page is not loaded yet; loads it again if that failed.
  const loadFirst = async () => {
    if (next !== undefined) return false;
    if (items.getAttribute("aria-busy") === "false") await load();
    return true;
  };
  const restart = () => {
    seen.clear();
    items.replaceChildren();
    next = undefined;
    return load();
  };
  return { root, add, since, unseen, loadFirst, restart };
}

function pictureField(form) {
  const input = el("input", { type: "file", accept: PICTURES, class: "hidden", "aria-label": "Picture" });
  const view = el("div", { class: "preview", hidden: true });
  const button = el("button", { type: "button", class: "act", "aria-label": "Add a picture" }, icon("picture"));
  let url = null;
  const clear = () => {
    input.value = "";
    if (url) URL.revokeObjectURL(url);
    url = null;
    view.replaceChildren();
    view.hidden = true;
    form.dispatchEvent(new Event("input"));
  };
  button.addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    const file = input.files[0];
    if (!file) return;
    if (file.size > MAX_PICTURE_BYTES || !PICTURES.split(",").includes(file.type)) {
      clear();
      notify("Pictures are PNG, JPEG, WebP or GIF of at most 5 MB.", true);
      return;
    }
    url = URL.createObjectURL(file);
    view.replaceChildren(el("img", { src: url, alt: `Chosen picture: ${file.name}` }),
      el("button", { type: "button", class: "round", "aria-label": "Remove the picture", onclick: clear }, icon("close")));
    view.hidden = false;
    form.dispatchEvent(new Event("input"));
  });
  return { input, view, button, clear, file: () => input.files[0] ?? null };
}

/** Return the form to write a tweet. `posted(tweet)` is called with the new tweet; `replyTo`: id of the parent. */
export function composer(posted, replyTo = null) {
  const label = replyTo ? "Your reply" : "What is happening?";
  const text = el("textarea", { rows: 2, placeholder: label, "aria-label": label, dir: "auto" });
  const left = el("span", { class: "soft small left", "aria-live": "off" });
  const send = el("button", { class: "primary", type: "submit", disabled: true }, replyTo ? "Reply" : "Post");
  const form = el("form", { class: "composer", "aria-label": replyTo ? "Reply" : "New tweet" });
  const picture = pictureField(form);
  let request = null; // a retry of the same draft after a lost response keeps its key, and makes no second tweet
  const check = () => {
    request = null;
    const size = weight(text.value);
    const bad = size > MAX_WEIGHT || hasInvalid(text.value);
    left.textContent = size > MAX_WEIGHT - 60 ? String(MAX_WEIGHT - size) : "";
    left.classList.toggle("bad", bad);
    send.disabled = bad || !(text.value.trim() || picture.file());
    text.style.height = "auto";
    text.style.height = `${text.scrollHeight}px`;
  };
  form.addEventListener("input", check);
  text.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (send.disabled) return;
    busy(send, async () => {
      request ??= { key: crypto.randomUUID(), mediaIds: picture.file() ? [await api.upload(picture.file())] : [] };
      const tweet = await api.post(text.value, { replyTo, ...request });
      text.value = "";
      picture.clear();
      posted(tweet);
    });
  });
  form.append(avatar(api.me()), el("div", { class: "body" }, text, picture.view,
    el("div", { class: "row" }, picture.button, picture.input, el("span", { class: "grow" }), left, send)));
  return form;
}
