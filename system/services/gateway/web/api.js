// Client of the API. The tokens are kept in this tab: in memory, and in sessionStorage so that a reload stays signed in.

const STORAGE_KEY = "tweetlab.lab.session";
const PAGE = 20;
// Counts are returned only if named, and then every other field has to be named too.
const TWEET_QUERY = { expansions: "author_id", "tweet.fields": "attachments,author_id,created_at,entities,public_metrics,referenced_tweets" };

let session = null;
try {
  session = JSON.parse(sessionStorage.getItem(STORAGE_KEY));
} catch {
  session = null; // no storage, or invalid content: signed out
}

/** An error of the API, with its own message. `status` 0: no response. */
export class ApiError extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

export const me = () => session?.user ?? null;

/** Called when the session ended by itself (the tokens are no longer valid). */
export const ended = { listener: () => {} };

function saveSession(value) {
  session = value;
  try {
    if (value) sessionStorage.setItem(STORAGE_KEY, JSON.stringify(value));
    else sessionStorage.removeItem(STORAGE_KEY);
  } catch {
    // without storage the session lasts as long as the page
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
  let response;
  try {
    response = await fetch(path, init);
  } catch {
    throw new ApiError(0, "The lab does not respond. Is it up?");
  }
  const reply = await response.json().catch(() => ({}));
  if (response.ok) return reply;
  const wait = response.status === 429 ? ` Try again in ${response.headers.get("retry-after") ?? "a few"} s.` : "";
  throw new ApiError(response.status, (reply.detail || reply.error_description || `The lab answered ${response.status}.`) + wait);
}

let renewing = null;

async function renew() {
  const reply = await send("POST", "/2/oauth2/token", { form: { grant_type: "refresh_token", refresh_token: session.refresh } });
  saveSession({ ...session, token: reply.access_token, refresh: reply.refresh_token ?? session.refresh });
}

/** Send a request as the user who is signed in; an expired token is renewed once. Throws ApiError. */
export async function call(method, path, more = {}) {
  try {
    return await send(method, path, { ...more, token: session?.token });
  } catch (problem) {
    if (problem.status !== 401 || !session) throw problem;
  }
  try {
    if (!session.refresh) throw new ApiError(401, "");
    renewing ??= renew().finally(() => { renewing = null; });
    await renewing;
  } catch (problem) {
    if (problem.status !== 400 && problem.status !== 401) throw problem; // unavailable or busy: the refresh token is still valid
    saveSession(null);
    ended.listener();
    throw new ApiError(401, "Your session has ended; sign in again.");
  }
  return send(method, path, { ...more, token: session.token });
}

export async function signIn(username, password) {
  const reply = await send("POST", "/2/oauth2/token", { form: { grant_type: "password", username, password } });
  const user = await send("GET", "/2/users/me", { token: reply.access_token });
  saveSession({ token: reply.access_token, refresh: reply.refresh_token ?? null, user: user.data });
}

export async function signUp(name, username, password) {
  await send("POST", "/2/users", { body: { name, username, password } });
  await signIn(username, password);
}

/** Sign out: revoke both tokens if the lab responds, and remove them from this tab. */
export async function signOut() {
  const { token, refresh } = session ?? {};
  saveSession(null);
  for (const value of [refresh, token]) {
    if (value) await send("POST", "/2/oauth2/revoke", { form: { token: value }, token }).catch(() => {});
  }
}

export async function refreshMe() {
  const reply = await call("GET", "/2/users/me");
  if (session) saveSession({ ...session, user: reply.data });
  return reply.data;
}

const query = (parts) => new URLSearchParams(Object.entries(parts).filter(([, value]) => value !== undefined && value !== null));

/** Return { tweets, users (by id), next } of a list of tweets. */
async function list(path, parts) {
  const reply = await call("GET", `${path}?${query({ ...TWEET_QUERY, max_results: PAGE, ...parts })}`);
  const users = new Map((reply.includes?.users ?? []).map((user) => [user.id, user]));
  return { tweets: reply.data ?? [], users, next: reply.meta?.next_token ?? null };
}

export const home = (parts) => list(`/2/users/${me().id}/timelines/reverse_chronological`, parts);
export const tweetsOf = (id, parts) => list(`/2/users/${id}/tweets`, parts);
export const search = (words, parts) => list("/2/tweets/search/recent", { query: words, ...parts });

export async function tweet(id) {
  const reply = await call("GET", `/2/tweets/${id}?${query(TWEET_QUERY)}`);
  return { tweet: reply.data, author: reply.includes?.users?.[0] };
}

// The connection to the user is returned only if named, and then every other field has to be named too.
const USER_QUERY = { "user.fields": "connection_status,created_at,protected,public_metrics" };

export const userNamed = async (name) => (await call("GET", `/2/users/by/username/${encodeURIComponent(name)}?${query(USER_QUERY)}`)).data;
export const remove = (id) => call("DELETE", `/2/tweets/${id}`);

/** Post. `key`: idempotency key, so that a retry after a lost response makes no second tweet. */
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

// Lists of users are ordered by id and their cursor is the last id: a page of one user after `id - 1` shows whether the list
// contains this user, however long it is.
async function contains(path, id) {
  const reply = await call("GET", `${path}?${query({ max_results: 1, pagination_token: String(BigInt(id) - 1n) })}`);
  return reply.data?.[0]?.id === id;
}

export const likes = (tweetId) => contains(`/2/tweets/${tweetId}/liking_users`, me().id);

export const requests = async () => (await call("GET", `/2/users/${me().id}/follow_requests?max_results=100`)).data ?? [];
export const approve = (id) => call("POST", `/2/users/${me().id}/follow_requests/${id}`);
export const refuse = (id) => call("DELETE", `/2/users/${me().id}/follow_requests/${id}`);

export async function changeProfile(changes) {
  const reply = await call("PUT", "/2/users/me", { body: changes });
  saveSession({ ...session, user: { ...session.user, ...reply.data } });
  return session.user;
}

/** Upload a picture: start, PUT the bytes directly to storage, finish. Returns the id of the medium. */
export async function upload(file) {
  const bytes = await file.arrayBuffer();
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  const sha256 = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  const { data } = await call("POST", "/2/media/upload/initialize", { body: { media_type: file.type, total_bytes: file.size, sha256 } });
  const headers = new Headers({ "content-type": file.type, "x-amz-checksum-sha256": btoa(String.fromCharCode(...digest)) });
  for (const [name, value] of Object.entries(data.upload_headers ?? {})) headers.set(name, value);
  const put = await fetch(data.upload_url, { method: data.upload_method ?? "PUT", body: bytes, headers, credentials: "omit" })
    .catch(() => null);
  if (!put?.ok) throw new ApiError(put?.status ?? 0, `The picture was not accepted (${put ? put.status : "no response"}).`);
  await call("POST", `/2/media/upload/${data.id}/finalize`);
  return data.id;
}

/** Return a signed URL of a picture; it is valid for some minutes. */
export const mediaUrl = async (key) => (await call("GET", `/2/media/${encodeURIComponent(key)}`)).data.url;
