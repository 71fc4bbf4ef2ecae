"""Ports that a service opens in the background."""

import asyncio

import pytest

from system import bootstrap
from system.kernel import settings
from system.kernel.errors import StoreUnavailable

SETTINGS = settings.from_env({"TWEETLAB_RANGE": "79"})


class Store:
    """An adapter whose store answers once `up` is set."""

    def __init__(self, up):
        self._up, self.closed = up, False

    async def ready(self):
        if not self._up.is_set():
            raise StoreUnavailable("no answer")

    async def tweet_counts(self, users):
        return dict.fromkeys(users, 3)

    async def close(self):
        self.closed = True


@pytest.mark.timeout(10)
async def test_a_service_starts_without_a_port_that_opens_later(monkeypatch):
    up = asyncio.Event()
    store = Store(up)

    async def open_store(_):
        return store

    monkeypatch.setitem(bootstrap.ADAPTERS, "tweets", open_store)
    monkeypatch.setattr(bootstrap, "LATER_PAUSE_S", 0.01)
    opened = await bootstrap.open_ports(SETTINGS, (), later=("tweets",))
    await opened.ready()  # does not wait for it
    with pytest.raises(StoreUnavailable, match="'tweets' is not connected yet") as refused:
        await opened.ports.tweets.tweet_counts([1])
    assert refused.value.definite
    up.set()
    async with asyncio.timeout(5):
        while True:
            try:
                counts = await opened.ports.tweets.tweet_counts([1])
                break
            except StoreUnavailable:
                await asyncio.sleep(0.01)
    assert counts == {1: 3}
    await opened.close()
    assert store.closed


@pytest.mark.timeout(10)
async def test_closing_stops_the_attempts_to_open(monkeypatch):
    attempts = []

    async def open_store(_):
        attempts.append(1)
        raise StoreUnavailable("down")

    monkeypatch.setitem(bootstrap.ADAPTERS, "tweets", open_store)
    monkeypatch.setattr(bootstrap, "LATER_PAUSE_S", 0.01)
    opened = await bootstrap.open_ports(SETTINGS, (), later=("tweets",))
    await asyncio.sleep(0.05)
    await opened.close()
    made = len(attempts)
    await asyncio.sleep(0.05)
    assert made > 1 and len(attempts) == made
