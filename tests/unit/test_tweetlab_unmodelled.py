"""Scenarios that the twin does not model: the twin alone refuses them, a run on both has no prediction."""

import types

import pytest

from scenarios import loader
from sim import services
from system.kernel.errors import CouldNotRun
from tweetlab.run import inputs, prediction, run_request
from tweetlab.terminal import Screen

SMALL = ["population.users=200", "population.follows={shape: even, mean: 5, max: 5}", "population.likes=0"]


@pytest.fixture
def scenario(monkeypatch):
    """A scenario with likes, and a twin that does not model them."""
    monkeypatch.setattr(services, "ROUTES", {name: steps for name, steps in services.ROUTES.items() if name != "like"})
    return loader.load("first_run", SMALL)


def test_the_twin_alone_refuses_with_the_route_and_the_fix(scenario):
    """Before any replication starts."""
    with pytest.raises(CouldNotRun, match=r"does not model like, which this scenario contains.*--on system"):
        run_request.execute(run_request.RunRequest(scenario, "twin", "tweetlab run"), Screen())


def test_a_run_on_both_keeps_its_result_without_a_prediction(scenario, monkeypatch):
    """The measurement is valid without a prediction."""
    run, warnings = types.SimpleNamespace(run_id="r"), []
    monkeypatch.setattr(Screen, "warn", lambda self, text: warnings.append(text))

    assert run_request.predict(run, scenario, inputs.draw(scenario), None, Screen()) is run
    assert warnings == ["no prediction: the twin does not model like"]


@pytest.mark.parametrize(("name", "overrides", "message"), [
    ("zone_loss", [], "the fault zone_loss"),
    ("region_loss", [], "the fault region_loss, the links between regions"),
    ("region_cut", [], "the fault region_cut, the links between regions"),
    ("region_calm", ["faults=[{at: 20 s, kind: wan_slow, target: lines, for: 9 s, loss: 1 %}]"], "the fault wan_slow, the links"),
    ("region_calm", [], "the links between regions"),
    ("zone_calm", ["faults=[{at: 20 s, kind: kill, target: cassandra-2}]"], "the loss of cassandra-2, one of several"),
    ("zone_calm", ["faults=[{at: 20 s, kind: kill, target: redis}]"], "the loss of redis, one of several"),
])
def test_a_fault_that_the_model_lacks_is_refused_instead_of_modeled_wrongly(name, overrides, message):
    """A zone, and a member of a store that has others: in the model the death of one would be the death of all."""
    with pytest.raises(CouldNotRun, match=f"does not model {message}.*which"):
        run_request.execute(run_request.RunRequest(loader.load(name, overrides), "twin", "tweetlab run"), Screen())


def test_the_death_of_a_service_instance_is_modeled_in_a_cluster_too():
    """The model has both instances of each service."""
    wanted = loader.load("zone_calm", ["faults=[{at: 20 s, kind: kill, target: timelines-2}]"])

    assert prediction.unmodelled(inputs.draw(wanted).tape.planned(), wanted) == []
