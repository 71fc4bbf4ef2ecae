"""In-memory TimelineCache and TweetCache, held to the same contract tests as the Redis adapters.

One process, one event loop. `lose_everything` simulates a FLUSHALL or restart, `fail_over` a new primary that
still has the lists: both change the epoch, as the server's run id changes.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from system.kernel import clock as clocks
from system.kernel.events import Tweet
from system.kernel.policies import Policies
from system.ports import IS_COMPLETE, Chunk, Entry, HomePage, Kind, ListPage

USERS = (Kind.FOLLOWERS, Kind.FOLLOWING)


@dataclass
class _List:
    """One cached list. `ids`: ascending; `authors`: id -> author.

    `ends_ns`: monotonic expiry of a building list.
    """

    epoch: str
    token: str
    ends_ns: float
    complete: bool = False
    floor: int = 0
    ids: list[int] = field(default_factory=list)
    authors: dict[int, int] = field(default_factory=dict)

    def add(self, item: int, author_id: int) -> None:
        if item not in self.authors and item >= self.floor:
            bisect.insort(self.ids, item)
            self.authors[item] = author_id

    def remove(self, item: int) -> bool:
        if self.authors.pop(item, None) is None:
            return False
        self.ids.remove(item)
        return True

    def trim(self, cap: int, slack: int) -> None:
        if self.complete and len(self.ids) > cap + slack:
            for item in self.ids[:-cap]:
                del self.authors[item]
            self.ids = self.ids[-cap:]
            self.floor = self.ids[0]

    def users_above(self, after: int, count: int) -> tuple[list[int], bool]:
        at = bisect.bisect_right(self.ids, after)
        return self.ids[at:at + count], len(self.ids) > at + count


class MemoryTimelines:
    """The lists in memory."""

    def __init__(self, policies: Policies | None = None, clock: clocks.Clock | None = None) -> None:
        self._knobs = policies or Policies()
        self._clock = clock or clocks.SystemClock()
        self._lists: dict[tuple[Kind, int], _List] = {}
        self._numbers = itertools.count(1)
        self._epoch = self._next_epoch()

    def lose_everything(self) -> None:
        """Simulate a FLUSHALL with a restart: no lists, a new epoch."""
        self._lists.clear()
        self._epoch = self._next_epoch()

    def fail_over(self) -> None:
        """Simulate a new primary: the lists remain, but their marks have the old epoch."""
        self._epoch = self._next_epoch()

    async def close(self) -> None:
        """Do nothing; the contents stay. Safe to repeat."""

    async def ready(self) -> None:
        """Return immediately: always ready."""

    async def clear(self) -> None:
        """Delete all lists; the epoch stays."""
        self._lists.clear()

    async def epoch(self) -> str:
        return self._epoch

    # ---- reading

    async def home(self, user_id: int, pulled: Sequence[int], before: int | None, limit: int) -> HomePage:
        following = self._complete(Kind.FOLLOWING, user_id)
        merged = sorted(author for author in pulled if following and author in following.authors)
        wanted = [(Kind.HOME, user_id), (Kind.AUTHOR, user_id), *[(Kind.AUTHOR, author) for author in merged]]
        sources = [self._complete(*name) for name in wanted]
        missing = [name for name, source in zip(wanted, sources) if source is None]
        if following is None:
            missing.insert(sum(name[1] == user_id for name in missing), (Kind.FOLLOWING, user_id))
        if following is None or missing:
            return HomePage((), 0, 0, False, False, tuple(missing))
        floor = max(source.floor for source in sources if source)
        authors: dict[int, int] = {}
        for source in sources:
            authors.update(source.authors if source else {})
        shown = [Entry(item, author) for item, author in sorted(authors.items(), reverse=True)
                 if item >= floor and (before is None or item < before) and (author == user_id or author in following.authors)]
        page = _page(shown, floor, before, limit)
        return HomePage(page.entries, page.scanned, floor, page.exhausted, bool(merged))

    async def page(self, kind: Kind, owner: int, before: int | None, limit: int) -> ListPage | None:
        cached = self._complete(kind, owner)
        if cached is None:
            return None
        entries = [Entry(item, cached.authors[item]) for item in reversed(cached.ids) if before is None or item < before]
        return _page(entries, cached.floor, before, limit)

    async def pages(self, kind: Kind, owners: Sequence[int], before: int | None, limit: int) -> dict[int, ListPage]:
        pages = {owner: await self.page(kind, owner, before, limit) for owner in owners}
        return {owner: page for owner, page in pages.items() if page is not None}

    async def members(self, kind: Kind, owner: int) -> list[int] | None:
        cached = self._complete(kind, owner)
        return None if cached is None else list(cached.ids)

    # ---- building

    async def begin(self, kind: Kind, owner: int) -> str | None:
        live = self._live(kind, owner)
        if live is not None:
            return IS_COMPLETE if live.complete else None
        token = f"~memory-{next(self._numbers)}"
        ends_ns = self._clock.monotonic_ns() + self._knobs.timeline.building_ttl_s * 1e9
        self._lists[kind, owner] = _List(self._epoch, token, ends_ns)
        return token

    async def complete(self, kind: Kind, owner: int, token: str, entries: Iterable[Entry], floor: int) -> bool:
        cached = self._live(kind, owner)
        if cached is None or cached.complete or cached.token != token:
            return False
        for entry in entries:
            cached.add(entry.id, entry.author_id)
        for item in [item for item in cached.ids if item < floor]:
            cached.remove(item)
        cached.complete, cached.floor = True, floor
        if kind not in USERS:
            cached.trim(self._knobs.timeline.cap, 0)
        return True

    # ---- adding

    async def push_chunk(self, author_id: int, entry: Entry, after: int, token: str | None) -> Chunk:
        cached = self._complete(Kind.FOLLOWERS, author_id)
        if cached is None:
            return Chunk("absent", after, 0, 0, "")
        if token and token != cached.token:
            return Chunk("changed", after, 0, 0, cached.token)
        users, more = cached.users_above(after, self._knobs.fanout.chunk)
        pushed, skipped = await self.push(entry, users)
        return Chunk("more" if more else "done", users[-1] if users else after, pushed, skipped, cached.token)

    async def push(self, entry: Entry, owners: Sequence[int]) -> tuple[int, int]:
        pushed = sum(self._add(Kind.HOME, owner, [entry]) for owner in owners)
        return pushed, len(owners) - pushed

    async def add_own(self, entry: Entry) -> None:
        self._add(Kind.HOME, entry.author_id, [entry])
        self._add(Kind.AUTHOR, entry.author_id, [entry])

    async def back_fill(self, user_id: int, entries: Sequence[Entry]) -> bool:
        return self._add(Kind.HOME, user_id, entries)

    async def add_member(self, kind: Kind, owner: int, user_id: int) -> bool:
        cached = self._live(kind, owner)
        if cached is not None:
            cached.add(user_id, 0)
        return cached is not None

    # ---- removing

    async def drop(self, lists: Sequence[tuple[Kind, int]]) -> None:
        for name in lists:
            self._lists.pop(name, None)

    async def remove_tweet(self, entry: Entry, owners: Sequence[int]) -> None:
        self._remove(Kind.AUTHOR, entry.author_id, entry.id)
        for owner in (entry.author_id, *owners):
            self._remove(Kind.HOME, owner, entry.id)

    async def remove_tweet_chunk(self, author_id: int, entry: Entry, after: int) -> Chunk:
        cached = self._complete(Kind.FOLLOWERS, author_id)
        if cached is None:
            return Chunk("absent", after, 0, 0, "")
        users, more = cached.users_above(after, max(1, self._knobs.fanout.chunk // 8))
        removed = sum(self._remove(Kind.HOME, user, entry.id) for user in users)
        return Chunk("more" if more else "done", users[-1] if users else after, removed, len(users) - removed, cached.token)

    async def seed(self, kind: Kind, lists: Mapping[int, Sequence[Entry]], floor: int = 0) -> None:
        """Replace lists by complete ones with these entries. Safe to repeat."""
        for owner, entries in lists.items():
            self._lists.pop((kind, owner), None)
            token = await self.begin(kind, owner)
            await self.complete(kind, owner, token or "", entries, floor)

    def _next_epoch(self) -> str:
        return f"{next(self._numbers):040x}"

    def _live(self, kind: Kind, owner: int) -> _List | None:
        cached = self._lists.get((kind, owner))
        if cached is None or cached.epoch != self._epoch:
            return None
        if not cached.complete and self._clock.monotonic_ns() >= cached.ends_ns:
            del self._lists[kind, owner]
            return None
        return cached

    def _complete(self, kind: Kind, owner: int) -> _List | None:
        cached = self._live(kind, owner)
        return cached if cached is not None and cached.complete else None

    def _add(self, kind: Kind, owner: int, entries: Sequence[Entry]) -> bool:
        cached = self._live(kind, owner)
        if cached is None:
            return False
        for entry in entries:
            cached.add(entry.id, entry.author_id)
        cached.trim(self._knobs.timeline.cap, self._knobs.timeline.trim_slack)
        return True

    def _remove(self, kind: Kind, owner: int, item: int) -> bool:
        cached = self._lists.get((kind, owner))
        return cached is not None and cached.remove(item)


class MemoryHotTweets:
    """Hot tweets in memory. Nothing expires: the port allows a longer lifetime."""

    def __init__(self) -> None:
        self._tweets: dict[int, Tweet | None] = {}
        self._changes: list[frozenset[int] | None] = []

    async def close(self) -> None:
        """Do nothing. Safe to repeat."""

    async def ready(self) -> None:
        """Return immediately: always ready."""

    async def clear(self) -> None:
        """Remove all tweets."""
        self._tweets.clear()

    async def get(self, tweet_ids: Sequence[int]) -> dict[int, Tweet | None]:
        return {tweet_id: self._tweets[tweet_id] for tweet_id in tweet_ids if tweet_id in self._tweets}

    async def fill(self, tweets: Sequence[Tweet]) -> None:
        for tweet in tweets:
            if tweet.deleted:
                self._tweets[tweet.id] = None
            else:
                self._tweets.setdefault(tweet.id, tweet)

    async def mark_deleted(self, tweet_id: int) -> None:
        self._tweets[tweet_id] = None

    async def announce(self, user_ids: Sequence[int]) -> None:
        self._changes.append(frozenset(user_ids) or None)

    async def changes(self, since: int) -> tuple[int, frozenset[int] | None]:
        changes = self._changes[since:] if since >= 0 else []
        if None in changes:
            return len(self._changes), None
        return len(self._changes), frozenset().union(*(users for users in changes if users))


def _page(entries: Sequence[Entry], floor: int, before: int | None, limit: int) -> ListPage:
    """Return a page of the first `limit` entries; `entries` are all those below `before`, newest first."""
    exhausted = len(entries) <= limit
    lowest = floor if before is None else min(floor, before)
    return ListPage(tuple(entries[:limit]), lowest if exhausted else entries[limit - 1].id, floor, exhausted)
