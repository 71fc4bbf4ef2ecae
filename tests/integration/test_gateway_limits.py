"""Rate limits on a dedicated real Redis: shared exactly, and enforced while it is stopped, killed or full (point 16)."""

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
    """A Redis for limits that a test can stop and kill."""
    redis = OwnRedis(tmp_path)
    await redis.start()
    yield redis
    await redis.kill()


@pytest.fixture
async def gateways(server):
    """Two gateways that share it."""
    config = services_rig.fresh_settings(KNOBS)
    config = replace(config, stores=replace(config.stores, limits=server.address))
    async with edge_rig.gateways(config, 2, limits=lambda: RedisLimits.open(config)) as found:
        yield found


async def statuses(gateways, count: int) -> list[int]:
    """Send `count` requests of one user, alternating between both gateways, a few concurrently."""
    results: list[int] = []
    for first in range(0, count, 4):
        results += [status for status, _ in await asyncio.gather(
            *(gateways.ask(n % 2, edge_rig.token()) for n in range(first, min(count, first + 4))))]
    return results


async def shared_again(gateways) -> None:
    """Return when both gateways count in the store: a new caller gets the full limit."""
    names = iter(range(1_000, 2_000))

    async def full() -> bool:
        limits = [(await gateways.ask(which, edge_rig.token(next(names))))[1]["x-rate-limit-limit"] for which in (0, 1)]
        return limits == [str(LIMIT)] * 2

    await until(full, 8.0)


async def test_two_gateways_share_one_limit_exactly(gateways):
    """One window for both; then 429 with the headers that Twitter's clients expect."""
    codes = await statuses(gateways, 40)
    status, headers = await gateways.ask(0, edge_rig.token())

    assert (codes.count(200), codes.count(429)) == (LIMIT, 40 - LIMIT)
    assert status == 429 and int(headers["retry-after"]) > 100
    assert {"x-rate-limit-limit", "x-rate-limit-remaining", "x-rate-limit-reset"} <= set(headers)


async def test_a_stopped_store_admits_at_most_one_more_window_and_fails_no_request(gateways, server):
    """SIGSTOP: every gateway admits its share, not more; when the store resumes it learns what they admitted."""
    before = await statuses(gateways, 2 * LIMIT)
    os.kill(server.pid, signal.SIGSTOP)
    try:
        during = await statuses(gateways, 3 * LIMIT)
    finally:
        os.kill(server.pid, signal.SIGCONT)
    await shared_again(gateways)
    after = await statuses(gateways, LIMIT)

    assert set(before + during + after) == {200, 429}
    assert (before.count(200), during.count(200), after.count(200)) == (LIMIT, LIMIT, 0)


async def test_a_killed_store_that_restarts_empty_starts_no_third_window(gateways, server):
    """SIGKILL loses the counters; the gateways report their admissions to the new server before it decides."""
    before = await statuses(gateways, LIMIT)
    await server.kill()
    during = await statuses(gateways, 2 * LIMIT)
    await server.start()
    await shared_again(gateways)
    after = await statuses(gateways, 2 * LIMIT)

    assert set(before + during + after) == {200, 429}
    assert during.count(200) == LIMIT
    assert (before + during + after).count(200) <= 2 * LIMIT


async def test_a_full_store_admits_only_the_share(gateways, server):
    """noeviction: it refuses writes, no counter is evicted, and each gateway admits its share."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(b"CONFIG SET maxmemory 1\r\n")
    assert await reader.readline() == b"+OK\r\n"
    codes = await statuses(gateways, 3 * LIMIT)
    writer.close()

    # The server checks its memory one command late, so it may still count a request or two.
    assert set(codes) == {200, 429} and LIMIT <= codes.count(200) <= LIMIT + 2
