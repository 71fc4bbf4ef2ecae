"""A run that begins while a primary is being moved."""

import types

import pytest

from system.kernel.errors import StoreUnavailable
from tweetlab.run import runner


@pytest.fixture
def started(monkeypatch):
    """What seeding answers, one after the other: an exception is raised. `said`: what people were told."""
    made = types.SimpleNamespace(answers=[], said=[])

    async def ensure(lab, scenario, world):
        answer = made.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(runner.seeding, "ensure", ensure)
    monkeypatch.setattr(runner, "SEED_PAUSE_S", 0.0)
    made.lab = types.SimpleNamespace(screen=types.SimpleNamespace(say=made.said.append))
    made.inputs = types.SimpleNamespace(world=None)
    return made


async def test_seeding_begins_again_where_a_store_goes_away(started):
    """After a drill PostgreSQL's primary may be moved in the run's first seconds; the run before is over and cannot wait."""
    started.answers = [StoreUnavailable("moved"), StoreUnavailable("moved"), {"users": 7}]

    assert await runner._seed(started.lab, None, started.inputs) == {"users": 7}
    assert len(started.said) == 2 and "seeding again in" in started.said[0]


async def test_a_store_that_stays_away_is_told(started):
    """Three times is enough."""
    started.answers = [StoreUnavailable(f"away {n}") for n in range(9)]

    with pytest.raises(StoreUnavailable, match="away 2"):
        await runner._seed(started.lab, None, started.inputs)
    assert len(started.answers) == 6
