"""What removes media that nobody wants any more: orphans by their age, attached ones with their tweet.

One instance collects at a time, by a lease in PostgreSQL. Were there two, nothing would break: rows are claimed by the statement
that condemns them, and removing bytes may be repeated.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from system.kernel import checkpoints
from system.kernel.errors import Unavailable
from system.kernel.policies import MediaKnobs
from system.kernel.telemetry import metrics
from system.ports import MediaState, MediaStore, Medium, Ports, Record, TweetStore
from system.services.media import policy
from system.services.media.handlers import Media
from system.services.shared import consumer_loop

AT_ONCE = 200        # media handled in one statement
ROUNDS = 50          # statements of a sweep for each kind of work: a backlog of 10,000 is done in one
LEASE_SWEEPS = 3.0   # sweeps that a lease outlives: a collector that died is replaced after so many

_log = logging.getLogger("tweetlab")


class Collector:
    """Collects for one process, named `holder`."""

    def __init__(self, ports: Ports, media: Media, knobs: MediaKnobs, holder: str) -> None:
        self._store: MediaStore = ports.media
        self._tweets: TweetStore = ports.tweets
        self._media, self._knobs, self._holder = media, knobs, holder

    async def run(self) -> None:
        """Sweep every `sweep_s` seconds, until cancelled; never where it is 0."""
        if not self._knobs.sweep_s:
            await asyncio.Event().wait()
        while True:
            await asyncio.sleep(self._knobs.sweep_s)
            try:
                if await self._store.lead(self._holder, max(LEASE_SWEEPS * self._knobs.sweep_s, 5.0)):
                    await self.sweep()
            except Unavailable as problem:
                _log.warning("media are collected later: %s", problem)

    async def sweep(self) -> int:
        """Condemn what nobody wants and remove what is due; return how many were due. Safe to repeat."""
        knobs = self._knobs
        for _ in range(ROUNDS):
            orphans = await self._store.condemn_orphans(knobs.unfinished_s, knobs.unattached_s, AT_ONCE)
            _collected("orphan", orphans)
            if len(orphans) < AT_ONCE:
                break
        for _ in range(ROUNDS):
            if await self._confirm(knobs.unfinished_s) < AT_ONCE:
                break
        return await self._remove_due()

    async def _remove_due(self) -> int:
        """Remove what is due; return how many were. Where one fails, the rest waits for the next sweep: storage is away."""
        seen = 0
        for _ in range(ROUNDS):
            due = await self._store.due(AT_ONCE)
            seen += len(due)
            done = [await self._media.remove(medium) for medium in due]
            if len(due) < AT_ONCE or not all(done):
                break
        return seen

    async def _confirm(self, older_s: float) -> int:
        """Look once whether the tweets of attached media exist: a post that died half-way left none. Return how many it saw."""
        attached = await self._store.unconfirmed(older_s, AT_ONCE)
        if not attached:
            return 0
        tweets = await self._tweets.get([medium.tweet_id for medium in attached])
        live = {tweet_id for tweet_id, tweet in tweets.items() if not tweet.deleted}
        await self._store.confirm([medium.id for medium in attached if medium.tweet_id in live])
        await checkpoints.reached("media.before_orphans", ids=tuple(each.id for each in attached))
        # A post may be repeated meanwhile: its attach makes the medium young again, and it is left to the next sweep.
        gone = [each.id for each in attached if each.tweet_id not in live]
        _collected("orphan", await self._store.condemn(gone, MediaState.ATTACHED, older_s))
        return len(attached)

    async def deleted(self, records: list[Record], bury: Callable[[Record, str], Awaitable[None]]) -> None:
        """Remove the media of tweets that were deleted: the events say which to look at, the tweet says whether.

        Records that name no tweet go to `bury`.
        """
        ids: list[int] = []
        for record in records:
            named = record.event.payload.get("id") if record.event is not None else None
            if type(named) is int:
                ids.append(named)
            else:
                await bury(record, f"no tweet id: {named!r}")
        await consumer_loop.until_available(lambda: self._of_deleted(ids), "media of deleted tweets")

    async def _of_deleted(self, tweet_ids: list[int]) -> None:
        theirs = await self._store.of_tweets(tweet_ids)
        if not theirs:
            return
        tweets = await self._tweets.get([medium.tweet_id for medium in theirs])
        gone = [medium for medium in theirs if medium.tweet_id in tweets and tweets[medium.tweet_id].deleted]
        await self._store.condemn([medium.id for medium in gone])
        _collected("tweet", gone)
        for medium in gone:
            await self._media.remove(medium)


def _collected(why: str, media: list[Medium]) -> None:
    if media:
        metrics.count("tweetlab_media_collected_total", len(media), why=why)


class EdgeCounter(asyncio.DatagramProtocol):
    """Counts the look-ups that the edge tells of, a datagram each (syslog): the last word is nginx' cache status."""

    def datagram_received(self, data: bytes, addr: object) -> None:
        """Count one look-up. What was lost on the way is not counted: it is a rate, not an account."""
        word = data.rsplit(b" ", 1)[-1].decode("latin-1").strip()
        metrics.count("tweetlab_cache_requests_total", cache="edge", result=policy.looked(word))


async def count_edge(host: str, port: int) -> None:
    """Count the edge's look-ups that come to `host:port`, until cancelled. Where the port is taken they are not counted."""
    loop = asyncio.get_running_loop()
    try:
        transport, _ = await loop.create_datagram_endpoint(EdgeCounter, local_addr=(host, port))
    except OSError as problem:
        _log.warning("the edge's look-ups are not counted here: %s", problem)
        await asyncio.Event().wait()
        return
    try:
        await asyncio.Event().wait()
    finally:
        transport.close()
