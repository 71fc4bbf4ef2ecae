"""Indexes tweets from the durable stores, and searches the index."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from system.kernel import checkpoints
from system.kernel.errors import Forbidden, StoreUnavailable
from system.kernel.events import Event, Tweet
from system.kernel.http.asgi import Spent
from system.kernel.policies import SearchKnobs
from system.kernel.search_query import AnyOf, Author, From, Query, Rank, Recipient, Term, To, terms_of
from system.kernel.telemetry import metrics
from system.ports import MAX_HIDDEN, Ask, Document, Hit, Indexed, Ports, SearchIndex
from system.services.search import policy
from system.services.search.cursors import Cursor
from system.services.shared.read_through import Tweets, Usernames
from system.services.shared.visibility import Visibility

ROUNDS = 8               # maximum requests to the index for one page, if the caller may not see many of the hits
AT_ONCE = 101            # hits per request: the largest page, and one more to know whether another page follows
BREADTH_TTL_S = 30.0     # how long the lower end of the newest `band` matches of a query is cached
MAX_KEPT = 2_000         # queries that a process caches
SWEEP_AT_ONCE = 500      # documents removed per bulk request


def tweet_id_of(event: Event) -> int:
    """Return the id of the tweet in an event.

    Raises KeyError, TypeError or ValueError if it has none.
    """
    return int(event.payload["tweet_id"] if "tweet_id" in event.payload else event.payload["id"])


class Indexer:
    """Updates documents from the stores. Safe to repeat, in any order and from any number of processes.

    Likes are counted after the version is taken, so a document with an older count has an older version.
    """

    def __init__(self, ports: Ports, wall_ns: Callable[[], int] = time.time_ns) -> None:
        self._ports, self._wall_ns = ports, wall_ns

    async def index_current(self, tweet_ids: Sequence[int]) -> Indexed:
        """Read these tweets at QUORUM, count their likes, and index the result. Raises StoreUnavailable."""
        started_ns = self._wall_ns()
        tweets = await self._ports.tweets.get(tweet_ids)
        likes = await self._ports.likes.counts(list(tweets)) if tweets else {}
        recipients = await self._recipients(tweets.values())
        ended_ns = self._wall_ns()
        await checkpoints.reached("index.after_read", ids=tuple(tweets))
        if not tweets:
            return Indexed()
        versions = {deleted: policy.version(deleted, started_ns, ended_ns) for deleted in (False, True)}
        return await self._ports.index.index(
            [Document(tweet, versions[tweet.deleted], likes[tweet.id].count, recipients.get(tweet.in_reply_to or 0))
             for tweet in tweets.values()])

    async def _recipients(self, tweets: Iterable[Tweet]) -> dict[int, int]:
        """Return tweet -> author of the tweets that these reply to."""
        parents = {tweet.in_reply_to for tweet in tweets if tweet.in_reply_to is not None and not tweet.deleted}
        found = await self._ports.tweets.get(sorted(parents)) if parents else {}
        return {key: parent.author_id for key, parent in found.items()}

    async def sweep(self, keep_s: float) -> int:
        """Remove a batch of documents of tweets deleted more than `keep_s` s ago; return their number.
        """
        return await self._ports.index.sweep(self._wall_ns() // 1_000_000 - int(keep_s * 1e3), SWEEP_AT_ONCE)


@dataclass(frozen=True)
class PageRequest:
    """A requested page. `before`, `since`: exclusive bounds of ids. `cursor`: end of the previous page.

    `hidden`: authors whose tweets must not match for this caller; `unfiltered`: there are too many to name.
    """

    query: Query
    order: str
    limit: int
    before: int | None = None
    since: int | None = None
    cursor: Cursor | None = None
    hidden: frozenset[int] = frozenset()
    unfiltered: bool = False


async def resolved(query: Query, usernames: Usernames) -> Query | None:
    """Return the query with ids in place of usernames. None if nothing can match: it requires a user that does not exist."""
    names = {term.username for term in terms_of(query) if isinstance(term, From | To)}
    user_ids = await usernames.ids_of(sorted(names))
    # A name of digits alone that nobody has is an id, as in Twitter's API.
    user_ids |= {name: int(name) for name in names if name not in user_ids and name.isdigit()}
    return _resolved(query, user_ids)


def _resolved(query: Query, user_ids: Mapping[str, int]) -> Query | None:
    wanted = [_term(term, user_ids) for term in query.wanted]
    unwanted = [_term(term, user_ids) for term in query.unwanted]
    if None in wanted:
        return None
    return Query(tuple(term for term in wanted if term), tuple(term for term in unwanted if term))


def _term(term: Term, user_ids: Mapping[str, int]) -> Term | None:
    """Return a term with ids in place of usernames; None if nothing matches it."""
    match term:
        case From(name):
            return Author(user_ids[name]) if name in user_ids else None
        case To(name):
            return Recipient(user_ids[name]) if name in user_ids else None
        case AnyOf(alternatives):
            possible = [alternative for query in alternatives if (alternative := _resolved(query, user_ids)) is not None]
            return AnyOf(tuple(possible)) if possible else None
    return term


class Search:
    """Returns the tweets that match a query and that the caller may see, page by page.

    A ranked search ranks the newest `band` matches, then the next `band` older ones, and so on. So a word
    that occurs in every tweet costs no more than a rare one, and every match is reachable. All pages of a
    search read the same point-in-time view of the index and compute ages relative to the same time, so they
    are disjoint whatever is indexed in the meantime. Pages in newest-first order need neither: ids do not
    change.
    """

    def __init__(self, index: SearchIndex, tweets: Tweets, usernames: Usernames, visibility: Visibility, knobs: SearchKnobs,
                 wall_ns: Callable[[], int] = time.time_ns) -> None:
        self._index, self._tweets, self._usernames, self._visibility = index, tweets, usernames, visibility
        self._knobs, self._wall_ns = knobs, wall_ns
        self._breadth: dict[tuple[Ask, int], tuple[float, int | None]] = {}  # oldest first

    async def recent(self, viewer_id: int, request: PageRequest, spent: Spent) -> tuple[list[Tweet], Cursor | None]:
        """Return one page: (tweets, cursor at its end).

        Deleted and unreadable tweets are omitted. The cursor is None if no further tweet would be shown: it
        must not reveal hidden tweets. After ROUNDS requests with few visible hits the page ends anyway, short
        or empty, with a cursor. Raises WrongInput if the index no longer has the view of the cursor.
        """
        metrics.count("tweetlab_searches_total", order=request.order, page="first" if request.cursor is None else "next")
        permitted = await self._permitted(viewer_id, request)
        return ([], None) if permitted is None else await self._page(viewer_id, permitted, spent)

    async def counts(self, viewer_id: int, request: PageRequest, times_ms: Sequence[int], spent: Spent) -> list[int]:
        """Return how many tweets that match and that the caller may see were created in each interval.

        `times_ms`: bounds of the intervals, ascending. Raises Forbidden where too many authors are hidden.
        """
        permitted = await self._permitted(viewer_id, request)
        if permitted is None:
            return [0] * (len(times_ms) - 1)
        if permitted.unfiltered:
            raise Forbidden(f"More than {MAX_HIDDEN} protected authors are hidden from you: their tweets cannot be left out of "
                            "a count. Search for the tweets instead.")
        start = time.perf_counter_ns()
        ask = Ask(permitted.query, 0, permitted.before, permitted.since, hidden=permitted.hidden)
        counts = await self._index.histogram(ask, times_ms)
        spent.since("elasticsearch", start)
        return counts

    async def _permitted(self, viewer_id: int, request: PageRequest) -> PageRequest | None:
        """Return the request with ids of its users and the authors hidden from the caller; None if nothing can match."""
        query = await resolved(request.query, self._usernames)
        if query is None or (request.before is not None and request.since is not None and request.since + 1 >= request.before):
            return None
        authors = {term.user_id for term in query.wanted if isinstance(term, Author)}
        if authors and authors != await self._visibility.visible(viewer_id, authors):
            # Checked before the index is queried: cursors and response times must not reveal the number of
            # hits.
            return None
        # If there are `authors`, every match is by them, and they were just checked.
        hidden = frozenset() if authors else await self._visibility.hidden_from(viewer_id)
        unfiltered = len(hidden) > MAX_HIDDEN  # more than a query accepts: the hits are filtered instead
        return replace(request, query=query, hidden=frozenset() if unfiltered else hidden, unfiltered=unfiltered)

    async def _page(self, viewer_id: int, request: PageRequest, spent: Spent) -> tuple[list[Tweet], Cursor | None]:
        cursor = page_end = request.cursor or await self._first(request, spent)
        tweets: list[Tweet] = []
        for number in range(ROUNDS):
            size = min(AT_ONCE, (request.limit + 1 - len(tweets)) * min(2, number + 1))
            hits, view = await self._ask(request, cursor, size, spent)
            shown = await self._readable(viewer_id, [hit.id for hit in hits], spent)
            for hit in hits:
                cursor = replace(cursor, last_id=hit.id, score=hit.score, view=view)
                if hit.id in shown:
                    if len(tweets) == request.limit:
                        return tweets, page_end
                    tweets.append(shown[hit.id])
                    page_end = cursor
            if len(hits) < size:
                next_band = await self._next_band(request, cursor, spent)
                if next_band is None:
                    return tweets, None
                cursor = next_band
        return tweets, page_end if len(tweets) == request.limit else cursor

    async def _first(self, request: PageRequest, spent: Spent) -> Cursor:
        if request.order == policy.RECENCY:
            return Cursor(None, before=request.before, since=request.since)
        start = time.perf_counter_ns()
        view = await self._index.view()
        spent.since("elasticsearch", start)
        return await self._band(request, Cursor(None, 0.0, self._wall_ns() // 1_000_000, view, request.before), spent)

    async def _next_band(self, request: PageRequest, cursor: Cursor, spent: Spent) -> Cursor | None:
        """Return a cursor at the start of the next lower band, None after the last one."""
        if request.order == policy.RECENCY or cursor.since == request.since or cursor.since is None:
            return None
        return await self._band(request, replace(cursor, last_id=None, score=0.0, before=cursor.since + 1), spent)

    async def _band(self, request: PageRequest, cursor: Cursor, spent: Spent) -> Cursor:
        """Return `cursor` with the lower bound of its band: the newest `band` matches below `before`."""
        about = Ask(request.query, 0, cursor.before, request.since, hidden=request.hidden)
        # The key has the hash of the set instead of the set: it may contain 60,000 ids, and differs by
        # viewer.
        key = replace(about, hidden=frozenset()), hash(about.hidden)
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
        return replace(cursor, since=request.since if known[1] is None else known[1] - 1)

    async def _ask(self, request: PageRequest, cursor: Cursor, size: int, spent: Spent) -> tuple[Sequence[Hit], str]:
        start = time.perf_counter_ns()
        if request.order == policy.RECENCY:
            before = cursor.last_id if cursor.last_id is not None else cursor.before
            ask = Ask(request.query, size, before, request.since, hidden=request.hidden)
        else:
            rank = Rank(cursor.origin_ms, self._knobs.half_life_s, self._knobs.floor)
            after = None if cursor.last_id is None else (cursor.score, cursor.last_id)
            ask = Ask(request.query, size, cursor.before, cursor.since, rank, after, cursor.view, request.hidden)
        page = await self._index.search(ask)
        spent.since("elasticsearch", start)
        return page.hits, page.view

    async def _readable(self, viewer_id: int, tweet_ids: Sequence[int], spent: Spent) -> dict[int, Tweet]:
        """Return the tweets that are live and that the viewer may read, checked in that order."""
        live = await self._tweets.live(tweet_ids, spent)
        await checkpoints.reached("search.after_live", ids=tuple(live))
        readable = await self._visibility.readable(viewer_id, live)
        for why, count in (("deleted", len(tweet_ids) - len(live)), ("protected", len(live) - len(readable))):
            if count:
                metrics.count("tweetlab_search_hidden_total", count, why=why)
        return readable


async def index_all(indexer: Indexer, left: set[int], refused: dict[int, str]) -> None:
    """Index the tweets in `left`, and remove from `left` those that are done or refused.

    `refused`: id -> reason of those that the index refuses; extended. Raises StoreUnavailable if `left` is
    not empty at the end: call again after a pause.
    """
    result = await indexer.index_current(sorted(left))
    refused.update(result.refused)
    left.intersection_update(result.busy)
    if left:
        raise StoreUnavailable(f"Elasticsearch was too busy for {len(left)} documents; they will be sent again.")
