"""Indexing from the truth, and search."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from system.kernel import checkpoints
from system.kernel.events import Event, Tweet
from system.kernel.http import Spent
from system.ports import Document, Ports, SearchIndex
from system.services.search import policy
from system.services.shared.reading import Tweets


class Indexer:
    """Brings documents up to date with the truth. Safe to repeat, in any order, from any number of processes."""

    def __init__(self, ports: Ports, wall_ns: Callable[[], int] = time.time_ns) -> None:
        self._store, self._index, self._wall_ns = ports.tweets, ports.index, wall_ns

    async def bring_up_to_date(self, tweet_ids: Sequence[int]) -> int:
        """Read these tweets at QUORUM and index what was read. Return how many there were. Raises StoreUnavailable."""
        began_ns = self._wall_ns()
        found = await self._store.get(tweet_ids)
        ended_ns = self._wall_ns()
        await checkpoints.reached("index.after_read", ids=tuple(found))
        documents = [Document(tweet, policy.version(tweet.deleted, began_ns, ended_ns)) for tweet in found.values()]
        if documents:
            await self._index.index(documents)
        return len(documents)


def tweet_id_of(event: Event) -> int:
    """Return the tweet that a new_tweet or tweet_deleted event is about."""
    return int(event.payload["id"])


class Search:
    """Words -> tweets."""

    def __init__(self, index: SearchIndex, tweets: Tweets) -> None:
        self._index, self._tweets = index, tweets

    async def recent(self, query: str, before: int | None, since_id: int | None, limit: int, spent: Spent) -> tuple[
            list[Tweet], int, bool]:
        """Return (tweets newest first, lowest id looked at, whether that was all). Deleted ones are dropped by the truth."""
        found: list[Tweet] = []
        low = -1 if since_id is None else since_id
        while True:
            want = limit - len(found)
            start = time.perf_counter_ns()
            hits = await self._index.search(query, before, want)
            spent.since("elasticsearch", start)
            ended = len(hits) < want or (bool(hits) and hits[-1] <= low + 1)
            hits = [hit for hit in hits if hit > low]
            live = await self._tweets.live(hits, spent)
            found.extend(live[hit] for hit in hits if hit in live)
            before = hits[-1] if hits else 0
            if ended or len(found) >= limit:
                return found, before, ended
