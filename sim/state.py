"""The data of the model: follows, tweets, and the current contents of the cache.

The twin stores ids, not texts. A viewer's first page is the newest 20 ids of the authors they follow; it
exists in `live_home` only while their timeline is in Redis, so that a cache loss removes it and the next read
must rebuild it. Lists of authors, followers and followings are present or absent in the same way, hot tweets
are a set of resident ids. A prediction needs no more: which reads hit, how many author lists a rebuild hits,
how many tweets a page must fetch.

`Seeded` is the shared initial state of every replication; `World` is the mutable copy of one replication.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from scenarios import spec
from scenarios.world import population
from scenarios.world import seeded_tweets as histories
from system.kernel import ids

ABSENT_PUSH = 0.3  # one command of a push instead of three or four, for a follower whose timeline is not cached
PAGE = 20  # tweets per page, as the load driver requests
HOME, AUTHOR, FOLLOWERS, FOLLOWING = "home", "author", "followers", "following"
"""The kinds of cached list."""


@dataclass
class Seeded:
    """The population before the run. `recent`: author -> newest ids, ascending, at most PAGE.

    `tweets`: the ids of all seeded tweets. `pages`: viewer -> first page, newest first; filled on demand, since
    most viewers never appear.
    """

    graph: population.Graph
    recent: list[list[int]]
    seed: int
    tweets: frozenset[int] = frozenset()
    pages: dict[int, list[int]] = field(default_factory=dict)
    tables: Any = None  # the same for the compiled engine, once it has needed them

    @classmethod
    def of(cls, scenario: spec.Scenario, graph: population.Graph, past: histories.History | None = None) -> Seeded:
        """Hold the tweets that were seeded into the stores. `past`: None draws them again, as seeding does."""
        drawn = past
        if drawn is None:
            drawn = histories.generate(graph.users, scenario.population.history_tweets, scenario.seed)
        recent: list[list[int]] = [[] for _ in range(graph.users + 1)]
        order = np.argsort(drawn.authors, kind="stable")
        bounds = np.searchsorted(drawn.authors[order], np.arange(graph.users + 2))
        tweets = drawn.tweet_ids[order]
        for author in range(1, graph.users + 1):
            recent[author] = tweets[bounds[author] : bounds[author + 1]][-PAGE:].tolist()
        return cls(graph, recent, scenario.seed, frozenset(tweets.tolist()))

    def first_page(self, viewer: int) -> list[int]:
        """Return the viewer's newest PAGE ids at the start of the run, newest first."""
        page = self.pages.get(viewer)
        if page is None:
            authors = [*self.graph.following_of(viewer).tolist(), viewer]
            page = _newest(tweet for author in authors for tweet in self.recent[author])
            self.pages[viewer] = page
        return page


