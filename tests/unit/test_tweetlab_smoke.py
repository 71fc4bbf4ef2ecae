"""The smoke journey: any error in a step is that step's failure, never a traceback."""

from __future__ import annotations

import asyncio

import pytest

from system.kernel.errors import CouldNotRun
from tweetlab.run import smoke


@pytest.mark.parametrize("problem", [
    TimeoutError(), ValueError("no JSON"), TypeError("a list"), KeyError("data"), ConnectionResetError(), CouldNotRun("500"),
])
def test_a_step_that_fails_ends_the_journey_and_is_reported(monkeypatch, problem):
    """A signed PUT that times out raises no ClientError; a reply that is not an object raises TypeError."""
    async def fine():
        return None

    async def fails():
        raise problem

    monkeypatch.setattr(smoke._Journey, "steps", lambda _: [("first", fine), ("second", fails), ("third", fine)])

    steps = asyncio.run(smoke.journey("http://127.0.0.1:9"))

    assert [(step.name, step.ok) for step in steps] == [("first", True), ("second", False)]
    assert steps[-1].detail
