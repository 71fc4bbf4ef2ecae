"""Tasks that stand as long as their process: killed by what nobody expected, each goes on, and it shows."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest

from system.kernel import background, clock, events
from system.kernel.errors import StoreUnavailable
from system.kernel.policies import LimitKnobs
from system.kernel.resilience.rate_window import Quota
from system.kernel.telemetry import metrics
from system.services.gateway import limiter, revocations
from system.services.shared.publisher import Publisher
from system.services.tweets import worker_lease
from system.services.tweets.handlers import IdSource
from tests.fakes.limits import MemoryLimits
from tests.fakes.log import MemoryLog
from tests.fakes.timelines import MemoryHotTweets
from tests.fakes.tokens import MemoryTokens
from tests.fakes.users import MemoryLeases
from tests.helpers.gateway_on_memory import house


class Frail:
    """Stands before an adapter; `blows`: what its next calls raise, one a call."""

    def __init__(self, behind, *blows):
        self._behind, self.blows = behind, list(blows)

    def __getattr__(self, name):
        real = getattr(self._behind, name)

        async def called(*args):
            if self.blows:
                raise self.blows.pop(0)
            return await real(*args)

        return called


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(background, "PAUSE_S", 0.01)


async def holds(condition):
    async with asyncio.timeout(3):
        while not condition():
            await asyncio.sleep(0.01)


def restarts(task):
    rows = [line for line in metrics.text().decode().splitlines() if line.startswith("tweetlab_task_restarts_total{")]
    return sum(float(line.rpartition(" ")[2]) for line in rows if f'task="{task}"' in line)


@asynccontextmanager
async def noticed(task, times=1):
    """What happens inside ends the task `times` times, and each is told."""
    before = restarts(task)
    yield
    assert restarts(task) == before + times


BLOWS = (RuntimeError("nobody expected that"), asyncio.CancelledError("let out by a client"))


async def test_revocations_are_read_on_after_an_error_nobody_expected(monkeypatch):
    """A gateway that reads them no more would refuse everybody for ever, and look well."""
    monkeypatch.setattr(revocations, "POLL_S", 0.01)
    async with noticed("revocations", 2), house() as gateway:
        store = MemoryTokens()
        gateway.edge.revocations._store = frail = Frail(store, *BLOWS)
        await store.revoke("g1.1", 60)
        await holds(lambda: "g1.1" in gateway.edge.revocations._names)
        assert frail.blows == []


async def test_a_gateway_whose_reading_of_revocations_hangs_is_not_ready():
    """It is replaced. While PostgreSQL is away it is ready: another gateway would know no more."""
    now_s = [100.0]
    async with house() as gateway:
        known = gateway.edge.revocations = revocations.Revocations(MemoryTokens(), lambda: now_s[0])
        await known.poll()
        assert gateway.edge.ready

        known._store = Frail(MemoryTokens(), StoreUnavailable("it is away"))
        now_s[0] += revocations.STALE_S + 1
        assert not await known.poll() and gateway.edge.ready

        now_s[0] += revocations.HANGS_S + 1
        assert not gateway.edge.ready


async def test_limits_are_shared_again_after_an_error_nobody_expected(monkeypatch):
    """A gateway that does not come back would admit its share alone for ever."""
    monkeypatch.setattr(limiter, "PROBE_S", 0.01)
    monkeypatch.setattr(limiter, "SETTLE_S", 0.0)
    store = Frail(MemoryLimits(), StoreUnavailable("it is away"), *BLOWS)
    made = limiter.Limiter(store, LimitKnobs())
    async with noticed("limits"):  # what is no error of ours counts as "it does not answer"
        await made.take([Quota("user", 10)])
        assert made.local
        await holds(lambda: not made.local)
    await made.close()
    assert store.blows == []


async def test_a_lease_is_renewed_after_an_error_nobody_expected(monkeypatch):
    """Without it no id is issued any more, ten seconds later."""
    monkeypatch.setattr(worker_lease, "RENEW_EVERY_S", 0.01)
    store, source = MemoryLeases(), IdSource()
    made = worker_lease.Leasing(store, source, "tweets-1", clock.SystemClock())
    await made.start()
    began_ns = source.generator.lease.deadline_ns
    async with noticed("lease", 2):
        made._leases = frail = Frail(store, *BLOWS)
        await holds(lambda: source.generator.lease.deadline_ns > began_ns)
    await made.stop()
    assert frail.blows == [] and source.generator is None


async def test_events_are_published_after_an_error_nobody_expected():
    """What was in hand is left to the relay, and told; what waits goes out."""
    log = MemoryLog()
    made = Publisher(Frail(log, *BLOWS), MemoryHotTweets())
    made.start()
    async with noticed("publisher"):
        for number in range(3):
            made.put(events.tweet_deleted(number, 7))
            await asyncio.sleep(0.03)
        made.put(events.tweet_deleted(3, 7))
        await holds(lambda: sum(map(len, log.records.values())) == 2)
    await made.stop()

    assert made.left_behind == 2
    assert "tweetlab_events_left_total" in metrics.text().decode()


async def test_what_ends_on_purpose_is_not_begun_anew():
    """A cancel of its own task, and the end of work that has one."""
    done = []

    async def work():
        done.append(1)

    await background.keep(work, "lease", once=True)
    task = asyncio.ensure_future(background.keep(asyncio.Event().wait, "lease"))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})

    assert done == [1] and task.cancelled()
