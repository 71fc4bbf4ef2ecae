"""Which calibration a prediction uses, and what the demo does with one that is refused."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from scenarios import loader
from sim import calibration, fingerprint
from sim.gate import Rung
from system.kernel.errors import CouldNotRun
from tweetlab import demo, home
from tweetlab.calibrate import experiment, store

HERE = {"cpu_model": "AMD EPYC", "cores": 2, "versions": {"redis": "7.0.15", "kafka": "4.1.1"}, "loopback_us": 20.0,
        "fsync_ms": 0.4}


class Screen:
    """A screen that records its lines."""

    def __init__(self):
        self.said, self.warned = [], []

    def say(self, text):
        self.said.append(text)

    def warn(self, text):
        self.warned.append(text)

    def step(self, title):
        import contextlib
        return contextlib.nullcontext()


@pytest.fixture
def places(monkeypatch, tmp_path):
    """A user's cache folder and a checkout without any calibration."""
    monkeypatch.setattr(home, "ROOT", tmp_path / "checkout")
    monkeypatch.setattr(store.packages, "cache", lambda: tmp_path / "cache")
    return tmp_path


def made(label, here=HERE):
    return dataclasses.replace(calibration.default(), label=label, fingerprint=here)


def test_a_full_calibration_of_this_machine_comes_first(places):
    """Before the demo's, before the shipped one."""
    store.keep(made("quick"), store.quick_path())
    store.keep(made("full"), store.full_path(HERE))

    assert store.choose("", HERE).calibration.label == "full"


def test_the_demos_is_used_where_there_is_no_full_one(places):
    store.keep(made("quick"), store.quick_path())

    assert store.choose("", HERE).calibration.label == "quick"


def test_one_that_is_older_than_the_model_is_left_alone(places):
    """A file without a unit that the model uses now would break every prediction."""
    fewer = dict(list(calibration.default().units.items())[1:])
    store.keep(dataclasses.replace(made("old"), units=fewer), store.quick_path())

    assert store.choose("", HERE).path == calibration.DEFAULT


def test_the_shipped_one_names_its_machine_where_it_is_another(places):
    """It answers everywhere, and says that it does not hold here."""
    other = {**HERE, "cpu_model": "Another CPU"}

    chosen = store.choose("", other)

    assert store.NOT_HERE in chosen.calibration.label
    assert any("processor" in reason for reason in chosen.foreign)


@pytest.mark.parametrize(("change", "what"), [
    ({"cores": 4}, "number of cores"), ({"versions": {"redis": "8.0"}}, "redis is 8.0 here, 7.0.15 there"),
    ({"loopback_us": 34.0}, "loopback round trip is 34"), ({"fsync_ms": 1.1}, "fsync is 1.1")])
def test_a_fingerprint_that_differs_says_in_what(change, what):
    assert any(what in reason for reason in fingerprint.differences(HERE, {**HERE, **change}))


def test_small_differences_of_speed_and_missing_servers_are_no_difference():
    """Loopback may differ by half and fsync more than twofold; a machine without a server has no other version of it."""
    assert fingerprint.differences(HERE, {**HERE, "loopback_us": 29.0, "fsync_ms": 0.6, "versions": {"redis": "7.0.15"}}) == []


def test_speeds_that_were_measured_beside_other_programs_are_not_compared():
    """A disk that two busy cores wait for is ten times as slow as the same disk on an idle machine."""
    slow = {**HERE, "fsync_ms": 4.0}

    assert fingerprint.differences(HERE, {**slow, "others_cores": 1.9}) == []
    assert fingerprint.differences(HERE, {**slow, "others_cores": 0.1}) != []


def rung(**error):
    return Rung(1, 110.0, 0.5, True, error, dict.fromkeys(error, 0.01), {}, {})


@pytest.fixture
def quick(monkeypatch, places):
    """The result of the demo's experiment, to be set by the test."""
    result = SimpleNamespace(value=None, prior=None)

    async def run(lab, screen, prior):
        result.prior = prior
        if isinstance(result.value, Exception):
            raise result.value
        return result.value

    monkeypatch.setattr(demo.experiment, "quick", run)
    monkeypatch.setattr(demo.fingerprint, "here", lambda: HERE)
    return result


@pytest.mark.asyncio
async def test_the_demo_keeps_a_quick_calibration_that_passes_its_gate(quick):
    quick.value = experiment.Result(made("quick"), (rung(cpu=0.01),), ())
    screen = Screen()

    found = await demo._calibration(None, screen)

    assert found.label == "quick" and screen.warned == []
    assert calibration.load(store.quick_path()).label == "quick"


@pytest.mark.asyncio
@pytest.mark.parametrize("value", [
    experiment.Result(made("quick"), (rung(cpu=0.4),), ("the median error of cpu over 3 rungs is 40%; 3% is allowed",)),
    CouldNotRun("The run calibrate_quick/1 is void: another program took the CPU.")])
async def test_a_refused_quick_calibration_ends_nothing_and_is_named(quick, value):
    """The demo goes on with the shipped calibration, whose label says why; nothing of the refused one is kept."""
    quick.value = value
    screen = Screen()

    found = await demo._calibration(None, screen)

    assert store.NOT_HERE in found.label and screen.warned
    assert found.label.endswith(("is allowed", "took the CPU."))
    assert not store.quick_path().exists()


@pytest.mark.asyncio
async def test_the_demo_refines_the_full_calibration_of_this_machine(quick):
    """The JVMs of its lab are colder than those of the full one."""
    store.keep(made("full"), store.full_path(HERE))
    quick.value = experiment.Result(made("quick"), (rung(cpu=0.01),), ())

    assert (await demo._calibration(None, Screen())).label == "quick"
    assert quick.prior.label == "full"


@pytest.mark.asyncio
async def test_a_refused_refinement_leaves_the_full_calibration(quick):
    store.keep(made("full"), store.full_path(HERE))
    quick.value = experiment.Result(made("quick"), (rung(cpu=0.4),), ("the CPU is off",))
    screen = Screen()

    assert (await demo._calibration(None, screen)).label == "full" and "  the CPU is off" in screen.warned
    assert not store.quick_path().exists()


def anchor(busy_cores: float) -> SimpleNamespace:
    """A run with one stage of 30 s that uses `busy_cores` of two."""
    seconds = np.arange(1.0, 31.0)
    rows = [{"t_s": t, "name": name, "node": node, "value": value} for t in seconds
            for name, node, value in (("host_busy_cores", "", busy_cores), ("cpu_cores", "gateway-1", busy_cores))]
    document = {"scenario": {"resolved": {"workload": {"stages": [{"for_s": 30.0}]}}}, "host": {"cores": 2}}
    return SimpleNamespace(series=pd.DataFrame(rows), document=document)


@pytest.mark.parametrize(("busy_cores", "factor"), [(1.36, 1.0), (1.088, 1.25), (0.2, 1.8), (1.99, 0.683)])
def test_the_rates_of_the_ladders_follow_the_machine(busy_cores, factor):
    """Where the anchor uses 68 % of the machine the highest rungs use three quarters; the factor is between 0.6 and 1.8."""
    assert experiment.rate_factor(anchor(busy_cores)) == pytest.approx(factor, rel=0.01)


def test_rates_are_scaled_and_idle_stages_are_not():
    scenario = experiment.at_rates(loader.load("calibrate_full"), 1.5)

    assert [stage.rate_from for stage in scenario.workload.stages[:3]] == [0.2, 45.0, 142.0]
    assert scenario.workload.load_s == loader.load("calibrate_full").workload.load_s
