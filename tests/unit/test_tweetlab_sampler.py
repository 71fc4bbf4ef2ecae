"""The sampler: CPU by node from cumulative counters, gaps where a source fails."""

import asyncio
import os
import time

import pytest
import redis.exceptions

from system.kernel.errors import StoreUnavailable
from tweetlab import sampler


def test_the_host_is_busy_in_everything_but_idle_and_iowait():
    """Steal is kept apart: it is not work done here."""
    told = sampler.host_times("cpu  100 10 50 900 40 5 5 30 0 0\n")

    assert (round(told.busy_s, 6), told.steal_s) == (1.7, 0.3)


def test_cpu_of_a_process_counts_its_ended_threads():
    """The process CPU clock grows with work that is done by threads that are gone."""
    before = sampler.process_cpu_ns(os.getpid())
    ends = time.thread_time() + 0.05
    while time.thread_time() < ends:
        sum(range(1000))

    assert sampler.process_cpu_ns(os.getpid()) - before >= 45_000_000


def test_a_source_that_fails_leaves_a_gap_and_never_ends_the_run():
    """A killed server must not cost the record."""
    ticks = iter([{"redis-1": 0.0}, {"redis-1": 2e8}, {"redis-1": 4e8}, {"redis-1": 6e8}, {"redis-1": 8e8}, {"redis-1": 1e9}])

    async def cpu():
        return next(ticks)

    async def broken():
        raise StoreUnavailable("down")

    async def lost():
        raise redis.exceptions.ConnectionError("the server was just killed")  # no OSError

    async def go():
        watch = sampler.Sampler(sampler.Sources(cpu, broken, broken, lost), time.monotonic_ns(), every_s=0.05)
        stop = asyncio.Event()
        asyncio.get_running_loop().call_later(0.12, stop.set)
        await watch.run(stop)
        return watch

    watch = asyncio.run(go())

    assert watch.totals_s["redis-1"] >= 0.4
    assert any("lag" in problem for problem in watch.problems)
    assert {row.name for row in watch.rows} == {"cpu_cores", "host_busy_cores", "steal_cores"}


def test_work_done_in_a_gap_is_counted_and_a_counter_that_fell_was_started_again():
    """CPU of a node must close to the host's busy time, whatever was not answered meanwhile."""
    answers = iter([{"a": 0.0}, {}, {"a": 3e8}, {"a": 1e8}, {"a": 2e8}])

    async def cpu():
        return next(answers, {})

    async def nothing():
        return {}

    async def go():
        watch = sampler.Sampler(sampler.Sources(cpu, nothing, nothing, nothing), time.monotonic_ns(), every_s=0.01)
        stop = asyncio.Event()
        asyncio.get_running_loop().call_later(0.1, stop.set)
        await watch.run(stop)
        return watch

    watch = asyncio.run(go())

    assert watch.totals_s["a"] == pytest.approx(0.5)  # 0.3 over the gap, 0.1 of the new process, 0.1 more
    assert all(row.value < 1e9 for row in watch.rows)
