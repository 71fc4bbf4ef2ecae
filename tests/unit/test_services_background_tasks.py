"""Background tasks that run as long as their process.

After an unexpected error each is restarted, and the restart is visible.
"""

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
from tests.helpers.gateway_on_memory import running_gateway


class Faulty:
    """Wraps an adapter; `errors`: raised by its next calls, one per call."""

    def __init__(self, behind, *errors):
        self._behind, self.errors = behind, list(errors)

    def __getattr__(self, name):
        real = getattr(self._behind, name)

        async def called(*args):
            if self.errors:
                raise self.errors.pop(0)
            return await real(*args)

        return called


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch):
    monkeypatch.setattr(background, "PAUSE_S", 0.01)


async def until(condition):
    async with asyncio.timeout(3):
        while not condition():
            await asyncio.sleep(0.01)


def restarts(task):
    rows = [line for line in metrics.text().decode().splitlines() if line.startswith("tweetlab_task_restarts_total{")]
    return sum(float(line.rpartition(" ")[2]) for line in rows if f'task="{task}"' in line)


@asynccontextmanager
async def check_restarts(task, times=1):
    """Errors inside end the task `times` times; each is logged and counted."""
    before = restarts(task)
    yield
    assert restarts(task) == before + times


ERRORS = (RuntimeError("unexpected"), asyncio.CancelledError("leaked by a client"))


async def test_revocations_are_still_read_after_an_unexpected_error(monkeypatch):
    """A gateway that stopped reading them would refuse every token for good, and look healthy."""
    monkeypatch.setattr(revocations, "POLL_S", 0.01)
    async with check_restarts("revocations", 2), running_gateway() as gateway:
        store = MemoryTokens()
        gateway.edge.revocations._store = frail = Faulty(store, *ERRORS)
        await store.revoke("g1.1", 60)
        await until(lambda: "g1.1" in gateway.edge.revocations._names)
        assert frail.errors == []


async def test_a_gateway_whose_read_of_revocations_hangs_is_not_ready():
    """It is replaced. While PostgreSQL is away it stays ready: another gateway would know no more."""
    now_s = [100.0]
    async with running_gateway() as gateway:
        known = gateway.edge.revocations = revocations.Revocations(MemoryTokens(), lambda: now_s[0])
        await known.poll()
        assert gateway.edge.ready

        known._store = Faulty(MemoryTokens(), StoreUnavailable("it is away"))
        now_s[0] += revocations.STALE_S + 1
        assert not await known.poll() and gateway.edge.ready

        now_s[0] += revocations.HANGS_S + 1
        assert not gateway.edge.ready


async def test_limits_are_shared_again_after_an_unexpected_error(monkeypatch):
    """A gateway that did not return to the store would admit only its share for good."""
    monkeypatch.setattr(limiter, "PROBE_S", 0.01)
    monkeypatch.setattr(limiter, "SETTLE_S", 0.0)
    store = Faulty(MemoryLimits(), StoreUnavailable("it is away"), *ERRORS)
    shared_limiter = limiter.Limiter(store, LimitKnobs())
    async with check_restarts("limits"):  # what is no error of ours counts as "it does not answer"
        await shared_limiter.take([Quota("user", 10)])
        assert shared_limiter.local
        await until(lambda: not shared_limiter.local)
    await shared_limiter.close()
    assert store.errors == []


async def test_a_lease_is_renewed_after_an_unexpected_error(monkeypatch):
    """Without a lease no id is issued any more, ten seconds later."""
    monkeypatch.setattr(worker_lease, "RENEW_EVERY_S", 0.01)
    store, source = MemoryLeases(), IdSource()
    leasing = worker_lease.Leasing(store, source, "tweets-1", clock.SystemClock())
    await leasing.start()
    began_ns = source.generator.lease.deadline_ns
    async with check_restarts("lease", 2):
        leasing._leases = frail = Faulty(store, *ERRORS)
        await until(lambda: source.generator.lease.deadline_ns > began_ns)
    await leasing.stop()
    assert frail.errors == [] and source.generator is None


async def test_events_are_published_after_an_unexpected_error():
    """The failed batch is left to the relay and logged; what is queued is published."""
    log = MemoryLog()
    publisher = Publisher(Faulty(log, *ERRORS), MemoryHotTweets())
    publisher.start()
    async with check_restarts("publisher"):
        for number in range(3):
            publisher.put(events.tweet_deleted(number, 7))
            await asyncio.sleep(0.03)
        publisher.put(events.tweet_deleted(3, 7))
        await until(lambda: sum(map(len, log.records.values())) == 2)
    await publisher.stop()

    assert publisher.left_behind == 2
    assert "tweetlab_events_left_total" in metrics.text().decode()


async def test_a_task_that_ends_as_intended_is_not_restarted():
    """A cancel of its own task, and the end of finite work."""
    done = []

    async def work():
        done.append(1)

    await background.run_forever(work, "lease", once=True)
    task = asyncio.ensure_future(background.run_forever(asyncio.Event().wait, "lease"))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})

    assert done == [1] and task.cancelled()
