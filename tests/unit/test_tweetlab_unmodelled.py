"""A mix with a route that the twin has no program for: the twin alone says so, a run on both goes without a prediction."""

import types

import pytest

from scenarios import loader
from sim import services
from system.kernel.errors import CouldNotRun
from tweetlab import asking, runner
from tweetlab.screen import Screen

SMALL = ["population.users=200", "population.follows={shape: even, mean: 5, max: 5}", "population.likes=0"]


@pytest.fixture
def question(monkeypatch):
    """A scenario whose likes the twin has forgotten how to play."""
    monkeypatch.setattr(services, "ROUTES", {name: steps for name, steps in services.ROUTES.items() if name != "like"})
    return loader.load("first_run", SMALL)


def test_the_twin_alone_refuses_with_the_route_and_the_mend(question):
    """Before any replication begins."""
    with pytest.raises(CouldNotRun, match=r"does not model like of this mix.*--on system"):
        asking.answer(asking.Ask(question, "twin", "tweetlab run"), Screen())


def test_a_run_on_both_keeps_its_answer_without_a_prediction(question, monkeypatch):
    """What was measured stands."""
    run, told = types.SimpleNamespace(run_id="r"), []
    monkeypatch.setattr(Screen, "warn", lambda self, text: told.append(text))

    assert asking.predict(run, question, runner.world_of(question), None, Screen()) is run
    assert told == ["no prediction: the twin does not model like"]
