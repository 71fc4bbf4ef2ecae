"""Rate limits on a real Redis of their own: shared exactly, and closed while it is stopped, killed or full (point 16)."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import replace

import pytest

from system.kernel.policies import LimitKnobs, Policies
from system.stores.redis.limits import RedisLimits
from tests.helpers import edge_rig, services_rig
from tests.helpers.adapters import OwnRedis
from tests.helpers.services_rig import until

pytestmark = pytest.mark.real

LIMIT = 20
KNOBS = Policies(limits=LimitKnobs(window_s=120.0, read=LIMIT, user=0, max_gateways=2))


@pytest.fixture
async def server(tmp_path):
    """A Redis for limits that a test may stop and kill."""
    found = OwnRedis(tmp_path)
    await found.start()
    yield found
    await found.kill()


@pytest.fixture
async def door(server):
    """Two gateways that count in it."""
    config = services_rig.fresh_settings(KNOBS)
    config = replace(config, stores=replace(config.stores, limits=server.address))
    async with edge_rig.gateways(config, 2, limits=lambda: RedisLimits.open(config)) as found:
        yield found


async def statuses(door, count: int) -> list[int]:
    """Send `count` requests of one user, by turns to both gateways, a few at once."""
    told: list[int] = []
    for first in range(0, count, 4):
        told += [status for status, _ in await asyncio.gather(
            *(door.ask(n % 2, edge_rig.token()) for n in range(first, min(count, first + 4))))]
    return told


async def shared_again(door) -> None:
    """Return when both gateways count in the store: a caller nobody knows is told the whole limit."""
    names = iter(range(1_000, 2_000))

    async def whole() -> bool:
        told = [(await door.ask(which, edge_rig.token(next(names))))[1]["x-rate-limit-limit"] for which in (0, 1)]
        return told == [str(LIMIT)] * 2

    await until(whole, 8.0)


async def test_two_gateways_admit_the_limit_together_exactly(door):
    """One window for both; then 429 with what Twitter's clients look for."""
    told = await statuses(door, 40)
    status, headers = await door.ask(0, edge_rig.token())

    assert (told.count(200), told.count(429)) == (LIMIT, 40 - LIMIT)
    assert status == 429 and int(headers["retry-after"]) > 100
    assert {"x-rate-limit-limit", "x-rate-limit-remaining", "x-rate-limit-reset"} <= set(headers)


async def test_a_stopped_store_costs_at_most_one_window_and_no_request_fails(door, server):
    """SIGSTOP: every gateway admits its share, not more; when the store wakes it knows what they admitted."""
    before = await statuses(door, 2 * LIMIT)
    os.kill(server.pid, signal.SIGSTOP)
    try:
        during = await statuses(door, 3 * LIMIT)
    finally:
        os.kill(server.pid, signal.SIGCONT)
    await shared_again(door)
    after = await statuses(door, LIMIT)

    assert set(before + during + after) == {200, 429}
    assert (before.count(200), during.count(200), after.count(200)) == (LIMIT, LIMIT, 0)


async def test_a_killed_store_that_comes_back_empty_begins_no_third_window(door, server):
    """SIGKILL loses the counters; what was admitted meanwhile is told to the new server before it decides."""
    before = await statuses(door, LIMIT)
    await server.kill()
    during = await statuses(door, 2 * LIMIT)
    await server.start()
    await shared_again(door)
    after = await statuses(door, 2 * LIMIT)

    assert set(before + during + after) == {200, 429}
    assert during.count(200) == LIMIT
    assert (before + during + after).count(200) <= 2 * LIMIT


async def test_a_full_store_lets_nobody_in_beyond_the_share(door, server):
    """noeviction: it refuses to write, no counter is dropped, and the gateways admit their share."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(b"CONFIG SET maxmemory 1\r\n")
    assert await reader.readline() == b"+OK\r\n"
    told = await statuses(door, 3 * LIMIT)
    writer.close()

    # The server looks at its memory one command late, so a request or two were still counted in it.
    assert set(told) == {200, 429} and LIMIT <= told.count(200) <= LIMIT + 2
