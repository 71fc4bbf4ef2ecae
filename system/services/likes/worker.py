"""The liker: `python -m system.services.likes.worker`.

An event is a hint that a tweet's likes changed: they are recounted from the rows and the count is set. Under
load, events are batched for `policies.cache.like_gather_s`, and all events about one tweet cost one recount.
"""

from __future__ import annotations

from system.kernel import clock, events
from system.kernel import effect_log as effects
from system.kernel.settings import Settings
from system.ports import Ports, Record
from system.services.likes.handlers import Counter, tweet_id_of
from system.services.shared import consumer_loop, hosting

NAME = "liker"
NEEDS = ("likes", "like_counts", "log")
GROUP = "liker"


def build(ports: Ports, settings: Settings) -> hosting.Service:
    """Build the worker on `ports`."""
    time_ = clock.SystemClock()
    effect_log = effects.EffectLog(settings.effects, settings.instance)
    counter = Counter(ports.likes, ports.like_counts)

    async def handle(records: list[Record]) -> None:
        changed: dict[int, list[Record]] = {}
        for record in records:
            assert record.event is not None
            try:
                changed.setdefault(tweet_id_of(record.event), []).append(record)
            except (KeyError, TypeError, ValueError) as problem:
                await loop.dead_letter(record, f"no tweet id: {problem!r}")

        async def recount() -> None:
            await counter.recount(list(changed))

        retries = await consumer_loop.until_available(recount, "recount")
        for of_tweet in changed.values():
            for record in of_tweet:
                assert record.event is not None
                effect_log.write(effects.Effect(
                    GROUP, record.event.id, record.event.key, record.event.topic, record is of_tweet[-1], "recount", 1,
                    time_.monotonic_ns(), time_.wall_ms(), retries))

    loop = consumer_loop.Loop(ports.log, GROUP, events.GROUPS[GROUP], consumer_loop.traced(handle), effect_log.flush,
                          settings.policies.cache.like_gather_s)

    async def stop() -> None:
        effect_log.close()

    return hosting.Service(loops=(loop.run,), stop=stop)


if __name__ == "__main__":
    hosting.run(NAME, NEEDS, build)
