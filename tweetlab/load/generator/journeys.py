"""The request of each route, and the columns that are read from its reply. Runs in Locust's process.

`REQUESTS` is the table: to add a route, add its builder. Builders get only the tape's row and the ledger; ids
of users and tweets are sent as decimal strings, in the shapes of Twitter's API v2.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson

from scenarios.world import seeded_tweets
from system.kernel import ids
from tweetlab.load.generator.acknowledged import Ledger, Own
from tweetlab.load.generator.wire import Answer

PAGE = 20  # tweets per page; the shape that the bench measures
FIELDS = "tweet.fields=author_id"
SERVICES = frozenset({"users", "tweets", "timelines", "search", "media", "likes"})
OWN_WORD_SHARE = 0.5  # of searches that use a word of this run instead of a seeded one
PAST_SHARE = 0.1  # of second pages that are far back instead of next: readers who resume at an old position
PAST_ID = ids.floor_id(seeded_tweets.END_MS - round(0.8 * seeded_tweets.DAYS * 86_400_000))  # most lists of 800 end above it
Row = dict[str, Any]


@dataclass(frozen=True)
class Op:
    """A row of the tape as it is played.

    `seed`: of the tape; the operation's random draws derive from it and `number`.
    """

    number: int
    route: str
    user: int
    target: int
    due_ns: int
    seed: int

    def draw(self) -> random.Random:
        """Return the operation's own random source."""
        return random.Random(self.seed << 32 | self.number)


@dataclass(frozen=True)
class Request:
    """`known`: columns of the row that are known before the reply. `word`: the unique word of a post."""

    method: str
    path: str
    body: bytes = b""
    user: int = 0
    word: str = ""
    known: Row = field(default_factory=dict)


def _home(op: Op, ledger: Ledger) -> Request:
    return home_page(op.user, "")


def home_page(user: int, cursor: str) -> Request:
    """Return the request for one page of a home timeline; an empty cursor requests the newest."""
    token = f"&pagination_token={cursor}" if cursor else ""
    return Request("GET", f"/2/users/{user}/timelines/reverse_chronological?max_results={PAGE}&{FIELDS}{token}",
                   known={"cursor_in": cursor} if cursor else {})


def second_cursor(op: Op, cursor: str) -> str:
    """Return the cursor of a second home page: the end of the first, or (PAST_SHARE) far below it."""
    far = op.draw().random() < PAST_SHARE and cursor.isdecimal() and int(cursor) > PAST_ID
    return str(PAST_ID) if far else cursor


def _user_tweets(op: Op, ledger: Ledger) -> Request:
    return Request("GET", f"/2/users/{op.target}/tweets?max_results={PAGE}&{FIELDS}", known={"target": op.target})


def _tweet(op: Op, ledger: Ledger) -> Request:
    return Request("GET", f"/2/tweets/{op.target}?{FIELDS}", known={"target": op.target})


def _profile(op: Op, ledger: Ledger) -> Request:
    return Request("GET", f"/2/users/{op.target}", known={"target": op.target})


def _follow(op: Op, ledger: Ledger) -> Request:
    body = orjson.dumps({"target_user_id": str(op.target)})
    return Request("POST", f"/2/users/{op.user}/following", body, known={"target": op.target})


def _like(op: Op, ledger: Ledger) -> Request:
    body = orjson.dumps({"tweet_id": str(op.target)})
    return Request("POST", f"/2/users/{op.user}/likes", body, known={"target": op.target})


def _follow_approve(op: Op, ledger: Ledger) -> Request:
    return Request("POST", f"/2/users/{op.user}/follow_requests/{op.target}", known={"target": op.target})


def _unfollow(op: Op, ledger: Ledger) -> Request:
    return Request("DELETE", f"/2/users/{op.user}/following/{op.target}", known={"target": op.target})


def post_text(op: Op) -> tuple[str, str]:
    """Return the text of a post and the one word that no other tweet of any run with this seed has."""
    draw, words = op.draw(), seeded_tweets.vocabulary()
    unique = f"{draw.choice(words[:200])}{op.number}x{op.seed}"
    chosen = [words[min(int(draw.paretovariate(0.6)) - 1, seeded_tweets.WORDS - 1)] for _ in range(draw.randint(2, 8))]
    tag = f" #{words[draw.randrange(seeded_tweets.TAGS)]}" if draw.random() < 0.4 else ""
    return f"{' '.join(chosen)} {unique}{tag}", unique


