"""Labs of complete blueprints, for the drills."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from system.kernel.errors import LabError
from system.kernel.policies import Policies
from system.platform import native
from tweetlab import home
from tweetlab.lab import session
from tweetlab.terminal import Screen


def lab_of_blueprint(blueprint: str, range_: int) -> Iterator[native.Lab]:
    """Yield a lab of `blueprint` in this range, started and stopped here unless it was already up."""
    lab = native.Lab(home.ROOT, range_)
    was_up = asyncio.run(lab.is_up())
    if was_up and (running := asyncio.run(lab.blueprint()).name) != blueprint:
        pytest.fail(f"the lab {running!r} is up in range {lab.plan.range}: take it down with `tweetlab down`")
    try:
        if not was_up:
            asyncio.run(lab.down(purge=True))  # what an interrupted run left in this range
            asyncio.run(session.start(lab, blueprint, Screen(), Policies()))
    except LabError as problem:
        pytest.fail(f"{blueprint} did not come up: {problem}")
    yield lab
    if not was_up:
        asyncio.run(lab.down(purge=True))
