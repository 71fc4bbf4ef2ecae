// Speaks with the API. The tokens live in this tab: in memory, and in sessionStorage so that a reload stays signed in.

const KEPT = "tweetlab.lab.session";
const PAGE = 20;
// Counts come only where they are asked for, and then every other field has to be named too.
const WANTED = { expansions: "author_id", "tweet.fields": "attachments,author_id,created_at,public_metrics,referenced_tweets" };

let session = null;
try {
  session = JSON.parse(sessionStorage.getItem(KEPT));
} catch {
  session = null; // no storage, or nonsense in it: signed out
}

/** What the API refused, in its own words. `status` 0: it did not answer. */
export class Refused extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

export const me = () => session?.user ?? null;

/** Called where the session ended by itself (the token no longer holds). */
export const ended = { listener: () => {} };

function keep(value) {
  session = value;
  try {
    if (value) sessionStorage.setItem(KEPT, JSON.stringify(value));
    else sessionStorage.removeItem(KEPT);
  } catch {
    // without storage the session lives as long as the page
  }
}

async function send(method, path, { body, form, headers = {}, token } = {}) {
  const init = { method, headers: { ...headers }, cache: "no-store", credentials: "omit" };
  if (token) init.headers.authorization = `Bearer ${token}`;
  if (form) init.body = new URLSearchParams(form);
  else if (body !== undefined) {
    init.body = JSON.stringify(body);
    init.headers["content-type"] = "application/json";
  }
  let answer;
  try {
    answer = await fetch(path, init);
  } catch {
    throw new Refused(0, "The lab does not answer. Is it up?");
  }
  const told = await answer.json().catch(() => ({}));
  if (answer.ok) return told;
  const wait = answer.status === 429 ? ` Try again in ${answer.headers.get("retry-after") ?? "a few"} s.` : "";
  throw new Refused(answer.status, (told.detail || told.error_description || `The lab answered ${answer.status}.`) + wait);
}

let renewing = null;

async function renew() {
  const told = await send("POST", "/2/oauth2/token", { form: { grant_type: "refresh_token", refresh_token: session.refresh } });
  keep({ ...session, token: told.access_token, refresh: told.refresh_token ?? session.refresh });
}

/** Send a request as the user who is signed in; an expired token is renewed once. Raises Refused. */
export async function call(method, path, more = {}) {
  try {
    return await send(method, path, { ...more, token: session?.token });
  } catch (problem) {
    if (problem.status !== 401 || !session) throw problem;
  }
  try {
    if (!session.refresh) throw new Refused(401, "");
    renewing ??= renew().finally(() => { renewing = null; });
    await renewing;
  } catch (problem) {
    if (problem.status !== 400 && problem.status !== 401) throw problem; // away or busy: the refresh token still holds
    keep(null);
    ended.listener();
    throw new Refused(401, "Your session has ended; sign in again.");
  }
  return send(method, path, { ...more, token: session.token });
}

export async function signIn(username, password) {
  const told = await send("POST", "/2/oauth2/token", { form: { grant_type: "password", username, password } });
  const user = await send("GET", "/2/users/me", { token: told.access_token });
  keep({ token: told.access_token, refresh: told.refresh_token ?? null, user: user.data });
}

export async function signUp(name, username, password) {
  await send("POST", "/2/users", { body: { name, username, password } });
  await signIn(username, password);
}

/** Sign out: the refresh token is given back where the lab takes it, and this tab forgets both. */
export async function signOut() {
  const { token, refresh } = session ?? {};
  keep(null);
  for (const value of [refresh, token]) {
    if (value) await send("POST", "/2/oauth2/revoke", { form: { token: value }, token }).catch(() => {});
  }
}

export async function refreshMe() {
  const told = await call("GET", "/2/users/me");
  if (session) keep({ ...session, user: told.data });
  return told.data;
}

const query = (parts) => new URLSearchParams(Object.entries(parts).filter(([, value]) => value !== undefined && value !== null));

