"""A correct Twitter in memory that writes a client history in which every invariant holds.

Each operation takes effect at one instant between its sending and its answer (an `info` possibly later or
never, a `fail` never). Operations overlap. Pushes arrive late, at a different time for each follower; pulled
authors are merged immediately. So no history generated here may fail an invariant, whatever the seed.
"""

from __future__ import annotations

import bisect
import heapq
import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from chaos.evidence.history import DEFAULTS
from system.kernel import ids

START_NS = 5_000_000_000_000
START_MS = 1_800_000_000_000
S = 1_000_000_000
QUIET_NS = 30 * S  # between the last operation and the final reads


@dataclass(frozen=True)
class Size:
    """The size of a fixture.

    `rate_per_s`: operations sent per second. `follows`: seeded follows per user. `history`: seeded tweets per
    user. `pulled`, `protected`: number of such users. `page`: tweets per page.
    """

    users: int = 30
    operations: int = 1200
    rate_per_s: float = 100.0
    follows: int = 6
    history: int = 3
    pulled: int = 2
    page: int = 8
    protected: int = 2


@dataclass
class WorldTweet:
    """A tweet. `posted_ns`: when it took effect. `deleted_ns`: None while it exists."""

    id: int
    author: int
    posted_ns: int
    deleted_ns: int | None = None


