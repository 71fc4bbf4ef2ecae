"""Calibration end to end: a machine with known costs is measured, and another load of it is predicted.

The machine is the model itself with other demands and delays than the prior, so the true values are known
exactly. The tests cover the path from a record to a prediction, not the accuracy of the model for real
servers.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pandas as pd
import pytest

from reports import facts, finish, record
from reports.page import prediction
from scenarios import loader, spec, workload
from scenarios.world import population
from sim import calibrate, calibration, gate, outcome, twin
from sim.calibration import Calibration, DelayShape, Exponent
from sim.replication import Replication
from sim.state import Seeded
from system.kernel.errors import WrongInput
from tests.helpers import twin_harness as harness

SCALES = {"gateway-1": 1.8, "timelines-1": 1.5, "cassandra-1": 0.6, "redis-1": 1.3, "load-generator": 1.2, "kafka-1": 2.0}
PULLED, DEAR = "redis-1.pulled", 4.0
IDLE = {"cassandra-1": 0.03, "kafka-1": 0.02}
STAGES = ("workload.stages=["
          "{for: 10 s, rate: 0.5/s}, {for: 15 s, rate: 20/s}, {for: 15 s, rate: 60/s}, {for: 15 s, rate: 200/s},"
          "{for: 10 s, rate: 80/s, mix: {home: 70, post: 30}},"
          "{for: 10 s, rate: 80/s, mix: {user_tweets: 60, tweet: 40}}, {for: 10 s, rate: 60/s, mix: {follow: 50, like: 50}}]")


def machine() -> Calibration:
    """Return other costs than the prior's, work that gets cheaper with load, another network, and idle CPU."""
    prior = calibration.load(harness.LITERATURE)
    units = {}
    for name, cost in prior.units.items():
        scale = SCALES.get(name.partition(".")[0], 1.0)
        units[name] = dataclasses.replace(cost, base_us=cost.base_us * scale, per_item_us=cost.per_item_us * scale)
    units[PULLED] = dataclasses.replace(units[PULLED], per_item_us=prior.units[PULLED].per_item_us * DEAR)
    exponents = {"gateway-1": Exponent(0.25, 0.03, 0.005, 0.3)}
    return dataclasses.replace(prior, units=units, delays={**prior.delays, "net": DelayShape((0.3, 0.6, 1.5), "test")},
                               background_cores=IDLE, exponents=exponents)


def measured(scenario: spec.Scenario, seed: int) -> tuple[facts.Facts, workload.Tape, population.Graph]:
    """Return the facts of a run of `scenario` on that machine."""
    graph = population.graph_of(scenario.population, scenario.seed)
    tape = workload.draw(scenario, graph)
    played = Replication(scenario, machine(), Seeded.of(scenario, graph), seed).play(tape)
    simulated = outcome.facts_of(played, scenario, tape, {}, machine())
    as_real = dataclasses.replace(simulated, kind="system", generator=facts.Generator(0.1, 0, True), host={"steal": 0.0})
    return as_real, tape, graph


@pytest.fixture(scope="module")
def ladder(tmp_path_factory: pytest.TempPathFactory) -> record.Run:
    """Return the record of a short ladder with an idle stage."""
    run_facts, _, _ = measured(loader.load("calibrate_full", (STAGES, "faults=[]")), seed=99)
    return finish.finish(tmp_path_factory.mktemp("runs"), run_facts)


@pytest.fixture(scope="module")
def calibrated(ladder: record.Run) -> Calibration:
    """Return the full calibration from that record."""
    return calibrate.full(ladder, prior=calibration.load(harness.LITERATURE))


LISTS = ("workload.stages=[{for: 10 s, rate: 50/s}, {for: 15 s, rate: 60/s, mix: {home: 80, user_tweets: 20}}]",
         "faults=[{at: 12 s, kind: cache_loss, target: redis}]", "policies.fanout.push_limit=20")


def test_a_second_run_tells_what_pulled_authors_cost(ladder: record.Run, calibrated: Calibration, tmp_path: Path) -> None:
    """Naming one in a script of Redis costs DEAR times the prior, which the ladder, without any, does not show."""
    run_facts, _, _ = measured(loader.load("calibrate_lists", LISTS), seed=5)
    lists = finish.finish(tmp_path, run_facts)

    both = calibrate.full(ladder, lists, prior=calibration.load(harness.LITERATURE))

    assert both.provenance["runs"] == [ladder.run_id, lists.run_id]
    assert len(both.diagnostics["slowness"]) == len(calibrated.diagnostics["slowness"])
    assert both.diagnostics["cpu"]["redis-1"]["windows"] > calibrated.diagnostics["cpu"]["redis-1"]["windows"]
    prior = calibration.load(harness.LITERATURE).units[PULLED].per_item_us
    assert calibrated.units[PULLED].per_item_us < 1.6 * prior < 2.0 * prior < both.units[PULLED].per_item_us