/** Return { tweets, users (by id), next } of a list of tweets. */
async function list(path, parts) {
  const told = await call("GET", `${path}?${query({ ...WANTED, max_results: PAGE, ...parts })}`);
  const users = new Map((told.includes?.users ?? []).map((user) => [user.id, user]));
  return { tweets: told.data ?? [], users, next: told.meta?.next_token ?? null };
}

export const home = (parts) => list(`/2/users/${me().id}/timelines/reverse_chronological`, parts);
export const tweetsOf = (id, parts) => list(`/2/users/${id}/tweets`, parts);
export const search = (words, parts) => list("/2/tweets/search/recent", { query: words, ...parts });

export async function tweet(id) {
  const told = await call("GET", `/2/tweets/${id}?${query(WANTED)}`);
  return { tweet: told.data, author: told.includes?.users?.[0] };
}

// What stands between oneself and the user comes only where it is asked for, and then every other field has to be named too.
const PERSON = { "user.fields": "connection_status,created_at,protected,public_metrics" };

export const userNamed = async (name) => (await call("GET", `/2/users/by/username/${encodeURIComponent(name)}?${query(PERSON)}`)).data;
export const remove = (id) => call("DELETE", `/2/tweets/${id}`);

/** Post. `key` names this wish: sent again after a lost answer, it is still one tweet. */
export async function post(text, { replyTo, mediaIds = [], key }) {
  const body = { text };
  if (replyTo) body.reply = { in_reply_to_tweet_id: replyTo };
  if (mediaIds.length) body.media = { media_ids: mediaIds };
  return (await call("POST", "/2/tweets", { body, headers: { "idempotency-key": key } })).data;
}

export const follow = async (id) => (await call("POST", `/2/users/${me().id}/following`, { body: { target_user_id: id } })).data;
export const unfollow = async (id) => (await call("DELETE", `/2/users/${me().id}/following/${id}`)).data;
export const like = (id) => call("POST", `/2/users/${me().id}/likes`, { body: { tweet_id: id } });
export const unlike = (id) => call("DELETE", `/2/users/${me().id}/likes/${id}`);

// Lists of users are ordered by id and their cursor is the last id seen: asking for one user behind `id - 1` tells whether
// exactly this one stands in the list, however long it is.
async function holds(path, id) {
  const told = await call("GET", `${path}?${query({ max_results: 1, pagination_token: String(BigInt(id) - 1n) })}`);
  return told.data?.[0]?.id === id;
}

export const likes = (tweetId) => holds(`/2/tweets/${tweetId}/liking_users`, me().id);

export const requests = async () => (await call("GET", `/2/users/${me().id}/follow_requests?max_results=100`)).data ?? [];
export const approve = (id) => call("POST", `/2/users/${me().id}/follow_requests/${id}`);
export const refuse = (id) => call("DELETE", `/2/users/${me().id}/follow_requests/${id}`);

export async function change(wanted) {
  const told = await call("PUT", "/2/users/me", { body: wanted });
  keep({ ...session, user: { ...session.user, ...told.data } });
  return session.user;
}

/** Put a picture into the lab: a place, the bytes straight to storage, then its check. Returns the id of the medium. */
export async function upload(file) {
  const bytes = await file.arrayBuffer();
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  const sha256 = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  const { data } = await call("POST", "/2/media/upload/initialize", { body: { media_type: file.type, total_bytes: file.size, sha256 } });
  const headers = new Headers({ "content-type": file.type, "x-amz-checksum-sha256": btoa(String.fromCharCode(...digest)) });
  for (const [name, value] of Object.entries(data.upload_headers ?? {})) headers.set(name, value);
  const put = await fetch(data.upload_url, { method: data.upload_method ?? "PUT", body: bytes, headers, credentials: "omit" })
    .catch(() => null);
  if (!put?.ok) throw new Refused(put?.status ?? 0, `The picture was not taken (${put ? put.status : "no answer"}).`);
  await call("POST", `/2/media/upload/${data.id}/finalize`);
  return data.id;
}

/** Return a signed address of a picture; it holds for some minutes. */
export const mediaUrl = async (key) => (await call("GET", `/2/media/${encodeURIComponent(key)}`)).data.url;
