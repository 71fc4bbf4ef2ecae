"""Removes media that are no longer needed: orphans by their age, attached media with their tweet.

One instance collects at a time, by a lease in PostgreSQL. Two at a time would be safe: rows are claimed by
the statement that condemns them, and removing bytes is idempotent.
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
ROUNDS = 50          # statements of a sweep for each kind of work: one sweep clears a backlog of 10,000
LEASE_SWEEPS = 3.0   # lifetime of the lease in sweeps: a collector that died is replaced after that time

_log = logging.getLogger("tweetlab")


class Collector:
    """The collector of one process. `holder`: name of the process in the lease."""

    def __init__(self, ports: Ports, media: Media, knobs: MediaKnobs, holder: str) -> None:
        self._store: MediaStore = ports.media
        self._tweets: TweetStore = ports.tweets
        self._media, self._knobs, self._holder = media, knobs, holder

    async def run(self) -> None:
        """Sweep every `sweep_s` seconds until cancelled; 0 disables sweeps."""
        if not self._knobs.sweep_s:
            await asyncio.Event().wait()
        while True:
            await asyncio.sleep(self._knobs.sweep_s)
            try:
                if await self._store.lead(self._holder, max(LEASE_SWEEPS * self._knobs.sweep_s, 5.0)):
                    await self.sweep()
            except Unavailable as problem:
                _log.warning("the sweep of media is delayed: %s", problem)

    async def sweep(self) -> int:
        """Condemn orphans and remove media that are due; return how many were due. Safe to repeat.

        Uploaded bytes of finalised media are removed too, once their URLs have expired.
        """
        knobs = self._knobs
        for _ in range(ROUNDS):
            orphans = await self._store.condemn_orphans(knobs.unfinished_s, knobs.unattached_s, AT_ONCE)
            _count_collected("orphan", orphans)
            if len(orphans) < AT_ONCE:
                break
        for _ in range(ROUNDS):
            if await self._check_attached(knobs.unfinished_s) < AT_ONCE:
                break
        await self._remove_originals()
        return await self._remove_due()

    async def _remove_originals(self) -> None:
        for _ in range(ROUNDS):
            due = await self._store.originals_due(AT_ONCE)
            done = [await self._media.remove_original(medium) for medium in due]
            if len(due) < AT_ONCE or not all(done):
                break

    async def _remove_due(self) -> int:
        """Remove due media; return how many there were.

        If one fails, the rest waits for the next sweep: storage is away.
        """
        count = 0
        for _ in range(ROUNDS):
            due = await self._store.due(AT_ONCE)
            count += len(due)
            done = [await self._media.remove(medium) for medium in due]
            if len(due) < AT_ONCE or not all(done):
                break
        return count

    async def _check_attached(self, older_s: float) -> int:
        """Check once whether the tweets of attached media exist: a post that failed half-way left none.

        Return how many.
        """
        attached = await self._store.unconfirmed(older_s, AT_ONCE)
        if not attached:
            return 0
        tweets = await self._tweets.get([medium.tweet_id for medium in attached])
        live = {tweet_id for tweet_id, tweet in tweets.items() if not tweet.deleted}
        await self._store.confirm([medium.id for medium in attached if medium.tweet_id in live])
        await checkpoints.reached("media.before_orphans", ids=tuple(medium.id for medium in attached))
        # A post may be repeated in the meantime: its attach renews the medium, which is then left to the next
        # sweep.
        orphans = [medium.id for medium in attached if medium.tweet_id not in live]
        _count_collected("orphan", await self._store.condemn(orphans, MediaState.ATTACHED, older_s))
        return len(attached)

    async def deleted(self, records: list[Record], dead_letter: Callable[[Record, str], Awaitable[None]]) -> None:
        """Remove the media of deleted tweets.

        The events say which tweets to read, the tweet says whether it is deleted.

        Records that name no tweet go to `dead_letter`.
        """
        ids: list[int] = []
        for record in records:
            tweet_id = record.event.payload.get("id") if record.event is not None else None
            if type(tweet_id) is int:
                ids.append(tweet_id)
            else:
                await dead_letter(record, f"no tweet id: {tweet_id!r}")
        await consumer_loop.until_available(lambda: self._of_deleted(ids), "media of deleted tweets")

    async def _of_deleted(self, tweet_ids: list[int]) -> None:
        media = await self._store.of_tweets(tweet_ids)
        if not media:
            return
        tweets = await self._tweets.get([medium.tweet_id for medium in media])
        unneeded = [medium for medium in media if medium.tweet_id in tweets and tweets[medium.tweet_id].deleted]
        await self._store.condemn([medium.id for medium in unneeded])
        _count_collected("tweet", unneeded)
        for medium in unneeded:
            await self._media.remove(medium)


def _count_collected(why: str, media: list[Medium]) -> None:
    if media:
        metrics.count("tweetlab_media_collected_total", len(media), why=why)


class EdgeCounter(asyncio.DatagramProtocol):
    """Counts the look-ups that the edge reports, one datagram each (syslog).

    The last word is nginx's cache status.
    """

    def datagram_received(self, data: bytes, addr: object) -> None:
        """Count one look-up. Lost datagrams are not counted: the metric is a rate, not an account."""
        word = data.rsplit(b" ", 1)[-1].decode("latin-1").strip()
        metrics.count("tweetlab_cache_requests_total", cache="edge", result=policy.cache_result(word))


async def count_edge(host: str, port: int) -> None:
    """Count the edge's look-ups reported to `host:port` until cancelled.

    If the port is taken they are not counted.
    """
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
