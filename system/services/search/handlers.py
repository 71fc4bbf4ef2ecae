"""Indexing from the truth, and search."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from system.kernel import checkpoints
from system.kernel.errors import StoreUnavailable
from system.kernel.events import Event, Tweet
from system.kernel.http.asgi import Spent
from system.kernel.policies import SearchKnobs
from system.kernel.search_query import Author, From, Query, Rank, Term
from system.kernel.telemetry import metrics
from system.ports import MAX_HIDDEN, Ask, Document, Hit, Indexed, Ports, SearchIndex, TweetCache, UserDirectory
from system.services.search import policy
from system.services.search.cursors import Cursor
from system.services.shared.change_feed import ChangeFeed
from system.services.shared.read_through import Tweets
from system.services.shared.visibility import Visibility

ROUNDS = 8               # asks of the index for one page, where much of what it finds is not shown
AT_ONCE = 101            # hits of one ask: the largest page, and one to see whether more follows
BREADTH_TTL_S = 30.0     # how old the knowledge may be where the newest `band` matches of a query end
MAX_KEPT = 2_000         # queries, and names, that a process remembers
SWEEP_AT_ONCE = 500      # documents; one bulk


def document_of(tweet: Tweet, version: int, likes: int = 0) -> Document:
    """Return the document of a tweet; a deleted one keeps nothing that could be found."""
    return Document(tweet, version, () if tweet.deleted else policy.hashtags(tweet.text), likes)


def tweet_id_of(event: Event) -> int:
    """Return the tweet that an event is about. Raises KeyError, TypeError or ValueError where it names none."""
    return int(event.payload["tweet_id"] if "tweet_id" in event.payload else event.payload["id"])


class Indexer:
    """Brings documents up to date with the truth. Safe to repeat, in any order, from any number of processes.

    A count of likes is read after the version is taken, so a document that counts an older set has the older version.
    """

    def __init__(self, ports: Ports, wall_ns: Callable[[], int] = time.time_ns) -> None:
        self._ports, self._wall_ns = ports, wall_ns

    async def bring_up_to_date(self, tweet_ids: Sequence[int]) -> Indexed:
        """Read these tweets at QUORUM with their likes and index what was read. Raises StoreUnavailable."""
        began_ns = self._wall_ns()
        found = await self._ports.tweets.get(tweet_ids)
        likes = await self._ports.likes.counts(list(found)) if found else {}
        ended_ns = self._wall_ns()
        await checkpoints.reached("index.after_read", ids=tuple(found))
        if not found:
            return Indexed()
        versions = {deleted: policy.version(deleted, began_ns, ended_ns) for deleted in (False, True)}
        return await self._ports.index.index(
            [document_of(tweet, versions[tweet.deleted], likes[tweet.id].count) for tweet in found.values()])

    async def sweep(self, keep_s: float) -> int:
        """Remove one bulk of documents whose tweets were deleted more than `keep_s` seconds ago. Return how many."""
        return await self._ports.index.sweep(self._wall_ns() // 1_000_000 - int(keep_s * 1e3), SWEEP_AT_ONCE)


@dataclass(frozen=True)
class Wanted:
    """What a caller asked for. `before`, `since`: exclusive bounds of ids. `cursor`: where the page before ended.

    `hidden`: authors whose tweets are no matches for the caller.
    """

    query: Query
    order: str
    limit: int
    before: int | None = None
    since: int | None = None
    cursor: Cursor | None = None
    hidden: frozenset[int] = frozenset()


class Names:
    """Names -> user ids. A name stays its user's for good, so what was found is kept; what was not is asked again.

    Only a lab that is brought back to its seeded state gives names away again: the news tell it.
    """

    def __init__(self, users: UserDirectory, hot: TweetCache) -> None:
        self._users = users
        self._kept: dict[str, int] = {}
        self._news = ChangeFeed(hot, self._heard)

    def _heard(self, changed: frozenset[int] | None) -> None:
        if changed is None:
            self._kept.clear()

    async def id_of(self, username: str) -> int | None:
        """Return the id of the user with this name, None where there is none. Raises StoreUnavailable."""
        if username not in self._kept:
            user = await self._users.by_name(username)
            if user is None:
                return None
            if len(self._kept) >= MAX_KEPT:
                self._kept.clear()
            self._kept[username] = user.id
        return self._kept[username]

    async def resolved(self, query: Query) -> Query | None:
        """Return the query with ids in place of names; None where it wants tweets of nobody."""
        if any(isinstance(term, From) for term in query.wanted + query.unwanted):
            await self._news.heard()
        wanted = [await self._term(term) for term in query.wanted]
        unwanted = [await self._term(term) for term in query.unwanted]
        if None in wanted:
            return None
        return Query(tuple(term for term in wanted if term), tuple(term for term in unwanted if term))

    async def _term(self, term: Term) -> Term | None:
        if not isinstance(term, From):
            return term
        found = await self.id_of(term.username)
        return None if found is None else Author(found)


class Search:
    """A query -> tweets that the caller may see, page by page.

    A ranked search takes the newest `band` matches, ranks them, then the next: a word that stands in every tweet costs no
    more than a rare one, and no match is out of reach. All its pages read one view of the index and count ages from one
    moment, so they are disjoint whatever is indexed meanwhile. Newest-first pages need neither: ids do not change.
    """

    def __init__(self, index: SearchIndex, tweets: Tweets, names: Names, visibility: Visibility, knobs: SearchKnobs,
                 wall_ns: Callable[[], int] = time.time_ns) -> None:
        self._index, self._tweets, self._names, self._visibility = index, tweets, names, visibility
        self._knobs, self._wall_ns = knobs, wall_ns
        self._breadth: dict[tuple[Ask, int], tuple[float, int | None]] = {}  # oldest first

    async def recent(self, viewer_id: int, wanted: Wanted, spent: Spent) -> tuple[list[Tweet], Cursor | None]:
        """Return (tweets, where the page ended; None where nothing follows). Neither deleted nor unreadable ones are shown.

        A page has a next one only where that will show something: what is hidden must not show by its cursor. After ROUNDS
        asks that found little to show it ends all the same, short or empty, with a next one.
        Raises WrongInput where the view of the cursor is no longer kept.
        """
        metrics.count("tweetlab_searches_total", order=wanted.order, page="first" if wanted.cursor is None else "next")
        query = await self._names.resolved(wanted.query)
        if query is None or (wanted.before is not None and wanted.since is not None and wanted.since + 1 >= wanted.before):
            return [], None
        authors = {term.user_id for term in query.wanted if isinstance(term, Author)}
        if authors and authors != await self._visibility.visible(viewer_id, authors):
            return [], None  # before the index is asked: how much it finds must not show in cursors or time
        # Every match is by `authors` where there are any, and who they are was just looked at.
        hidden = frozenset() if authors else await self._visibility.hidden_from(viewer_id)
        if len(hidden) > MAX_HIDDEN:  # more than the index can be told: those that it finds are dropped one by one
            hidden = frozenset()
        return await self._page(viewer_id, replace(wanted, query=query, hidden=hidden), spent)

    async def _page(self, viewer_id: int, wanted: Wanted, spent: Spent) -> tuple[list[Tweet], Cursor | None]:
        cursor = place = wanted.cursor or await self._first(wanted, spent)
        found: list[Tweet] = []
        for number in range(ROUNDS):
            size = min(AT_ONCE, (wanted.limit + 1 - len(found)) * min(2, number + 1))
            hits, view = await self._ask(wanted, cursor, size, spent)
            shown = await self._readable(viewer_id, [hit.id for hit in hits], spent)
            for hit in hits:
                cursor = replace(cursor, last_id=hit.id, score=hit.score, view=view)
                if hit.id in shown:
                    if len(found) == wanted.limit:
                        return found, place
                    found.append(shown[hit.id])
                    place = cursor
            if len(hits) < size:
                following = await self._next_band(wanted, cursor, spent)
                if following is None:
                    return found, None
                cursor = following
        return found, place if len(found) == wanted.limit else cursor

    async def _first(self, wanted: Wanted, spent: Spent) -> Cursor:
        if wanted.order == policy.RECENCY:
            return Cursor(None, before=wanted.before, since=wanted.since)
        start = time.perf_counter_ns()
        view = await self._index.view()
        spent.since("elasticsearch", start)
        return await self._band(wanted, Cursor(None, 0.0, self._wall_ns() // 1_000_000, view, wanted.before), spent)

    async def _next_band(self, wanted: Wanted, cursor: Cursor, spent: Spent) -> Cursor | None:
        """Return the begin of the band below the one that ended, None where that was the last."""
        if wanted.order == policy.RECENCY or cursor.since == wanted.since or cursor.since is None:
            return None
        return await self._band(wanted, replace(cursor, last_id=None, score=0.0, before=cursor.since + 1), spent)

    async def _band(self, wanted: Wanted, cursor: Cursor, spent: Spent) -> Cursor:
        """Return `cursor` with the lower bound of its band: the newest `band` matches below `before`."""
        about = Ask(wanted.query, 0, cursor.before, wanted.since, hidden=wanted.hidden)
        key = replace(about, hidden=frozenset()), hash(about.hidden)  # the set itself may be 60,000 ids, and differs by viewer
        now_s = time.monotonic()
        known = self._breadth.get(key)
        if known is None or known[0] < now_s:
            start = time.perf_counter_ns()
            lowest = await self._index.nth_newest(replace(about, view=cursor.view), self._knobs.band)
            spent.since("elasticsearch", start)
            self._breadth.pop(key, None)
            while self._breadth and (len(self._breadth) >= MAX_KEPT or next(iter(self._breadth.values()))[0] < now_s):
                del self._breadth[next(iter(self._breadth))]
            known = self._breadth[key] = (now_s + BREADTH_TTL_S, lowest)
        return replace(cursor, since=wanted.since if known[1] is None else known[1] - 1)

    async def _ask(self, wanted: Wanted, cursor: Cursor, size: int, spent: Spent) -> tuple[Sequence[Hit], str]:
        start = time.perf_counter_ns()
        if wanted.order == policy.RECENCY:
            before = cursor.last_id if cursor.last_id is not None else cursor.before
            ask = Ask(wanted.query, size, before, wanted.since, hidden=wanted.hidden)
        else:
            rank = Rank(cursor.origin_ms, self._knobs.half_life_s, self._knobs.floor)
            after = None if cursor.last_id is None else (cursor.score, cursor.last_id)
            ask = Ask(wanted.query, size, cursor.before, cursor.since, rank, after, cursor.view, wanted.hidden)
        page = await self._index.search(ask)
        spent.since("elasticsearch", start)
        return page.hits, page.view

    async def _readable(self, viewer_id: int, tweet_ids: Sequence[int], spent: Spent) -> dict[int, Tweet]:
        """Return those that live by the truth and that the viewer may read, looked at in that order."""
        live = await self._tweets.live(tweet_ids, spent)
        await checkpoints.reached("search.after_live", ids=tuple(live))
        seen = await self._visibility.readable(viewer_id, live)
        for why, count in (("deleted", len(tweet_ids) - len(live)), ("protected", len(live) - len(seen))):
            if count:
                metrics.count("tweetlab_search_hidden_total", count, why=why)
        return seen


async def index_all(indexer: Indexer, left: set[int], refused: dict[int, str]) -> None:
    """Index what is in `left`; take out what is done, put what is refused into `refused`. Raises StoreUnavailable while some
    are to be sent again: call it again after a pause."""
    told = await indexer.bring_up_to_date(sorted(left))
    refused.update(told.refused)
    left.intersection_update(told.busy)
    if left:
        raise StoreUnavailable(f"Elasticsearch was too busy for {len(left)} documents; they are sent again.")
