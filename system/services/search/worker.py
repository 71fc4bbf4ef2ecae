"""The indexer: `python -m system.services.search.worker`.

An event is a hint that a tweet changed; the document is made from the tweet as it is now.
"""

from __future__ import annotations

from system.kernel import clock, effects, events
from system.kernel.settings import Settings
from system.ports import Ports, Record
from system.services.search.handlers import Indexer, tweet_id_of
from system.services.shared import consuming, hosting

NAME = "indexer"
NEEDS = ("index", "tweets", "log")
GROUP = "indexer"


def build(ports: Ports, settings: Settings) -> hosting.Service:
    """Put the worker together on `ports`."""
    time_ = clock.SystemClock()
    effect_log = effects.EffectLog(settings.effects, settings.instance)
    indexer = Indexer(ports)

    async def handle(records: list[Record]) -> None:
        wanted: dict[int, Record] = {}
        for record in records:
            assert record.event is not None
            try:
                wanted[tweet_id_of(record.event)] = record
            except (KeyError, TypeError, ValueError) as problem:
                await loop.bury(record, f"no tweet id: {problem!r}")

        async def index(tweet_ids: list[int]) -> None:
            await indexer.bring_up_to_date(tweet_ids)

        async def alone(tweet_id: int, record: Record) -> bool:
            try:
                await consuming.until_available(lambda: index([tweet_id]), "index")
                return True
            except Exception as problem:
                await loop.bury(record, repr(problem))
                return False

        retries, done = 0, list(wanted.values())
        try:
            retries = await consuming.until_available(lambda: index(list(wanted)), "index")
        except Exception:  # one of them is refused for what it is: the others must not wait behind it for ever
            done = [record for tweet_id, record in wanted.items() if await alone(tweet_id, record)]
        for record in done:
            assert record.event is not None
            effect_log.write(effects.Effect(GROUP, record.event.id, record.event.key, record.event.topic, True, "index", 1,
                                            time_.monotonic_ns(), time_.wall_ms(), retries))

    loop = consuming.Loop(ports.log, GROUP, (events.NEW_TWEET, events.TWEET_DELETED), handle, effect_log.flush)

    async def stop() -> None:
        effect_log.close()

    return hosting.Service(loops=(loop.run,), stop=stop)


if __name__ == "__main__":
    hosting.run(NAME, NEEDS, build)
