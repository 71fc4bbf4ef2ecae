"""A run that begins while a primary is being moved."""

import types

import pytest

from system.kernel.errors import StoreUnavailable
from tweetlab.run import runner


@pytest.fixture
def begun(monkeypatch):
    """What seeding answers, one after the other: an exception is raised. `said`: what people were told."""
    made = types.SimpleNamespace(answers=[], said=[])

    async def ensure(lab, scenario, graph, past):
        answer = made.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(runner.seeding, "ensure", ensure)
    monkeypatch.setattr(runner, "SEED_PAUSE_S", 0.0)
    made.lab = types.SimpleNamespace(screen=types.SimpleNamespace(say=made.said.append))
    made.world = types.SimpleNamespace(graph=None, past=None)
    return made


async def test_seeding_begins_again_where_a_store_goes_away(begun):
    """After a drill PostgreSQL's primary may be moved in the run's first seconds; the run before is over and cannot wait."""
    begun.answers = [StoreUnavailable("moved"), StoreUnavailable("moved"), {"users": 7}]

    assert await runner._seeded(begun.lab, None, begun.world) == {"users": 7}
    assert len(begun.said) == 2 and "begins again" in begun.said[0]


async def test_a_store_that_stays_away_is_told(begun):
    """Three times is enough."""
    begun.answers = [StoreUnavailable(f"away {n}") for n in range(9)]

    with pytest.raises(StoreUnavailable, match="away 2"):
        await runner._seeded(begun.lab, None, begun.world)
    assert len(begun.answers) == 6
