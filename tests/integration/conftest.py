"""Fixtures of the tests on real servers. A test that needs a lab asks for `bench` (stores and handlers) or `rig` (services)."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from system.kernel import policies
from system.kernel.errors import LabError
from tests.helpers import races_bench, services_rig

SMALL = policies.Policies(
    fanout=policies.FanoutKnobs(push_limit=1_000, chunk=5),
    timeline=policies.TimelineKnobs(cap=30, trim_slack=5, mode_ttl_s=0.5, building_ttl_s=5.0),
)
"""Knobs that make every edge case near: lists of 30, chunks of 5, modes that are known to all after half a second."""


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def bench() -> AsyncIterator[races_bench.Bench]:
    """Handlers over real stores, one namespace for all tests of a run; each test signs up its own users."""
    try:
        async with races_bench.bench(SMALL) as found:
            yield found
    except LabError as problem:
        pytest.fail(f"no lab answers in this range: {problem} Start one with `tweetlab up`.")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def standing_rig() -> AsyncIterator[services_rig.Rig]:
    """All services on real stores behind HTTP, one namespace for all tests of a run."""
    config = services_rig.fresh_settings()
    async with services_rig.stores(config) as ports, services_rig.running(config, ports) as found:
        yield found


@pytest_asyncio.fixture(loop_scope="session")
async def rig(standing_rig: services_rig.Rig) -> services_rig.Rig:
    """The running services, ready. Their tasks did not run during a test in another event loop: let them catch up first."""
    await standing_rig.catch_up()
    return standing_rig
