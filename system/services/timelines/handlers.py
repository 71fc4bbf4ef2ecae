"""Reads pages of home timelines. The source of a page is one of:

    hit      one call: the reader's list, their own tweets and the pulled authors they follow, merged in Redis
    rebuild  a list was absent: it was rebuilt from the durable stores first
    direct   another process is rebuilding a list, or Redis does not respond: read from the durable stores
    tail     older tweets than the cached list contains: read from Cassandra

The *floor* of a cached list is the lowest tweet id down to which it is complete.

Reading continues until the page is full or every source is exhausted, because deleted and unreadable tweets
are dropped only after their ids were read. The cursor is the last id that was scanned.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from system.kernel import checkpoints
from system.kernel.errors import StoreUnavailable
from system.kernel.events import Tweet
from system.kernel.http.asgi import Spent
from system.kernel.policies import TimelineKnobs
from system.ports import Entry, HomePage, Kind, TimelineCache
from system.services.shared import paging
from system.services.shared.list_rebuild import CachedLists
from system.services.shared.read_through import Tweets
from system.services.shared.visibility import Visibility
from system.services.timelines import policy
from system.services.timelines.pulled_authors import PulledAuthors
from system.services.timelines.rebuild_limiter import RebuildLimiter

HIT, REBUILD, DIRECT, TAIL = "hit", "rebuild", "direct", "tail"


@dataclass
class Page:
    """One page.

    `scanned`: lowest id scanned. `next_token`: None at the end. `source`: as in the module docstring.
    `pulled`: whether a pulled author was merged. `deadline_ns`: monotonic time of the request's deadline; 0
    for none.
    """

    tweets: list[Tweet] = field(default_factory=list)
    scanned: int = 0
    next_token: str | None = None
    source: str = HIT
    pulled: bool = False
    deadline_ns: int = 0

    def left_s(self) -> float:
        """Return the seconds until the deadline."""
        return (self.deadline_ns - time.monotonic_ns()) / 1e9 if self.deadline_ns else float("inf")

    def label(self) -> str:
        """Return the source in the format of the response header."""
        return f"{self.source},pull" if self.pulled else self.source


@dataclass(frozen=True)
class Step:
    """The result of one read: the entries of one range of ids, newest first.

    `next_before`: the next read is below this id. `ended`: nothing older exists. `floor_reached`: the next
    read is below the floor of the cached list, so from the durable stores.
    """

    entries: Sequence[Entry]
    next_before: int
    ended: bool
    floor_reached: bool = False


class Timelines:
    """Reads home timelines from the cache and the durable stores."""

    def __init__(self, cache: TimelineCache, tweets: Tweets, lists: CachedLists, pulled_authors: PulledAuthors,
                 visibility: Visibility, knobs: TimelineKnobs) -> None:
        self._visibility, self._pulled_authors = visibility, pulled_authors
        self._cache, self._tweets, self._lists, self._knobs = cache, tweets, lists, knobs
        self._rebuild_limiter = RebuildLimiter(knobs.rebuild_concurrency, knobs.rebuild_queue)

    async def home(self, user_id: int, window: paging.Window, spent: Spent, deadline_ns: int = 0) -> Page:
        """Return one page.

        Raises Overloaded if too many rebuilds run, StoreUnavailable if the durable stores do not answer.
        """
        page = Page(deadline_ns=deadline_ns)
        before, low, ended = window.before, -1 if window.since_id is None else window.since_id, False
        below_floor, steps = False, 0
        while len(page.tweets) < window.limit and not ended and (steps < paging.MAX_SPARSE_STEPS or not window.without_replies):
            steps += 1
            want = window.limit - len(page.tweets)
            if below_floor:
                step = await self._from_stores(user_id, before, want, page, TAIL, spent)
            else:
                step = await self._cached(user_id, before, want, page, spent)
            entries = [entry for entry in step.entries if entry.id > low]
            await self._add(user_id, page, entries, spent, window.without_replies)
            page.scanned = max(step.next_before, low + 1)
            before, below_floor = step.next_before, below_floor or step.floor_reached
            ended = step.ended or step.next_before <= low + 1
        page.next_token = paging.next_token(page.scanned, ended, window.since_id, window.cursor)
        return page

    async def _add(self, user_id: int, page: Page, entries: Sequence[Entry], spent: Spent, without_replies: bool) -> None:
        # Cached lists reflect a changed follow edge only after a delay, so they do not decide whether the
        # user may read a protected author.
        live = await self._tweets.live([entry.id for entry in entries], spent)
        await checkpoints.reached("home.before_look", user_id=user_id)
        readable = await self._visibility.readable(user_id, live)
        if without_replies:
            readable = {key: tweet for key, tweet in readable.items() if tweet.in_reply_to is None}
        page.tweets.extend(readable[entry.id] for entry in entries if entry.id in readable)

    # ---- from the cache ------------------------------------------------------------------------------

    async def _cached(self, user_id: int, before: int | None, want: int, page: Page, spent: Spent) -> Step:
        try:
            cached = await self._complete_page(user_id, before, want, page, spent)
        except StoreUnavailable as problem:
            if problem.retry_after_s is not None:
                raise
            cached = None
        if cached is None:
            return await self._from_stores(user_id, before, want, page, DIRECT, spent)
        page.pulled = page.pulled or cached.pulled
        if not cached.exhausted:
            return Step(cached.entries, cached.scanned, False)
        if cached.floor == 0:
            return Step(cached.entries, 0, True)
        return Step(cached.entries, policy.tail_before(before, cached.floor), False, floor_reached=True)

    async def _complete_page(self, user_id: int, before: int | None, want: int, page: Page, spent: Spent) -> HomePage | None:
        """Return a page from cached lists, after rebuilding missing ones.

        None if the page must be read from the durable stores.
        """
        for _ in range(policy.MAX_ATTEMPTS):
            pulled = await self._pulled_authors.get()
            start = time.perf_counter_ns()
            cached = await self._cache.home(user_id, pulled, before, want)
            spent.since("redis", start)
            self._lists.count_lookups(Kind.HOME, int(not cached.missing), int(bool(cached.missing)))
            if not cached.missing:
                return cached
            if page.source == HIT:
                page.source = REBUILD
            if not await self._build(cached.missing, page, spent):
                return None
        return None

    async def _build(self, missing: Sequence[tuple[Kind, int]], page: Page, spent: Spent) -> bool:
        async def build() -> list[bool]:
            return await asyncio.gather(*(self._ensure(kind, owner) for kind, owner in missing))

        start = time.perf_counter_ns()
        built = await self._rebuild_limiter.run(build, page.left_s())
        spent.since("rebuild", start)
        return all(built)

    async def _ensure(self, kind: Kind, owner: int) -> bool:
        if kind is Kind.HOME:
            return await self._lists.single_flight(kind, owner, self._read_home)
        return await self._lists.ensure(kind, owner)

    async def _read_home(self, user_id: int) -> tuple[list[Entry], int]:
        """Return (entries, floor) of a home timeline as read for its rebuild.

        Runs between `begin` and `complete` of the rebuild, so no concurrent write is lost.
        """
        followings = await self._lists.followings(user_id)
        await checkpoints.reached("build.home.after_followings", owner=user_id)
        plan = policy.plan_rebuild(user_id, followings, self._knobs.cap)
        merged = policy.merge(await self._sources(plan.authors, None, plan.per_author, build=True), self._knobs.cap)
        return list(merged.entries), policy.floor_of(merged)

    # ---- from the durable stores ---------------------------------------------------------------------

    async def _from_stores(self, user_id: int, before: int | None, want: int, page: Page, source: str, spent: Spent) -> Step:
        """Read from the lists of the followed authors, and below their floors from Cassandra."""
        page.source = source
        start = time.perf_counter_ns()
        async with self._rebuild_limiter.enter(page.left_s()):
            try:
                followings = await self._lists.followings(user_id)
            except StoreUnavailable:
                followings = await self._lists.all_following(user_id)
            authors = policy.plan_rebuild(user_id, followings, self._knobs.cap).authors
            merged = policy.merge(await self._sources(authors, before, want, build=False), want)
        if source == DIRECT:
            await self._keep_shown(user_id, merged.entries)
        spent.since("truth", start)
        return Step(merged.entries, merged.low, merged.exhausted)

    async def _keep_shown(self, user_id: int, entries: Sequence[Entry]) -> None:
        """Add the entries of this page to the list that another process is rebuilding.

        That rebuild may have read the stores earlier than this page did, and the events of newer tweets may
        be seconds late. Without this, the next page, read from that list, might lack tweets that this page
        shows.
        """
        try:
            await self._cache.back_fill(user_id, entries)
        except StoreUnavailable:
            pass  # without Redis there is no list that a later page could be read from

    async def _sources(self, authors: Sequence[int], before: int | None, limit: int, build: bool) -> list[policy.Source[Entry]]:
        """Return up to `limit` entries of each author below `before`.

        They are read from the cached list of the author, else from Cassandra. `build`: rebuild absent lists
        first.
        """
        sources = await self._listed(authors, before, limit)
        absent = [author for author in authors if author not in sources]
        if absent and build:
            await asyncio.gather(*(self._lists.ensure(Kind.AUTHOR, author) for author in absent))
            sources.update(await self._listed(absent, before, limit))
            absent = [author for author in absent if author not in sources]
        rows = await asyncio.gather(*(self._lists.author_rows(author, before, limit) for author in absent))
        for author, entries in zip(absent, rows):
            sources[author] = policy.source_of(entries, limit)
        return list(sources.values())

    async def _listed(self, authors: Sequence[int], before: int | None, limit: int) -> dict[int, policy.Source[Entry]]:
        """Return the content of the authors' cached lists, author -> source.

        Omitted are absent lists, and lists whose floor ends them before `limit` entries below `before`.
        """
        try:
            pages = await self._cache.pages(Kind.AUTHOR, authors, before, limit)
        except StoreUnavailable:
            return {}
        self._lists.count_lookups(Kind.AUTHOR, len(pages), len(authors) - len(pages))
        sources: dict[int, policy.Source[Entry]] = {}
        for author, part in pages.items():
            entries = part.entries
            if part.exhausted and part.floor > 0 and len(entries) < limit:
                if before is not None:
                    continue  # a tail: below the floor only Cassandra has the rows
                sources[author] = policy.Source(entries, part.floor)
            elif part.exhausted and part.floor == 0:
                sources[author] = policy.Source(entries, 0)
            else:
                sources[author] = policy.Source(entries, part.scanned)
        return sources