def _post(op: Op, ledger: Ledger) -> Request:
    text, word = post_text(op)
    return Request("POST", "/2/tweets", orjson.dumps({"text": text}), word=word)


def _reply(op: Op, ledger: Ledger) -> Request:
    text, word = post_text(op)
    own = ledger.to_answer(op.draw()) if op.target == 0 else None
    parent = own.tweet_id if own else op.target
    body: Row = {"text": text, **({"reply": {"in_reply_to_tweet_id": str(parent)}} if parent else {})}
    return Request("POST", "/2/tweets", orjson.dumps(body), word=word, known={"target": parent})


def _delete(op: Op, ledger: Ledger) -> Request | None:
    own = ledger.to_delete(op.target)
    if own is None:
        return None
    return Request("DELETE", f"/2/tweets/{own.tweet_id}", user=own.author, known={"target": own.tweet_id})


def _search(op: Op, ledger: Ledger) -> Request:
    draw = op.draw()
    own: Own | None = ledger.to_find(draw, op.due_ns) if draw.random() < OWN_WORD_SHARE else None
    word = own.word if own else seeded_tweets.vocabulary()[op.target]
    return Request("GET", f"/2/tweets/search/recent?query={word}&max_results={PAGE}&{FIELDS}",
                   known={"target": own.tweet_id} if own else {})


REQUESTS: dict[str, Callable[[Op, Ledger], Request | None]] = {
    "delete": _delete, "follow": _follow, "follow_approve": _follow_approve, "follow_request": _follow, "home": _home,
    "like": _like, "post": _post, "profile": _profile, "reply": _reply, "search": _search, "tweet": _tweet,
    "unfollow": _unfollow, "user_tweets": _user_tweets,
}
"""Route -> its request; None if there is nothing to request (a delete with no own tweet left)."""


def read(route: str, answer: Answer) -> Row:
    """Return the columns from the reply. A body that breaks the API's contract makes the row `info`."""
    row = _headers(answer)
    if answer.outcome != "ok" or not answer.body:
        return row
    try:
        row.update(_body(route, orjson.loads(answer.body)))
    except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError, ValueError) as problem:
        row.update(outcome="info", error=f"unreadable reply: {type(problem).__name__} {problem}"[:120])
    return row


def _body(route: str, body: Any) -> Row:
    data = body.get("data")
    if route in ("home", "user_tweets", "search"):
        tweets = data or []
        token = body.get("meta", {}).get("next_token")
        return {"page_ids": [int(tweet["id"]) for tweet in tweets],
                "page_authors": [int(tweet["author_id"]) for tweet in tweets],
                **({"cursor_out": str(token)} if token else {})}
    if route in ("post", "reply"):
        return {"tweet_id": int(data["id"])}
    if route == "tweet":
        return {"page_ids": [int(data["id"])], "page_authors": [int(data["author_id"])]}
    return {}


def _headers(answer: Answer) -> Row:
    get = answer.headers.get
    row: Row = {}
    for column, name in (("source", "x-tweetlab-source"), ("instance", "x-tweetlab-instance"), ("region", "x-tweetlab-region")):
        if value := get(name):
            row[column] = value if isinstance(value, str) else value[0]
    if scanned := get("x-tweetlab-scanned"):
        row["scanned_low"] = int(str(scanned)) if str(scanned).isdecimal() else 0
    timing = get("server-timing")
    if timing:
        row.update(hops(timing if isinstance(timing, str) else ", ".join(timing)))
    return row


def hops(timing: str) -> Row:
    """Return gateway_us, service_us and store_us of a `server-timing` header; missing ones are left out."""
    row: Row = {}
    for part in timing.split(","):
        name, _, rest = part.strip().partition(";dur=")
        try:
            us = float(rest) * 1e3
        except ValueError:
            continue
        column = "gateway_us" if name == "gateway" else "service_us" if name in SERVICES else "store_us"
        row[column] = row.get(column, 0.0) + us
    return row


def sha(body: bytes) -> str:
    """Return the hash of a body for the history; "" for an empty body."""
    return hashlib.sha256(body).hexdigest()[:16] if body else ""
