"""The indexer: `python -m system.services.search.worker`.

An event is a hint that a tweet, or the set of its likes, changed; the document is built from the current
state of both. Under load, events are batched for `policies.search.gather_s`: a bulk request costs nearly the
same for one document as for ten. A second loop removes documents of tweets that were deleted long ago.
"""

from __future__ import annotations

import asyncio
import logging
import random

from system.kernel import clock, events
from system.kernel import effect_log as effects
from system.kernel.errors import Unavailable
from system.kernel.settings import Settings
from system.kernel.telemetry import metrics
from system.ports import Ports, Record
from system.services.search.handlers import SWEEP_AT_ONCE, Indexer, index_all, tweet_id_of
from system.services.shared import consumer_loop, hosting

NAME = "indexer"
NEEDS = ("index", "tweets", "likes", "log")
GROUP = "indexer"
SWEEP_EVERY_S = 600.0
SWEEP_PAUSE_S = 1.0  # between two batches of one sweep: at most 500 documents a second, whatever the backlog

_log = logging.getLogger("tweetlab")


class Worker:
    """Handles the records of a poll."""

    def __init__(self, ports: Ports, effect_log: effects.EffectLog, gather_s: float) -> None:
        self.indexer = Indexer(ports)
        self._effects, self._time = effect_log, clock.SystemClock()
        self.loop = consumer_loop.Loop(ports.log, GROUP, events.GROUPS[GROUP], consumer_loop.traced(self.handle),
                                   effect_log.flush, gather_s)

    async def handle(self, records: list[Record]) -> None:
        """Index the tweets that the records name.

        Return when each record is done or in the dead-letter topic.
        """
        by_tweet: dict[int, list[Record]] = {}
        for record in records:
            assert record.event is not None
            try:
                by_tweet.setdefault(tweet_id_of(record.event), []).append(record)
            except (KeyError, TypeError, ValueError) as problem:
                await self.loop.dead_letter(record, f"no tweet id: {problem!r}")
        refused, retries = await self._index(set(by_tweet))
        for tweet_id, named_by in by_tweet.items():
            for record in named_by:
                if tweet_id in refused:
                    await self.loop.dead_letter(record, refused[tweet_id])
                else:
                    self._done(record, retries)

    async def _index(self, tweet_ids: set[int]) -> tuple[dict[int, str], int]:
        """Index these until each is done or refused; return (refused: id -> reason, retries)."""
        left: set[int] = set(tweet_ids)
        refused: dict[int, str] = {}
        try:
            return refused, await consumer_loop.until_available(lambda: index_all(self.indexer, left, refused), "index")
        except Exception as problem:  # one of them makes no document: the others must not wait behind it forever
            if len(left) == 1:
                return refused | {left.pop(): repr(problem)}, 0
            for tweet_id in list(left):
                refused |= (await self._index({tweet_id}))[0]
            return refused, 0

    def _done(self, record: Record, retries: int) -> None:
        assert record.event is not None
        now_ms = self._time.wall_ms()
        if record.topic == events.NEW_TWEET:
            age_ms = now_ms - int(record.event.payload.get("created_ms", now_ms))
            metrics.observe("tweetlab_index_age_seconds", max(0, age_ms) / 1e3)
        self._effects.write(effects.Effect(GROUP, record.event.id, record.event.key, record.topic, True, "index", 1,
                                           self._time.monotonic_ns(), now_ms, retries))


async def sweep(indexer: Indexer, keep_s: float) -> None:
    """Remove documents of long deleted tweets, in batches, now and every SWEEP_EVERY_S, until cancelled."""
    while True:
        try:
            while await indexer.sweep(keep_s) == SWEEP_AT_ONCE:
                await asyncio.sleep(SWEEP_PAUSE_S)
        except Unavailable as problem:
            _log.warning("the sweep of deleted documents is delayed: %s", problem)
        await asyncio.sleep(SWEEP_EVERY_S * random.uniform(0.5, 1.5))  # spreads out the indexers


def build(ports: Ports, settings: Settings) -> hosting.Service:
    """Build the worker on `ports`."""
    knobs = settings.policies.search
    effect_log = effects.EffectLog(settings.effects, settings.instance)
    worker = Worker(ports, effect_log, knobs.gather_s)

    async def stop() -> None:
        effect_log.close()

    return hosting.Service(loops=(worker.loop.run, lambda: sweep(worker.indexer, knobs.keep_deleted_s)), stop=stop)


if __name__ == "__main__":
    hosting.run(NAME, NEEDS, build)
