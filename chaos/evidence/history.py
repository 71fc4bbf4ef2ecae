"""The client history of a run, indexed for the invariants.

A history has one row per attempt, with one of three outcomes, as in Jepsen: `ok` (2xx, fully read), `fail`
(certainly no effect) or `info` (it may have happened, now or at any later time). So an `ok` took effect
within [sent, done], an `info` within [sent, infinity), a `fail` never. Times are CLOCK_MONOTONIC in ns and
comparable within a run; a row with `sent_ns` 0 was never sent and is left out. An id of 0 means none.

A page covers a range of ids: [low, high). It claims to show everything within the range and says nothing
about the rest. `low` is the lowest id that the server scanned; `high` is the `low` of the previous page of
the same pagination, or infinity for a first page. Where the server did not report `low`, the range is cut to
the ids shown.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

NEVER_NS = 1 << 62  # an `info` attempt may take effect as late as this
TOP_ID = (1 << 63) - 1  # upper end of a first page
HOME, PROFILE, TWEET = "home", "user_tweets", "tweet"
POSTS = ("post", "reply")
MEDIA = "media"
DEFAULTS: dict[str, Any] = {
    "op": -1, "attempt": 0, "retry_of": -1, "route": "", "user": -1, "session": "", "due_ns": 0, "sent_ns": 0,
    "done_ns": 0, "outcome": "info", "status": 0, "error": "", "key": "", "body_sha": "", "tweet_id": 0,
    "target": 0, "page_ids": None, "page_authors": None, "cursor_in": "", "cursor_out": "", "scanned_low": 0,
    "source": "", "instance": "", "trace": "",
}


@dataclass(frozen=True, slots=True)
class Post:
    """A tweet that a client requested.

    `key`: idempotency key, empty where none was sent. `tweet_ids`: every id that an attempt returned (a
    single one if the server honors idempotency keys). `sent_ns`: when the first attempt was sent. `acked_ns`:
    when the first `ok` was read. `maybe`: an attempt ended `info`. `rows`: its attempts in the history.
    `bodies`: distinct hashes of acknowledged bodies.
    """

    user: int
    key: str
    tweet_ids: tuple[int, ...]
    sent_ns: int
    acked_ns: int
    maybe: bool
    rows: tuple[int, ...]
    bodies: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Change:
    """A delete, follow, unfollow, like or unlike that may have happened.

    `on`: it adds the edge or like; False: it removes it, or deletes the tweet. `ok`: it certainly happened
    within [sent_ns, done_ns]. `done_ns`: NEVER_NS for an `info`.
    """

    on: bool
    ok: bool
    sent_ns: int
    done_ns: int
    row: int


@dataclass(frozen=True, slots=True)
class Read:
    """A page that was fully read, in the history (`row` >= 0) or in the final reads (`row` = -1).

    `subject`: whose timeline it is: the reader for a home page, the author for a profile. `low`, `high`: the
    range of ids that it covers. `continues`: the previous page of the same pagination is known.
    """

    route: str
    user: int
    subject: int
    session: str
    sent_ns: int
    done_ns: int
    ids: list[int]
    authors: list[int]
    low: int
    high: int
    continues: bool
    row: int


def covered_low(scanned_low: int, cursor_out: str, ids: Sequence[int], high: int) -> int:
    """Return the lowest id that a page covers (inclusive); `high` for a page that covers nothing."""
    if scanned_low > 0:
        return min(scanned_low, high)
    if not cursor_out:
        return 0
    return min(ids) if ids else high


def numbers(values: Any) -> list[int]:
    """Return the cell of a page column (list, array or missing) as a list of int."""
    if values is None or isinstance(values, float):
        return []
    return [int(v) for v in (values.tolist() if isinstance(values, np.ndarray) else values)]


class History:
    """The rows of a history and the indexes over them; each index is built on first use.

    Raises ValueError where the frame lacks a required column.
    """

    def __init__(self, frame: pd.DataFrame) -> None:
        if missing := {"route", "user", "sent_ns", "done_ns", "outcome"} - set(frame.columns):
            raise ValueError(f"The history lacks the columns {sorted(missing)}; see the table of columns of a record.")
        self.size = len(frame)
        self._columns: dict[str, list[Any]] = {}
        for name, default in DEFAULTS.items():
            values = frame[name].tolist() if name in frame.columns else [default] * self.size
            self._columns[name] = ["" if v is None or v != v else v for v in values] if default == "" else values
        self.sent = [row for row, sent_ns in enumerate(self._columns["sent_ns"]) if sent_ns > 0]
        self.start_ns = min((self._columns["sent_ns"][row] for row in self.sent), default=0)

    def column(self, name: str) -> list[Any]:
        """Return one column as a list; its default value where the history does not have it."""
        return self._columns[name]

    def rows_of(self, routes: Iterable[str]) -> list[int]:
        """Return the indexes of the rows of `routes` that were sent, in the order of the history."""
        wanted, route = frozenset(routes), self._columns["route"]
        return [row for row in self.sent if route[row] in wanted]

    def acknowledged(self, route: str) -> int:
        """Return how many attempts of a route ended `ok`."""
        return sum(self._columns["outcome"][row] == "ok" for row in self.rows_of((route,)))

    def describe(self, row: int) -> str:
        """Return one row as evidence: operation, user, outcome, and seconds from the first send."""
        c = self._columns
        target = f" {c['target'][row]}" if c["target"][row] > 0 else ""
        tweet = f" -> {c['tweet_id'][row]}" if c["tweet_id"][row] > 0 else ""
        source = f" [{c['source'][row]}]" if c["source"][row] else ""
        return (f"op {c['op'][row]} {c['route'][row]}{target} by {c['user'][row]}{tweet}: {c['outcome'][row]}{source} "
                f"@{self.seconds(c['sent_ns'][row]):.3f}..{self.seconds(c['done_ns'][row]):.3f} s")

    def seconds(self, at_ns: int) -> float:
        """Return a monotonic time as seconds since the first send."""
        return (at_ns - self.start_ns) / 1e9

    @functools.cached_property
    def pictures(self) -> dict[tuple[int, int], tuple[int, str]]:
        """Acknowledged uploads: (owner, number) -> (row, digest of its look: see `scenarios.world.pictures`)."""
        c = self._columns
        rows = [row for row in self.rows_of((MEDIA,)) if c["outcome"][row] == "ok" and c["target"][row] > 0]
        return {(int(c["user"][row]), int(c["target"][row])): (row, c["body_sha"][row]) for row in rows}

    @functools.cached_property
    def posts(self) -> list[Post]:
        """Every post or reply that was acknowledged or may have happened; one per idempotency key."""
        c = self._columns
        groups: dict[tuple[int, str], list[int]] = {}
        for row in self.rows_of(POSTS):
            key = c["key"][row]
            groups.setdefault((c["user"][row], key or f"\0{row}"), []).append(row)
        return [post for (user, key), rows in groups.items() if (post := self._post(user, key, rows))]

    def _post(self, user: int, key: str, rows: list[int]) -> Post | None:
        c = self._columns
        ok = [row for row in rows if c["outcome"][row] == "ok"]
        maybe = any(c["outcome"][row] == "info" for row in rows)
        if not ok and not maybe:
            return None
        ids = tuple(dict.fromkeys(c["tweet_id"][row] for row in ok if c["tweet_id"][row] > 0))
        acked_ns = min((c["done_ns"][row] for row in ok), default=NEVER_NS)
        bodies = frozenset(c["body_sha"][row] for row in ok if c["body_sha"][row])
        name = "" if key.startswith("\0") else key
        return Post(user, name, ids, min(c["sent_ns"][row] for row in rows), acked_ns, maybe, tuple(rows), bodies)

    @functools.cached_property
    def acked(self) -> dict[int, Post]:
        """Tweet id -> the post whose response contained it; of two such posts, the first."""
        posts: dict[int, Post] = {}
        for post in self.posts:
            for tweet_id in post.tweet_ids:
                posts.setdefault(tweet_id, post)
        return posts

    def _changes(self, routes: dict[str, bool]) -> dict[tuple[int, int], list[Change]]:
        c = self._columns
        by_pair: dict[tuple[int, int], list[Change]] = {}
        for row in self.rows_of(routes):
            outcome = c["outcome"][row]
            if outcome not in ("ok", "info"):
                continue
            ok = outcome == "ok"
            done_ns = c["done_ns"][row] if ok else NEVER_NS
            change = Change(routes[c["route"][row]], ok, c["sent_ns"][row], done_ns, row)
            by_pair.setdefault((c["user"][row], c["target"][row]), []).append(change)
        return by_pair

    @functools.cached_property
    def edges(self) -> dict[tuple[int, int], list[Change]]:
        """(follower, followee) -> the follows, approvals and unfollows that may have happened, in order."""
        return self._with_approvals(self._changes({"follow": True, "unfollow": False}))

    @functools.cached_property
    def admissions(self) -> dict[tuple[int, int], list[Change]]:
        """(follower, protected followee) -> the approvals and unfollows that may have happened.

        Follows are not included: to a protected user, a follow is only a request.
        """
        return self._with_approvals(self._changes({"unfollow": False}))

    def _with_approvals(self, by_pair: dict[tuple[int, int], list[Change]]) -> dict[tuple[int, int], list[Change]]:
        for (followee, follower), changes in self._changes({"follow_approve": True}).items():
            by_pair.setdefault((follower, followee), []).extend(changes)
        return by_pair

    @functools.cached_property
    def likes(self) -> dict[tuple[int, int], list[Change]]:
        """(user, tweet) -> the likes and unlikes that may have happened, in order."""
        return self._changes({"like": True, "unlike": False})

    @functools.cached_property
    def deletes(self) -> dict[int, list[Change]]:
        """Tweet id -> the deletes that may have happened."""
        by_tweet: dict[int, list[Change]] = {}
        for (_, tweet_id), changes in self._changes({"delete": False}).items():
            by_tweet.setdefault(tweet_id, []).extend(changes)
        return by_tweet

    def maybe_deleted(self, tweet_id: int, before_ns: int = NEVER_NS) -> bool:
        """Return whether a delete of `tweet_id` that may have happened was sent before `before_ns`."""
        return any(change.sent_ns < before_ns for change in self.deletes.get(tweet_id, ()))

    @functools.cached_property
    def reads(self) -> list[Read]:
        """Every home and profile page that was fully read, in order of sending."""
        c = self._columns
        rows = [row for row in self.rows_of((HOME, PROFILE)) if c["outcome"][row] == "ok"]
        rows.sort(key=lambda row: c["sent_ns"][row])
        lows: dict[tuple[str, int, int, str], int] = {}
        reads = []
        for row in rows:
            read = self._read(row, lows)
            if c["cursor_out"][row]:
                lows[read.route, read.user, read.subject, c["cursor_out"][row]] = read.low
            reads.append(read)
        return reads

    def _read(self, row: int, lows: dict[tuple[str, int, int, str], int]) -> Read:
        c = self._columns
        route, user, cursor = c["route"][row], c["user"][row], c["cursor_in"][row]
        subject = user if route == HOME else c["target"][row]
        ids = numbers(c["page_ids"][row])
        previous_low = lows.get((route, user, subject, cursor)) if cursor else None
        high = TOP_ID if not cursor else previous_low if previous_low is not None else max(ids, default=0) + 1
        low = covered_low(c["scanned_low"][row], c["cursor_out"][row], ids, high)
        return Read(route, user, subject, c["session"][row], c["sent_ns"][row], c["done_ns"][row], ids,
                    numbers(c["page_authors"][row]), low, high, previous_low is not None, row)