class World:
    """The state of the system and the history it writes. `run` executes all operations in order of effect."""

    def __init__(self, seed: int, size: Size) -> None:
        self.rng = random.Random(seed)
        self.size = size
        self.users = range(1, size.users + 1)
        self.rows: list[dict[str, Any]] = []
        self.tweets: dict[int, WorldTweet] = {}
        self.by_author: dict[int, list[int]] = {user: [] for user in self.users}
        self.following: dict[int, dict[int, int]] = {user: {} for user in self.users}
        self.pulled = frozenset(range(1, size.pulled + 1))
        self.protected = frozenset(range(size.pulled + 1, min(size.pulled + size.protected, size.users) + 1))
        self.cursors: dict[int, tuple[str, int, str, int]] = {}
        self._last_id: dict[int, tuple[int, int]] = {}
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._salt = self.rng.getrandbits(32)
        self._seed_data()
        self.seeded_edges = [(user, author) for user in self.users for author in self.following[user]]

    def _seed_data(self) -> None:
        for user in self.users:
            for _ in range(self.size.history):
                at_ns = START_NS - self.rng.randrange(60 * S, 6000 * S)
                self._store(self._new_id(at_ns, 1000), user, at_ns)
            others = [other for other in self.users if other != user]
            for author in self.rng.sample(others, min(self.size.follows, len(others))):
                self.following[user][author] = START_NS - 7000 * S
        self.seeded = sorted(self.tweets)

    def _new_id(self, at_ns: int, worker: int | None = None) -> int:
        worker = self.rng.randrange(3) if worker is None else worker
        ms = START_MS + (at_ns - START_NS) // 1_000_000
        last_ms, last = self._last_id.get(worker, (0, 0))
        sequence = last + 1 if last_ms == ms or worker == 1000 else 0
        self._last_id[worker] = (ms, sequence)
        return ids.compose(ms, worker, sequence & ids.MAX_SEQUENCE)

    def _store(self, tweet_id: int, author: int, at_ns: int) -> None:
        self.tweets[tweet_id] = WorldTweet(tweet_id, author, at_ns)
        bisect.insort(self.by_author[author], tweet_id)

    # ---- what a reader sees ----

    def delay_ns(self, tweet_id: int, reader: int) -> int:
        """Return how long the push of a tweet to one reader takes."""
        if self.tweets[tweet_id].author in self.pulled:
            return 0
        return hash((tweet_id, reader, self._salt)) % (2 * S)

    def sees(self, reader: int, tweet_id: int, at_ns: int) -> bool:
        """Return whether the reader's home holds the tweet at `at_ns`; deletes apply immediately."""
        tweet = self.tweets[tweet_id]
        if tweet.posted_ns > at_ns or (tweet.deleted_ns is not None and tweet.deleted_ns <= at_ns):
            return False
        if tweet.author == reader:
            return True
        since = self.following[reader].get(tweet.author)
        return since is not None and max(tweet.posted_ns, since) + self.delay_ns(tweet_id, reader) <= at_ns

    def may_read(self, reader: int, author: int) -> bool:
        """Return whether the reader may read the author, by the current edges."""
        return author not in self.protected or author == reader or author in self.following[reader]

    def newest(self, authors: list[int], below: int) -> Iterator[int]:
        """Yield the authors' tweet ids below `below`, newest first, deleted ones included."""
        return heapq.merge(*(self._descending(author, below) for author in authors), reverse=True)

    def _descending(self, author: int, below: int) -> Iterator[int]:
        own = self.by_author[author]
        return (own[i] for i in range(bisect.bisect_left(own, below) - 1, -1, -1))

    def page(self, route: str, reader: int, subject: int, below: int, at_ns: int) -> tuple[list[int], int, bool]:
        """Return one page as (ids, lowest id scanned, whether nothing is left)."""
        home = route == "home"
        authors = [subject, *self.following[subject]] if home else [subject]
        shown: list[int] = []
        for tweet_id in self.newest(authors, below):
            tweet = self.tweets[tweet_id]
            live = tweet.deleted_ns is None or tweet.deleted_ns > at_ns
            if self.sees(subject, tweet_id, at_ns) if home else live and tweet.posted_ns <= at_ns:
                shown.append(tweet_id)
                if len(shown) == self.size.page:
                    return shown, tweet_id, False
        return shown, 0, True

    # ---- operations ----

    def run(self) -> int:
        """Execute all operations; return the time after which nothing changes."""
        at_ns = START_NS
        for op in range(self.size.operations):
            at_ns += int(self.rng.expovariate(self.size.rate_per_s) * S) + 1
            self._at(at_ns, self._planned(op, at_ns))
        end_ns = at_ns
        while self._events:
            end_ns, _, act = heapq.heappop(self._events)
            act()
        self.rows.sort(key=lambda row: (row["op"], row["attempt"]))
        return end_ns + QUIET_NS

    def _at(self, at_ns: int, act: Callable[[], None]) -> None:
        heapq.heappush(self._events, (at_ns, next(self._order), act))

    def _planned(self, op: int, sent_ns: int) -> Callable[[], None]:
        route = self.rng.choices(("home", "user_tweets", "post", "delete", "follow", "unfollow", "tweet"),
                                 (45, 20, 15, 5, 5, 5, 5))[0]
        return lambda: self._send(op, route, sent_ns)

    def _send(self, op: int, route: str, sent_ns: int) -> None:
        """Choose outcome and times, then schedule effect and answer."""
        outcome = self.rng.choices(("ok", "info", "fail"), (92, 5, 3))[0]
        done_ns = sent_ns + self.rng.randrange(1_000_000, 60_000_000)
        row = DEFAULTS | {"op": op, "route": route, "user": self.rng.choice(self.users), "sent_ns": sent_ns, "due_ns": sent_ns,
                          "done_ns": done_ns, "outcome": outcome, "status": {"ok": 200, "info": 0, "fail": 400}[outcome]}
        row["session"] = f"s{row['user']}"
        self.rows.append(row)
        effect_ns = self.rng.randrange(sent_ns, done_ns)
        if outcome == "info":
            effect_ns += self.rng.randrange(0, S)
        happens = outcome == "ok" or (outcome == "info" and self.rng.random() < 0.5)
        getattr(self, f"_{route}")(row, effect_ns, happens)

    def _post(self, row: dict[str, Any], effect_ns: int, happens: bool) -> None:
        row["key"] = f"k{row['op']}"
        row["body_sha"] = f"b{row['op']}"
        retried = row["outcome"] == "info" and self.rng.random() < 0.6
        if not happens and not retried:
            return
        made_ns = self.rng.randrange(row["sent_ns"], min(effect_ns, row["done_ns"]) + 1)

        def make() -> None:
            row["made"] = self._new_id(made_ns if made_ns > self._last_ns() else effect_ns)
            if row["outcome"] == "ok":
                row["tweet_id"] = row["made"]
            self._at(effect_ns, lambda: self._store(row["made"], row["user"], effect_ns))

        self._at(made_ns, make)
        if retried:
            retry = row | {"attempt": 1, "retry_of": row["op"], "outcome": "ok", "status": 201,
                           "sent_ns": row["done_ns"] + 50_000_000}
            retry["done_ns"] = max(retry["sent_ns"], effect_ns) + self.rng.randrange(1_000_000, 30_000_000)
            self.rows.append(retry)
            self._at(effect_ns + 1, lambda: retry.update(tweet_id=row["made"]))

    def _last_ns(self) -> int:
        newest_ms = max((ms for worker, (ms, _) in self._last_id.items() if worker != 1000), default=0)
        return START_NS + (newest_ms - START_MS) * 1_000_000

    def _delete(self, row: dict[str, Any], effect_ns: int, happens: bool) -> None:
        own = [t for t in self.by_author[row["user"]] if self.tweets[t].deleted_ns is None]
        if not own:
            row["outcome"] = "fail"
            return
        row["target"] = self.rng.choice(own)
        if happens:
            tweet = self.tweets[row["target"]]
            self._at(effect_ns, lambda: setattr(tweet, "deleted_ns", min(effect_ns, tweet.deleted_ns or effect_ns)))

    def _follow(self, row: dict[str, Any], effect_ns: int, happens: bool) -> None:
        follower, author = row["user"], self.rng.choice([user for user in self.users if user != row["user"]])
        row["target"] = author
        if author in self.protected:  # the protected author approves the follower
            row.update(route="follow_approve", user=author, target=follower, session=f"s{author}")
        if happens:
            self._at(effect_ns, lambda: self._edge(follower, author, effect_ns))

    def _unfollow(self, row: dict[str, Any], effect_ns: int, happens: bool) -> None:
        followed = list(self.following[row["user"]])
        row["target"] = self.rng.choice(followed) if followed else 1 + row["user"] % self.size.users
        if happens:
            self._at(effect_ns, lambda: self._edge(row["user"], row["target"], None))

    def _edge(self, follower: int, author: int, since_ns: int | None) -> None:
        """Create the edge with its time, or remove it (None)."""
        if since_ns is None:
            self.following[follower].pop(author, None)
        else:
            self.following[follower].setdefault(author, since_ns)

    def _tweet(self, row: dict[str, Any], effect_ns: int, happens: bool) -> None:
        row["target"] = self.rng.choice(list(self.tweets)) if len(self.tweets) < 5000 else next(iter(self.tweets))

        def look() -> None:
            tweet = self.tweets[row["target"]]
            deleted = tweet.deleted_ns is not None and tweet.deleted_ns <= effect_ns
            if row["outcome"] == "ok" and (deleted or not self.may_read(row["user"], tweet.author)):
                row["outcome"], row["status"] = "fail", 404
            elif row["outcome"] == "ok":
                row.update(page_ids=[tweet.id], page_authors=[tweet.author])

        self._at(effect_ns, look)

    def _home(self, row: dict[str, Any], effect_ns: int, happens: bool) -> None:
        self._walk(row, row["user"], effect_ns)

    def _user_tweets(self, row: dict[str, Any], effect_ns: int, happens: bool) -> None:
        row["target"] = row["user"] if self.rng.random() < 0.3 else self.rng.choice(self.users)
        self._walk(row, row["target"], effect_ns)

    def _walk(self, row: dict[str, Any], subject: int, effect_ns: int) -> None:
        """Read a first page, or the next page of the walk that this user started."""
        open_ = self.cursors.pop(row["user"], None)
        below = ids.MAX_ID
        if open_ and open_[:2] == (row["route"], subject):
            row["cursor_in"], below = open_[2], open_[3]

        def read() -> None:
            if row["outcome"] == "ok" and not self.may_read(row["user"], subject):
                row["outcome"], row["status"] = "fail", 403
            if row["outcome"] != "ok":
                return
            shown, low, last = self.page(row["route"], row["user"], subject, below, effect_ns)
            row.update(page_ids=shown, page_authors=[self.tweets[t].author for t in shown], scanned_low=low,
                       cursor_out="" if last else f"c{low}", source="hit")
            if not last and self.rng.random() < 0.7:
                self._at(row["done_ns"], lambda: self.cursors.update(
                    {row["user"]: (row["route"], subject, f"c{low}", low)}))

        self._at(effect_ns, read)
