"""Fixtures of the drills: a whole cluster, brought up once for all of them in the range of the run."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from system.kernel.errors import LabError
from system.kernel.policies import Policies
from system.platform import native
from tweetlab import home, session
from tweetlab.screen import Screen


@pytest.fixture(scope="session")
def cluster() -> Iterator[native.Lab]:
    """A lab of the blueprint `cluster`, well in every node; taken down at the end with its data.

    One that stands already in this range is used, and left standing.
    """
    yield from whole("cluster", home.lab_range())


def whole(blueprint: str, range_: int) -> Iterator[native.Lab]:
    """Yield a lab of `blueprint` in this range, brought up and taken down again unless it stood."""
    lab = native.Lab(home.ROOT, range_)
    stood = asyncio.run(lab.is_up())
    if stood and (standing := asyncio.run(lab.blueprint()).name) != blueprint:
        pytest.fail(f"the lab {standing!r} is up in range {lab.plan.range}: take it down with `tweetlab down`")
    try:
        if not stood:
            asyncio.run(session.start(lab, blueprint, Screen(), Policies()))
    except LabError as problem:
        pytest.fail(f"{blueprint} did not come up: {problem}")
    yield lab
    if not stood:
        asyncio.run(lab.down(purge=True))
