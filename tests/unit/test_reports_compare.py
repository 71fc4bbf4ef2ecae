"""The results of `compare`: changed, not changed, cannot tell; and runs that it refuses to compare."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

from bench.selfchecks import compare_selfcheck
from reports import facts, finish, record
from reports.stats import compare, effect_size
from system.kernel import errors
from tests.helpers import report_runs


def repeats(
    folder: Path, n: int, side: int, slow: float = 1.0, rate: float = 60.0, **changes: object
) -> list[record.Run]:
    """Write `n` runs of one side, one every two minutes, so that two sides interleave."""
    runs = []
    for k in range(n):
        rows = report_runs.history(60.0, rate, seed=100 * side + k, slow=slow, dip_s=1000.0)
        calm = facts.Windows(report_runs.START_NS, 10.0, 60.0)
        started_at = f"2026-11-22T18:{2 * k + side:02d}:00Z"
        given = report_runs.quiet(history=rows, windows=calm, started_at=started_at, faults=())
        runs.append(record.write(folder, finish.parts(dataclasses.replace(given, **changes))))
    return runs


@pytest.fixture(scope="module")
def polly(tmp_path_factory: pytest.TempPathFactory) -> list[record.Run]:
    return repeats(tmp_path_factory.mktemp("polly"), 5, 0)


@pytest.fixture(scope="module")
def slower(tmp_path_factory: pytest.TempPathFactory) -> list[record.Run]:
    return repeats(tmp_path_factory.mktemp("slower"), 5, 1, slow=1.2)


def test_a_side_that_is_a_fifth_slower_has_changed(polly: list[record.Run], slower: list[record.Run]) -> None:
    """The median of home is 20 % higher: changed, and the interval contains the true effect."""
    found = compare.compare(polly, slower)
    assert found.answer == "changed"
    row = next(row for row in found.rows if (row.route, row.measure) == ("home", "median"))
    assert row.differs is True
    assert row.effect.low < 0.19 < row.effect.high


def with_document(runs: list[record.Run], **blocks: object) -> list[record.Run]:
    """Return the runs with blocks of their records replaced."""
    return [dataclasses.replace(run, document={**run.document, **blocks}) for run in runs]


def lognormal(seed: int, n: int = 9000, share_slow: float = 0.0) -> compare.Sample:
    """Return one run of one route: median e^2 ms, a share of its operations ten times slower."""
    dice = np.random.default_rng(seed)
    values = dice.lognormal(2.0, 0.3, n) * np.where(dice.random(n) < share_slow, 10.0, 1.0)
    return {"home": compare.latencies(values, np.linspace(0, 50, n))}


def test_two_sides_from_one_distribution_have_not_changed() -> None:
    """Every interval is within ±5 % for the median and ±15 % for the spread."""
    found = compare.decide([lognormal(k) for k in range(5)], [lognormal(k) for k in range(5, 10)])
    assert found.answer == "not changed"
    assert {row.measure: row.differs for row in found.rows} == {"median": False, "spread": False, "p95": None, "p99": None}


def test_a_larger_spread_with_the_same_median_has_changed() -> None:
    """One operation in seventy becomes ten times slower: the median is the same, the spread is not."""
    slow = [lognormal(k, share_slow=0.015) for k in range(5, 10)]
    found = compare.decide([lognormal(k) for k in range(5)], slow)
    differs = {row.measure: row.differs for row in found.rows}
    assert (found.answer, differs["spread"], differs["median"]) == ("changed", True, False)


def test_fewer_than_five_runs_cannot_tell(polly: list[record.Run], slower: list[record.Run]) -> None:
    """Four runs are not enough even for a clear difference."""
    found = compare.compare(polly, slower[:4])
    assert found.answer == "cannot tell"
    assert found.reason == "5 and 4 valid runs; 5 interleaved repeats per side are needed: add --repeat 5."


def test_repeats_that_are_not_interleaved_cannot_tell(polly: list[record.Run], slower: list[record.Run]) -> None:
    """All of A in the evening, all of B at night: a change is confounded with drift."""
    found = compare.compare(polly, with_document(slower, started_at="2026-11-22T23:00:00Z"))
    assert found.answer == "cannot tell"
    assert "not interleaved" in found.reason


@pytest.mark.parametrize(("order", "expected"), [("ABABABABAB", True), ("ABBAABBAAB", True), ("AAABBBABAB", False)])
def test_interleaved_sides_are_at_most_two_runs_ahead(order: str, expected: bool) -> None:
    """A lead of three runs is not interleaved."""
    at = {side: [f"{i:02d}" for i, word in enumerate(order) if word == side] for side in "AB"}
    assert compare.interleaved(at["A"], at["B"]) is expected


def test_runs_of_two_machines_are_refused(polly: list[record.Run], slower: list[record.Run]) -> None:
    """The error names both machines and the fix."""
    other = with_document(slower, host={"cpu_model": "Budgie 1", "cores": 4, "mem_mib": 8000})
    words = r"differ in their machine: .* has Parrot 3000, 2, 24064, .* has Budgie 1, 4, 8000"
    with pytest.raises(errors.WrongInput, match=words):
        compare.compare(polly, other)


def test_runs_of_two_populations_are_refused(polly: list[record.Run], slower: list[record.Run]) -> None:
    """Other data give other latencies."""
    with pytest.raises(errors.WrongInput, match="differ in their data"):
        compare.compare(polly, with_document(slower, population={"fingerprint": "beef"}))


def test_a_run_on_both_sides_is_refused(polly: list[record.Run]) -> None:
    """Comparing a run with itself proves nothing."""
    with pytest.raises(errors.WrongInput, match="is on both sides"):
        compare.compare(polly, polly)


def test_void_runs_are_excluded_with_a_note(polly: list[record.Run], slower: list[record.Run]) -> None:
    """Five repeats, one of them void: four remain, which are too few."""
    void = with_document(slower[:1], validity={"verdict": "VOID", "criteria": []})
    found = compare.compare(polly, [*void, *slower[1:]])
    assert found.answer == "cannot tell"
    assert found.notes[0] == "1 void runs were excluded"


def test_the_effect_is_a_ratio_with_its_interval() -> None:
    """Sides at 10 and 12 ms with 1 % between runs: +20 %, with an interval of a few percent."""
    def side(median: float) -> list[effect_size.Measured]:
        return [effect_size.Measured(math.log(median * k), 0.001) for k in (0.99, 1.0, 1.0, 1.0, 1.01)]

    found = effect_size.effect(side(10.0), side(12.0))
    assert found.change == pytest.approx(0.2, abs=1e-9)
    assert (found.low, found.high) == (pytest.approx(0.1874, abs=5e-4), pytest.approx(0.2128, abs=5e-4))


def test_the_error_within_runs_is_the_floor_of_the_interval() -> None:
    """No difference between runs, 10 % error within each: the interval keeps the within-run error."""
    same = [effect_size.Measured(1.0, 0.10)] * 5
    found = effect_size.effect(same, same)
    assert found.high > 0.10


def test_holm_controls_the_family_wise_error_rate() -> None:
    """Of p = 0.03, 0.01 and 0.20 only 0.01 is below 0.05 / 3."""
    assert effect_size.holm([0.03, 0.01, 0.20]) == [False, True, False]


def test_the_simulated_queue_has_the_mean_response_of_m_m_2() -> None:
    """M/M/2 at utilization 0.8 and 10 ms of demand: mean response 10 / (1 - 0.64) = 27.8 ms."""
    means = [float(compare_selfcheck.simulate([1, k])[1].mean()) for k in range(60)]
    assert np.mean(means) == pytest.approx(27.8, rel=0.05)


def test_the_self_check_detects_changes_and_few_false_ones() -> None:
    """Of ten A/A pairs at most one is reported as changed; of ten pairs 10 % apart at least nine are."""
    assert compare_selfcheck.pairs(1.0, 10).changed <= 1
    assert compare_selfcheck.pairs(1.1, 10).changed >= 9


def test_a_comparison_is_formatted_as_markdown(polly: list[record.Run], slower: list[record.Run]) -> None:
    """The result comes first, then one row per measure."""
    found = compare.compare(polly, slower)
    text = compare.text(found)
    assert text.startswith("**changed**: ")
    assert "| home | median |" in text
    assert compare.document(found)["runs"] == [5, 5]


def on(provider: str, runs: list[record.Run]) -> list[record.Run]:
    """Return the runs as if a lab of this provider had made them."""
    return with_document(runs, platform={"blueprint": "small", "provider": provider})


def test_native_and_docker_are_compared_only_on_request(polly: list[record.Run], slower: list[record.Run]) -> None:
    """Their difference would be taken for one of the system; a record without a provider is a native one."""
    with pytest.raises(errors.WrongInput, match=r"differ in their provider: .* has native, .* has docker.*--across-providers"):
        compare.compare(polly, on("docker", slower))

    assert compare.compare(polly, on("docker", slower), across_providers=True).answer == "changed"
    assert compare.compare(polly, on("native", slower)).answer == "changed"


def test_a_side_has_one_provider(polly: list[record.Run], slower: list[record.Run]) -> None:
    """Also on request: a mixed side would have the difference inside it."""
    mixed = [*polly[:3], *on("docker", polly[3:])]
    with pytest.raises(errors.WrongInput, match="differ in their provider"):
        compare.compare(mixed, on("docker", slower), across_providers=True)