def test_the_slice_that_reproduces_the_ladders_is_chosen(
    ladder: record.Run, calibrated: Calibration, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between 1.0 and 2.0 ms the model changes from too short to too long."""
    def replayed(_run: object, one: Calibration, _seeds: int) -> list[gate.Rung]:
        error = {"p50": 0.0, "p95": (one.slice_ms - 1.5) / 2.0}
        return [gate.Rung(1, 30.0, 0.2, True, error, {}, {}, {}), gate.Rung(2, 30.0, 0.2, False, {"p95": 9.0}, {}, {}, {})]

    monkeypatch.setattr(gate, "replayed", replayed)
    run = calibrate.replay(ladder, calibrated.cores)

    assert gate.with_slice(run, calibrated).slice_ms == 1.4


def test_the_file_states_its_source(calibrated: Calibration, ladder: record.Run, tmp_path: Path) -> None:
    """Label, run, operations; the file round-trips."""
    assert calibrated.label == calibrate.FULL
    assert calibrated.provenance["runs"] == [ladder.run_id]
    assert calibrated.in_sample_of == ladder.run_id
    assert calibrated.diagnostics["cpu"]["gateway-1"]["condition"] > 1.0
    calibrated.save(tmp_path / "c.json")
    assert calibration.load(tmp_path / "c.json") == calibrated


def test_idle_cpu_is_measured_and_the_exponent_is_found(calibrated: Calibration) -> None:
    """Cassandra idles at 0.03 cores; the gateway's work gets cheaper as load^-0.25, Redis' does not."""
    assert calibrated.background_cores["cassandra-1"] == pytest.approx(0.03, abs=0.01)
    assert calibrated.exponents["gateway-1"].exponent == pytest.approx(0.25, abs=0.1)
    assert calibrated.exponents["redis-1"].exponent == pytest.approx(0.0, abs=0.1)


def test_delays_are_fitted_by_hop(calibrated: Calibration) -> None:
    """The network's median of 0.6 ms is recovered, and the time of the services, which was not changed, is reproduced."""
    net = calibrated.delays["net"].quantiles_ms

    assert net[len(net) // 2] == pytest.approx(0.6, abs=0.15)
    assert calibrated.diagnostics["delays"]["gap_ms"]["service"]["p50"] == pytest.approx(0.0, abs=0.1)


def test_units_that_did_not_occur_are_marked_as_not_identified(calibrated: Calibration) -> None:
    """A worker that built no author lists gives no information about their cost."""
    assert not calibrated.units["fanout-1.author_list"].identified
    assert "fanout-1.author_list" in calibrated.brief()["unidentified"]


def test_another_load_and_mix_is_predicted(calibrated: Calibration) -> None:
    """A load that was not calibrated: mean within 10 %, p95 within 15 %, CPU within 8 %."""
    scenario = loader.load("first_run", ("workload.stages.0.for=30 s", "workload.stages.0.rate=90/s", "faults=[]",
                                         "objectives=[home p99 <= 250 ms steady]"))  # fmt: skip
    truth, tape, graph = measured(scenario, seed=77)

    predicted = twin.run(scenario, calibrated, tape, graph, replications=1)

    block = prediction.block(finish.parts(truth).document, finish.parts(predicted.facts).document, predicted.label)
    for route in ("home", "post"):
        errors = {name: pair["error"] for name, pair in block["routes"][route]["response_ms"].items()}
        assert abs(errors["mean"]) < 0.10, errors
        assert abs(errors["p95"]) < 0.15, errors
    for node in ("cassandra-1", "redis-1", "gateway-1", "kafka-1"):
        assert abs(block["cpu"][node]["error"]) < 0.08, node


def test_a_calibration_reproduces_its_own_rungs(calibrated: Calibration, ladder: record.Run) -> None:
    """The gate lets it pass; with a demand doubled it names the statistic and what is allowed."""
    replayed = calibrate.replay(ladder, calibrated.cores)
    wrong = {name: dataclasses.replace(cost, base_us=2 * cost.base_us) if name.startswith("timelines-1.") else cost
             for name, cost in calibrated.units.items()}

    assert gate.judge(gate.replayed(replayed, calibrated)) == []
    broken = gate.judge(gate.replayed(replayed, dataclasses.replace(calibrated, units=wrong), seeds=1))
    assert any(line.startswith("cpu is off at ") and "is allowed" in line for line in broken)


def test_a_quick_calibration_scales_each_process(ladder: record.Run, calibrated: Calibration) -> None:
    """From a prior that is half as expensive everywhere it finds the factor two, and keeps the ratios between units."""
    halved = {name: dataclasses.replace(cost, base_us=cost.base_us / 2, per_item_us=cost.per_item_us / 2)
              for name, cost in calibrated.units.items()}
    exponents = {node: dataclasses.replace(one, reference=one.reference / 2, lowest=one.lowest / 2, highest=one.highest / 2)
                 for node, one in calibrated.exponents.items()}

    quick = calibrate.quick(ladder, dataclasses.replace(calibrated, units=halved, exponents=exponents))

    for unit in ("gateway-1.home", "timelines-1.home", "redis-1.hot_read"):
        assert quick.units[unit].base_us == pytest.approx(calibrated.units[unit].base_us, rel=0.2), unit
    ratio = calibrated.units["gateway-1.home"].base_us / calibrated.units["gateway-1.post"].base_us
    assert quick.units["gateway-1.home"].base_us / quick.units["gateway-1.post"].base_us == pytest.approx(ratio, rel=1e-3)


def test_a_record_without_cpu_or_operations_is_refused(ladder: record.Run) -> None:
    """The error states what is missing and how to get it."""
    class Bare(record.Run):
        @property
        def history(self):  # type: ignore[no-untyped-def, override]
            return ladder.history.head(10)

        @property
        def series(self):  # type: ignore[no-untyped-def, override]
            return ladder.series

    class Dark(Bare):
        @property
        def series(self):  # type: ignore[no-untyped-def, override]
            return ladder.series.head(0)

    with pytest.raises(WrongInput, match="at least 50"):
        calibrate.full(Bare(ladder.path, ladder.document))
    with pytest.raises(WrongInput, match="cpu_cores"):
        calibrate.full(Dark(ladder.path, ladder.document))


def test_a_run_beside_other_programs_is_no_calibration(ladder: record.Run) -> None:
    """Half a core that no process owns in every other window: the error states the share and what to do."""
    class Beside(record.Run):
        @property
        def history(self):  # type: ignore[no-untyped-def, override]
            return ladder.history

        @property
        def series(self):  # type: ignore[no-untyped-def, override]
            rows = ladder.series.copy()
            disturbed = (rows["name"] == "host_busy_cores") & (rows["t_s"] % 10 < 5)
            rows.loc[disturbed, "value"] += 0.5
            return rows

    with pytest.raises(WrongInput, match="contain CPU of other programs"):
        calibrate.full(Beside(ladder.path, ladder.document))


def test_a_recorded_search_for_a_tweet_of_the_run_is_a_search_for_a_word() -> None:
    """The record has the tweet whose words were searched for, or nothing: no number of a word, which the model's tables need."""
    rows = pd.DataFrame({"route": ["search", "search", "user_tweets", "tweet"], "user": [7, 7, 7, 7],
                         "target": [2127429994610323456, 0, 0, 2127429994610323456]})  # fmt: skip

    assert calibrate._targets(rows).tolist() == [0, 0, 7, 2127429994610323456]


def test_units_of_about_the_same_work_start_alike() -> None:
    """Follow and unfollow start from the median of the gateway's routes, whatever an earlier fit made of them."""
    units = dict(calibration.load(harness.LITERATURE).units)
    units["gateway-1.follow"] = dataclasses.replace(units["gateway-1.follow"], base_us=1.0)
    units["gateway-1.unfollow"] = dataclasses.replace(units["gateway-1.unfollow"], base_us=9_000.0)

    levelled = calibrate.levelled(units)

    assert levelled["gateway-1.follow"].base_us == levelled["gateway-1.unfollow"].base_us == levelled["gateway-1.home"].base_us
    assert 100.0 < levelled["gateway-1.follow"].base_us < 5_000.0
    assert levelled["gateway-1.media"] == units["gateway-1.media"]
