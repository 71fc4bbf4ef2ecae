"""Calibration end to end: a machine with known costs is measured, and another load of it is predicted.

The machine is the model itself with other demands and delays than the prior, so the true values are known
exactly. The tests cover the path from a record to a prediction, not the accuracy of the model for real
servers.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from reports import facts, finish, record
from reports.page import prediction
from scenarios import loader, spec, workload
from scenarios.world import population
from sim import calibrate, calibration, outcome, twin
from sim.calibration import Calibration, DelayShape
from sim.replication import Replication
from sim.state import Seeded
from system.kernel.errors import WrongInput
from tests.helpers import twin_harness as harness

SCALES = {"gateway-1": 1.8, "timelines-1": 1.5, "cassandra-1": 0.6, "redis-1": 1.3, "load-generator": 1.2, "kafka-1": 2.0}


def machine() -> Calibration:
    """Return other costs than the prior's, delays in reads and posts, and more background CPU."""
    prior = calibration.load(harness.LITERATURE)
    units = {}
    for name, cost in prior.units.items():
        scale = SCALES.get(name.partition(".")[0], 1.0)
        units[name] = dataclasses.replace(cost, base_us=cost.base_us * scale, per_item_us=cost.per_item_us * scale)
    slow = {f"{route}.store": DelayShape((0.5, 0.8, 1.0, 1.5, 4.0), "test") for route in ("home", "post", "search")}
    background = {**prior.background_cores, "cassandra-1": 0.08}
    return dataclasses.replace(prior, units=units, delays={**prior.delays, **slow}, background_cores=background)


def measured(scenario: spec.Scenario, seed: int) -> tuple[facts.Facts, workload.Tape, population.Graph]:
    """Return the facts of a run of `scenario` on that machine."""
    graph = population.graph_of(scenario.population, scenario.seed)
    tape = workload.draw(scenario, graph)
    played = Replication(scenario, machine(), Seeded.of(scenario, graph), seed).play(tape)
    simulated = outcome.facts_of(played, scenario, tape, {}, machine())
    as_real = dataclasses.replace(simulated, kind="system", generator=facts.Generator(0.1, 0, True), host={"steal": 0.0})
    return as_real, tape, graph


@pytest.fixture(scope="module")
def low_load(tmp_path_factory: pytest.TempPathFactory) -> record.Run:
    """Return the record of the 20 s of the quick calibration."""
    run_facts, _, _ = measured(loader.load("calibrate_quick", ("measure.warm_caches=false",)), seed=99)
    return finish.finish(tmp_path_factory.mktemp("runs"), run_facts)


@pytest.fixture(scope="module")
def calibrated(low_load: record.Run) -> Calibration:
    """Return the calibration from that record."""
    return calibrate.quick(low_load, calibration.load(harness.LITERATURE))


def test_the_file_states_its_source(calibrated: Calibration, low_load: record.Run, tmp_path: Path) -> None:
    """Label, run, operations; the file round-trips."""
    assert calibrated.label == "quick calibration, 1 load"
    assert calibrated.provenance["runs"] == [low_load.run_id]
    assert calibrated.in_sample_of == low_load.run_id
    assert calibrated.diagnostics["cpu"]["gateway-1"]["condition"] > 1.0
    calibrated.save(tmp_path / "c.json")
    assert calibration.load(tmp_path / "c.json") == calibrated


def test_dominant_costs_are_recovered_and_marked_as_identified(calibrated: Calibration) -> None:
    """The gateway's home read costs 450 us here, an author's list 210 us of Cassandra: recovered within a
    fifth.
    """
    home, author = calibrated.units["gateway-1.home"], calibrated.units["cassandra-1.author_read"]

    assert home.identified
    assert home.base_us == pytest.approx(450.0, rel=0.2)
    assert author.base_us == pytest.approx(210.0, rel=0.2)
    assert calibrated.background_cores["cassandra-1"] == pytest.approx(0.08, abs=0.02)


def test_units_that_did_not_occur_are_marked_as_not_identified(calibrated: Calibration) -> None:
    """A worker that built no author lists gives no information about their cost."""
    assert not calibrated.units["fanout-1.author_list"].identified
    assert "fanout-1.author_list" in calibrated.brief()["unidentified"]


def test_another_load_and_mix_is_predicted(calibrated: Calibration) -> None:
    """A held-out run at three times the rate: mean within 20 %, p95 within 25 % for large samples; CPU within
    15 %.

    The bounds are wide because 20 s contain few responses of each route; a longer calibration run narrows it.
    """
    scenario = loader.load("first_run", ("workload.stages.0.for=30 s", "workload.stages.0.rate=80/s", "faults=[]",
                                         "objectives=[home p99 <= 250 ms steady]"))  # fmt: skip
    truth, tape, graph = measured(scenario, seed=77)

    predicted = twin.run(scenario, calibrated, tape, graph, replications=1)

    block = prediction.block(finish.parts(truth).document, finish.parts(predicted.facts).document, predicted.label)
    for route in ("home", "post"):
        errors = {name: pair["error"] for name, pair in block["routes"][route]["response_ms"].items()}
        assert abs(errors["mean"]) < 0.20, errors
        assert abs(errors["p95"]) < 0.25, errors
    for node in ("cassandra-1", "redis-1", "gateway-1", "kafka-1"):
        assert abs(block["cpu"][node]["error"]) < 0.15, node


def test_a_record_without_cpu_or_operations_is_refused(low_load: record.Run) -> None:
    """The error states what is missing and how to get it."""
    class Bare(record.Run):
        @property
        def history(self):  # type: ignore[no-untyped-def, override]
            return low_load.history.head(10)

    with pytest.raises(WrongInput, match="at least 50"):
        calibrate.quick(Bare(low_load.path, low_load.document))
    with pytest.raises(WrongInput, match="cpu_cores"):
        calibrate.demands(low_load.series.head(0), {}, calibration.load(harness.LITERATURE))
