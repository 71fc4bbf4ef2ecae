"""The sampler: CPU per node from cumulative counters, gaps where a source fails."""

import asyncio
import os
import time

import pytest
import redis.exceptions

from system.kernel.errors import StoreUnavailable
from tweetlab.run import sampler


def test_the_host_is_busy_in_everything_but_idle_and_iowait():
    """Steal is separate: it is not work of this machine."""
    times = sampler.host_times("cpu  100 10 50 900 40 5 5 30 0 0\n")

    assert (round(times.busy_s, 6), times.steal_s) == (1.7, 0.3)


def test_cpu_of_a_process_counts_its_ended_threads():
    """The process CPU clock includes the work of exited threads."""
    before = sampler.process_cpu_ns(os.getpid())
    end_s = time.thread_time() + 0.05
    while time.thread_time() < end_s:
        sum(range(1000))

    assert sampler.process_cpu_ns(os.getpid()) - before >= 45_000_000


def test_a_source_that_fails_leaves_a_gap_and_never_ends_the_run():
    """A killed server must not lose the record."""
    totals_ns = iter([0.0, 2e8, 4e8, 6e8])
    stop = asyncio.Event()

    async def cpu():
        total_ns = next(totals_ns)
        if total_ns == 4e8:
            stop.set()
        return {"redis-1": total_ns}

    async def broken():
        raise StoreUnavailable("down")

    async def lost():
        raise redis.exceptions.ConnectionError("the server was just killed")  # not an OSError

    async def go():
        watch = sampler.Sampler(sampler.Sources(cpu, broken, broken, lost), time.monotonic_ns(), every_s=0.05)
        await watch.run(stop)
        return watch

    watch = asyncio.run(go())

    assert watch.totals_s["redis-1"] == pytest.approx(0.4)
    assert any("lag" in problem for problem in watch.problems)
    assert {row.name for row in watch.rows} == {"cpu_cores", "host_busy_cores", "steal_cores"}


def test_work_in_a_gap_is_counted_and_a_dip_is_not_counted_twice():
    """CPU of a node must add up to the host's busy time despite gaps; a server's own counters restart."""
    nodes = iter([{"a": 0.0}, {}, {"a": 3e8}, {"a": 1e8}, {"a": 4e8}])
    counts = iter([{"hits": 10.0}, {"hits": 30.0}, {}, {"hits": 5.0}])

    async def cpu():
        return next(nodes, {})

    async def counters():
        return next(counts, {})

    async def nothing():
        return {}

    async def go():
        watch = sampler.Sampler(sampler.Sources(cpu, nothing, nothing, counters), 0)
        for second in range(1, 6):
            watch._record(await watch._read() | {"at_ns": second * 1e9})
        return watch

    watch = asyncio.run(go())

    assert watch.totals_s["a"] == pytest.approx(0.4)
    series = {name: [(row.t_s, row.value) for row in watch.rows if row.name == name] for name in ("cpu_cores", "hits")}
    assert [at for at, _ in series["cpu_cores"]] == [1.0, 3.0, 4.0]
    assert [value for _, value in series["cpu_cores"]] == pytest.approx([0.15, 0.0, 0.1])
    assert series["hits"] == [(1.0, 20.0), (2.0, 2.5)]