class World:
    """The data of one replication. Every method is one atomic change or read, at the current simulated time.

    `live_home`: viewer -> page, only while the timeline is complete in the cache. `lists`: kind -> users whose list of that
    kind is complete (timelines are in `live_home`). `hot`: tweet ids resident in the cache.
    """

    def __init__(self, seeded: Seeded, start_ms: int) -> None:
        self.seeded = seeded
        self.graph = seeded.graph
        self.start_ms = start_ms
        self.live_home: dict[int, list[int]] = {}
        self.lists: dict[str, set[int]] = {AUTHOR: set(), FOLLOWERS: set(), FOLLOWING: set()}
        self.hot: set[int] = set()
        self.pulled: dict[int, None] = {}
        self.deleted: set[int] = set()
        self.losses = 0
        self._followers: dict[int, list[int]] = {}
        self._followings: dict[int, dict[int, None]] = {}
        self._recent: dict[int, list[int]] = {}
        self._posted: dict[int, list[int]] = {}
        self._sequence = 0

    # ---- the stores ----------------------------------------------------------------------------------

    def audience(self, author: int) -> int:
        """Return the author's current number of followers."""
        known = self._followers.get(author)
        start = self.graph.follower_start
        return len(known) if known is not None else int(start[author + 1] - start[author])

    def followers_of(self, author: int) -> list[int]:
        """Return the current follower ids; the caller must not change the list."""
        known = self._followers.get(author)
        if known is None:
            known = self._followers[author] = self.graph.followers_of(author).tolist()
        return known

    def followings_of(self, viewer: int) -> dict[int, None]:
        """Return the currently followed ids, in order of the follow; the caller must not change them."""
        known = self._followings.get(viewer)
        if known is None:
            known = self._followings[viewer] = dict.fromkeys(self.graph.following_of(viewer).tolist())
        return known

    def recent_of(self, author: int) -> list[int]:
        """Return the author's newest ids, ascending, at most PAGE."""
        return self._recent.get(author) or self.seeded.recent[author]

    def new_id(self, now_s: float) -> int:
        """Return an id as the system generates them: current time, one worker, an increasing sequence."""
        self._sequence = (self._sequence + 1) & ids.MAX_SEQUENCE
        return ids.floor_id(self.start_ms + int(now_s * 1000)) + self._sequence

    def write(self, author: int, tweet: int) -> None:
        """Store a tweet; add it to its author's own lists if they are cached."""
        recent = self._recent.get(author)
        if recent is None:
            recent = self._recent[author] = list(self.seeded.recent[author])
        recent.append(tweet)
        del recent[:-PAGE]
        self._posted.setdefault(author, []).append(tweet)
        self.push(tweet, (author,))

    def delete(self, author: int) -> int:
        """Delete the author's last tweet of this run; return its id, 0 if there is none."""
        own = self._posted.get(author)
        if not own:
            return 0
        tweet = own.pop()
        self.deleted.add(tweet)
        recent = self._recent.get(author)
        if recent and tweet in recent:
            recent.remove(tweet)
        self.hot.discard(tweet)
        return tweet

    def follow(self, viewer: int, author: int) -> None:
        """Add the edge."""
        if author not in self.followings_of(viewer):
            self.followings_of(viewer)[author] = None
            self.followers_of(author).append(viewer)

    def unfollow(self, viewer: int, author: int) -> None:
        """Remove the edge."""
        if author in self.followings_of(viewer):
            del self.followings_of(viewer)[author]
            self.followers_of(author).remove(viewer)

    # ---- the cache -----------------------------------------------------------------------------------

    def page_of(self, viewer: int) -> list[int]:
        """Return the viewer's first page from the stores, newest first."""
        if viewer not in self._followings and not self._recent:
            return self.seeded.first_page(viewer)
        followed = self.followings_of(viewer)
        changed = [author for author in self._recent if author in followed or author == viewer]
        if viewer not in self._followings or followed.keys() == set(self.graph.following_of(viewer).tolist()):
            fresh = [tweet for author in changed for tweet in self._recent[author]]
            base = [tweet for tweet in self.seeded.first_page(viewer) if tweet not in self.deleted]
            return _newest(set(base).union(fresh))
        return _newest(tweet for author in (*followed, viewer) for tweet in self.recent_of(author))

    def is_complete(self, kind: str, owner: int) -> bool:
        """Return whether the list is complete in the cache."""
        return owner in (self.live_home if kind == HOME else self.lists[kind])

    def complete(self, kind: str, owner: int) -> None:
        """Mark the list as complete after a build."""
        if kind == HOME:
            self.live_home[owner] = list(self.page_of(owner))
        else:
            self.lists[kind].add(owner)

    def drop(self, *lists: tuple[str, int]) -> None:
        """Delete lists; an absent list is always correct."""
        for kind, owner in lists:
            if kind == HOME:
                self.live_home.pop(owner, None)
            else:
                self.lists[kind].discard(owner)

    def absent_authors(self, viewer: int) -> list[int]:
        """Return the authors whose lists a rebuild of this viewer's timeline must read from Cassandra."""
        known = self.lists[AUTHOR]
        return [author for author in (*self.followings_of(viewer), viewer) if author not in known]

    def matches(self, word: int) -> list[int]:
        """Return the page of a search for word number `word`: the newest tweets of some author."""
        return self.recent_of(word % self.graph.users + 1)[-10:]

    def merged(self, page: Sequence[int], authors: Sequence[int]) -> list[int]:
        """Return a page merged with the newest tweets of pulled `authors`, newest first."""
        merged = set(page)
        for author in authors:
            merged.update(self.recent_of(author))
        return _newest(merged)

    def push(self, tweet: int, viewers: Iterable[int]) -> int:
        """Add a tweet to the live timelines of `viewers`; return their number."""
        pushed = 0
        live = self.live_home
        for viewer in viewers:
            page = live.get(viewer)
            if page is not None:
                pushed += 1
                if tweet not in page:
                    page.insert(0, tweet)
                    del page[PAGE:]
        return pushed

    def push_effort(self, author: int) -> float:
        """Return the work of a push per follower: 1 where their timeline is cached, ABSENT_PUSH where it is not."""
        followers = self.followers_of(author)
        live = sum(follower in self.live_home for follower in followers)
        return ABSENT_PUSH + (1.0 - ABSENT_PUSH) * live / len(followers) if followers else 1.0

    def entries_per_follower(self, author: int, history: int, cap: int) -> float:
        """Return the mean entries of the followers' cached timelines, which a removal rewrites; 0 for one that is not cached."""
        followers = self.followers_of(author)
        entries = sum(min(cap, (len(self.followings_of(one)) + 1) * history) for one in followers if one in self.live_home)
        return entries / len(followers) if followers else 0.0

    def cold(self, tweets: Iterable[int]) -> list[int]:
        """Return those of `tweets` that are not cached."""
        hot = self.hot
        return [tweet for tweet in tweets if tweet not in hot]

    def pulled_of(self, viewer: int) -> list[int]:
        """Return the pulled authors that this viewer follows."""
        return [author for author in self.followings_of(viewer) if author in self.pulled]

    def warm(self) -> None:
        """Complete every list and cache every tweet, as seeding does when it fills the cache."""
        users = range(1, self.graph.users + 1)
        self.live_home = {viewer: list(self.seeded.first_page(viewer)) for viewer in users}
        for members in self.lists.values():
            members.update(users)
        self.hot.update(self.seeded.tweets)

    def read_once(self, viewers: Iterable[int]) -> None:
        """Simulate one home read per viewer before the load: their lists are complete and their pages hot."""
        for viewer in viewers:
            self.lists[FOLLOWING].add(viewer)
            self.lists[AUTHOR].update(self.absent_authors(viewer))
            self.complete(HOME, viewer)
            self.hot.update(self.live_home[viewer])

    def keys(self) -> int:
        """Return the number of keys in the cache."""
        return len(self.live_home) + len(self.hot) + sum(len(members) for members in self.lists.values())

    def lose_cache(self) -> None:
        """Empty the cache."""
        self.losses += 1
        self.live_home.clear()
        self.hot.clear()
        for members in self.lists.values():
            members.clear()


def _newest(tweets: Iterable[int]) -> list[int]:
    """Return the PAGE highest ids, newest first.

    A sort beats a heap for the hundreds of ids of a page's sources.
    """
    return sorted(tweets, reverse=True)[:PAGE]
