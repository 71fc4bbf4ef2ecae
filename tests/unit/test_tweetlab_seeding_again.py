"""A run that starts while a primary is failing over."""

import types

import pytest

from system.kernel.errors import StoreUnavailable
from tweetlab.run import runner


@pytest.fixture
def started(monkeypatch):
    """A fake lab.

    `results`: what seeding returns or raises, one per call. `said`: the lines that were shown.
    """
    made = types.SimpleNamespace(results=[], said=[])

    async def ensure(lab, scenario, world):
        result = made.results.pop(0)
        if isinstance(result, Exception):
            raise result
        return result

    monkeypatch.setattr(runner.seeding, "ensure", ensure)
    monkeypatch.setattr(runner, "SEED_PAUSE_S", 0.0)
    made.lab = types.SimpleNamespace(screen=types.SimpleNamespace(say=made.said.append))
    made.inputs = types.SimpleNamespace(world=None)
    return made


async def test_seeding_is_retried_if_a_store_becomes_unavailable(started):
    """After a drill PostgreSQL may fail over in the first seconds of the next run."""
    started.results = [StoreUnavailable("moved"), StoreUnavailable("moved"), {"users": 7}]

    assert await runner._seed(started.lab, None, started.inputs) == {"users": 7}
    assert len(started.said) == 2 and "seeding again in" in started.said[0]


async def test_a_store_that_stays_unavailable_is_reported(started):
    """After three tries."""
    started.results = [StoreUnavailable(f"away {n}") for n in range(9)]

    with pytest.raises(StoreUnavailable, match="away 2"):
        await runner._seed(started.lab, None, started.inputs)
    assert len(started.results) == 6
