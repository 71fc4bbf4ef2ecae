"""Rows about the platform: startup time, memory, bulk seeding.

Each starts from empty data in the lab's range.
"""

from __future__ import annotations

import time

from scenarios import loader
from scenarios.world import seeded_world
from system.kernel import policies
from system.kernel.errors import CouldNotRun
from system.platform import native
from tweetlab import home
from tweetlab.lab import session
from tweetlab.run import runner, seeding, smoke
from tweetlab.terminal import Screen

BIG = ["population.users=100000", "population.follows.mean=40", "population.follows.max=10000", "population.history=10"]


async def fresh() -> native.Lab:
    """Return the lab of this range, down and without data. Raises CouldNotRun if it is up."""
    lab = native.Lab(home.ROOT, home.lab_range())
    if await lab.is_up():
        raise CouldNotRun("A lab is up, but this row starts its own from empty data. To fix: `tweetlab down`.")
    await lab.down(purge=True)
    return lab


async def up_small_s() -> float:
    """Return the seconds of `up small` on empty data, until all services are healthy."""
    lab = await fresh()
    began = time.monotonic()
    try:
        await session.start(lab, "small", Screen(), policies.Policies())
        return time.monotonic() - began
    finally:
        await lab.down(purge=True)


async def rss_small_gib() -> float:
    """Return the resident memory of all processes of small right after a run of `first_run`, in GiB."""
    await fresh()
    scenario = loader.load("first_run")
    async with session.opened(Screen(), "small", scenario.policies) as lab:
        await runner.run(lab, scenario, "bench rss_small_gib", check=False)
        return sum((await lab.lab.rss_bytes()).values()) / 2**30


async def seed_100k_s() -> float:
    """Return the seconds to write 100,000 users, 4 million follows and 1 million tweets into the stores."""
    await fresh()
    scenario = loader.load("first_run", BIG)
    world = seeded_world.draw(scenario.population, scenario.seed)
    async with session.opened(Screen(), "small", scenario.policies) as lab:
        began = time.monotonic()
        manifest = await seeding.ensure(lab, scenario, world, force=True)
        took = time.monotonic() - began
        if (manifest["users"], manifest["tweets"]) != (100_000, 1_000_000) or manifest["follows"] < 3_900_000:
            raise CouldNotRun(f"Seeding wrote an unexpected population: {dict(manifest)}.")
        return took


async def reset_small_s() -> float:
    """Return the seconds of a reset before a run whose population is already seeded: services, stores and probe."""
    await fresh()
    scenario = loader.load("first_run", ["population.cache=cold"])
    async with session.opened(Screen(), "small", scenario.policies, resets=True) as lab:
        await seeding.ensure(lab, scenario)
        await smoke.journey(lab.base_url)
        began = time.monotonic()
        await seeding.ensure(lab, scenario)
        return time.monotonic() - began
