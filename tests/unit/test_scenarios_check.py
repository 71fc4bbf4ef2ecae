"""A scenario that no run could judge is refused; one that a run can hardly judge causes a warning."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from reports import delivery
from reports.judge import objectives
from reports.stats import histogram
from scenarios import expected_operations, loader, vocabulary, warnings
from scenarios import objectives as wanted
from tweetlab import cli
from tweetlab.run import run_request

PLAIN = (
    "faults=[]",
    "objectives=[]",
    "workload.stages=[{for: 100 s, rate: 10/s}]",
    "workload.mix={home: 50, post: 50}",
)
KILL = "{at: 20 s, kind: kill, target: redis, recovers_within: 5 s}"
HELD = "faults=[{at: 20 s, kind: zone_loss, target: zone, for: 30 s, recovers_within: 5 s}]"


def checked(*overrides: str, base: str = "first_run") -> loader.Checked:
    """Check 100 s of 10/s, half home reads and half posts, with these overrides."""
    return loader.check(base, [*PLAIN, *overrides])


REFUSED = {
    "a route without share": (["objectives=[search p95 <= 1 s whole]"], "`search` has no share in the mix"),
    "a route of weight 0": (
        ["workload.mix.search=0", "objectives=[search p95 <= 1 s whole]"],
        "`search` has no share in the mix",
    ),
    "a route that only a pause names": (
        [
            "workload.stages=[{for: 9 s, rate: 1/s}, {for: 9 s, rate: 0/s, mix: {like: 1}}]",
            "measure.warm_up=0",
            "objectives=[like p50 <= 1 s whole]",
        ],
        "`like` has no share in the mix",
    ),
    "delivery without posts": (
        ["workload.mix={home: 1}", "objectives=[delivery p50 <= 1 s whole]"],
        "`post` has no share",
    ),
    "after fault without a fault": (
        ["objectives=[errors < 1 % after fault within 9 s]"],
        "`faults` is empty",
    ),
    "during fault without a fault": (["objectives=[errors < 1 % during fault]"], "`faults` is empty"),
    "after a fault that never begins": (
        [
            "faults=[{at: 200 s, kind: kill, target: redis}]",
            "objectives=[errors < 1 % after fault within 9 s]",
        ],
        "every fault begins after the load has ended at 100 s",
    ),
    "a window that starts past the end": (
        [f"faults=[{KILL}]", "objectives=[errors < 1 % after fault within 80 s]"],
        "80 s after a fault",
    ),
    "a window that the next fault leaves no time": (
        [
            "faults=[{at: 20 s, kind: kill, target: redis}, {at: 30 s, kind: kill, target: tweets}]",
            "objectives=[errors < 1 % after fault within 15 s]",
        ],
        "the next fault has started",
    ),
    "a window after a fault that is held to the end": (
        [
            "platform=cluster",
            "faults=[{at: 20 s, kind: zone_loss, target: zone, for: 80 s}]",
            "objectives=[errors < 1 % after fault within 1 s]",
        ],
        "the load has ended (at 100 s)",
    ),
    "a steady window that faults and recovery fill": (
        [
            "platform=cluster",
            "faults=[{at: 5 s, kind: zone_loss, target: zone, for: 95 s}]",
            "measure.warm_up=10 s",
            "objectives=[errors < 1 % steady]",
        ],
        "no time is steady",
    ),
    "a steady window that is all warm-up": (
        ["measure.warm_up=100 s", "objectives=[errors < 1 % steady]"],
        "shorter than the load",
    ),
    "a window in a pause": (
        [
            "workload.stages=[{for: 10 s, rate: 9/s}, {for: 90 s, rate: 0/s}]",
            "measure.warm_up=10 s",
            "objectives=[errors < 1 % steady]",
        ],
        "no operation of its route is planned in its window (10 s to 100 s)",
    ),
    "a window whose stage lacks the route": (
        [
            "workload.stages=[{for: 10 s, rate: 9/s}, {for: 90 s, rate: 9/s, mix: {post: 1}}]",
            "measure.warm_up=10 s",
            "objectives=[home p50 <= 1 s steady]",
        ],
        "no operation of its route is planned",
    ),
    "a load without any operation": (
        ["workload.stages=[{for: 10 s, rate: 0/s}, {for: 5 s, rate: 0/s..0/s}]"],
        "at least one stage must have a rate above 0",
    ),
    "more operations than a tape holds": (["workload.stages.0.rate=99999999/s"], "at most 100,000,000"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_objective_that_no_run_could_judge_is_refused(name):
    """Issue 13: an objective that nothing can decide passed `check`, and the run ended UNKNOWN."""
    overrides, reason = REFUSED[name]

    errors = checked(*overrides).errors

    assert len(errors) == 1
    assert reason in errors[0]


def test_all_problems_are_reported_together():
    """Two misspelled keys, an invalid number and an unknown route."""
    errors = checked("workload.mxi=3", "seed=seven", "population.userz=3", "workload.mix.hom=1").errors

    assert [error.split("`")[1] for error in errors] == [
        "seed",
        "population.userz",
        "workload.mxi",
        "workload.mix.hom",
    ]


FEW = [
    ("home p99 <= 1 s whole", 500 * 0.01),
    ("p99 <= 1 s whole", None),
    ("home p95 <= 1 s whole", None),
    ("home p999 <= 1 s whole", 500 * 0.001),
    ("home p98 <= 1 s whole", "refused"),
    ("home p99 <= 1 s steady", 450 * 0.01),
    ("delivery p99 <= 1 s whole", 500 * 0.01),
    ("errors < 1 % whole", None),
    ("home max <= 1 s whole", None),
]


@pytest.mark.parametrize(("text", "beyond"), FEW)
def test_a_percentile_needs_ten_expected_operations_beyond_it(text, beyond):
    """k6 #1346: too few operations are a warning beforehand: expected operations x (1 - p) < 10."""
    result = checked(f"objectives=[{text}]", "measure.warm_up=10 s")

    if beyond == "refused":
        assert result.errors
        return
    assert result.errors == ()
    assert len(result.warnings) == (beyond is not None)
    for warning in result.warnings:
        assert f"= {beyond:.3g} beyond" in warning and text in warning


def test_exactly_ten_operations_beyond_a_percentile_are_enough():
    """100 s of 10/s are 1,000 operations, ten of them beyond p99; one second less is too short."""
    assert not checked("objectives=[p99 <= 1 s whole]").warnings
    assert checked("objectives=[p99 <= 1 s whole]", "workload.stages.0.for=99 s").warnings


def test_a_share_needs_as_many_operations_as_the_judge_does():
    """`errors` over nine expected operations would end UNKNOWN."""
    assert objectives.MIN_OPERATIONS == warnings.LEAST
    assert (
        "9 operations are expected"
        in checked(
            "objectives=[errors < 1 % whole]", "workload.stages.0.for=0.9 s", "measure.warm_up=0"
        ).warnings[0]
    )


def test_of_several_windows_the_one_with_fewest_operations_is_reported():
    """The window after the second fault is 5 s long, that after the first 45 s."""
    kills = f"faults=[{KILL}, {{at: 75 s, kind: kill, target: tweets, recovers_within: 5 s}}]"

    (warning,) = checked(kills, "objectives=[p95 <= 1 s after fault within 20 s]").warnings

    assert "50 operations expected in its window" in warning


LATE = {
    "faults=[{at: 100 s, kind: kill, target: redis}]": "starts at 100 s, but the load ends at 100 s",
    "faults=[{at: 300 s, kind: cache_loss, target: redis}]": "never injected",
    HELD.replace("30 s", "90 s"): "held until 110 s, but the load ends at 100 s",
}


@pytest.mark.parametrize("faults", LATE)
def test_a_fault_past_the_end_of_the_run_is_a_warning(faults):
    """k6 #1346: a fault that never happens must not look as if it had been survived."""
    result = checked(faults, "platform=cluster")

    assert result.errors == ()
    assert len(result.warnings) == 1 and LATE[faults] in result.warnings[0]


@pytest.mark.parametrize("faults", [HELD, HELD.replace("30 s", "80 s"), f"faults=[{KILL}]"])
def test_a_fault_within_the_load_or_until_its_end_is_no_warning(faults):
    """A fault may last until the end of the load."""
    result = checked(faults, "platform=cluster")

    assert result == loader.Checked(result.scenario)


def test_a_fault_past_the_end_is_not_injected():
    """Neither the runner nor the twin waits for it."""
    scenario = loader.load(
        "first_run", [*PLAIN, f"faults=[{KILL}, {{at: 100 s, kind: kill, target: tweets}}]"]
    )

    assert [fault.target for fault in scenario.faults_in_load] == ["redis"]


def test_planned_windows_are_those_that_the_judge_measures():
    """Warm-up 10 s, a fault from 20 s to 50 s, 15 s granted for recovery."""
    scenario = loader.load(
        "zone_loss",
        [
            *PLAIN,
            HELD,
            "measure.warm_up=10 s",
            "objectives=[p50 <= 1 s steady, p50 <= 1 s during fault, "
            "p50 <= 1 s after fault within 15 s, p50 <= 1 s whole]",
        ],
    )

    assert [expected_operations.windows(each, scenario) for each in scenario.objectives] == [
        [[(10, 20), (65, 100)]],
        [[(20, 50)]],
        [[(65, 100)]],
        [[(0, 100)]],
    ]


def test_expected_operations_follow_the_ramps_and_mixes_of_the_stages():
    """10 s from 0/s to 10/s hold 50, the second half of it 37.5; then 10 s of 8/s with another mix."""
    work = loader.load(
        "first_run",
        [
            *PLAIN,
            "measure.warm_up=0",
            "workload.stages=[{for: 10 s, rate: 0/s..10/s}, {for: 10 s, rate: 8/s, mix: {home: 1, like: 3}}]",
        ],
    ).workload

    assert expected_operations.expected(("home", "post"), [(0, 10)], work) == pytest.approx(50)
    assert expected_operations.expected(("home", "post"), [(5, 10)], work) == pytest.approx(37.5)
    assert expected_operations.expected(("home",), [(5, 15)], work) == pytest.approx(18.75 + 10)
    assert expected_operations.expected(("like",), [(0, 2), (18, 99)], work) == pytest.approx(12)


def test_plan_and_judge_name_the_same_percentiles_and_deliveries():
    """Both sides list them; they must be equal."""
    assert histogram.QUANTILES == wanted.QUANTILES
    assert delivery.WRITES == vocabulary.DELIVERED


@pytest.mark.parametrize("name", loader.names())
def test_the_catalog_has_no_scenario_that_check_refuses(name):
    """Warnings are allowed: a minute on two cores is short."""
    assert loader.check(name).errors == ()


def run_command(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any, str]:
    """Run the command; return exit code, the JSON on stdout, and stderr."""
    code = cli.run([*words, "--json"])
    out, err = capsys.readouterr()
    return code, json.loads(out), err


SETS = [word for override in PLAIN for word in ("--set", override)]
FEW_SET = ["--set", "objectives=[home p99 <= 1 s whole]"]


@pytest.mark.parametrize(
    ("more", "code", "errors", "warnings"),
    [
        ([], 0, 0, 0),
        (["--strict"], 0, 0, 0),
        (FEW_SET, 0, 0, 1),
        ([*FEW_SET, "--strict"], 65, 0, 1),
        (["--set", "seed=x", "--set", "nam=y"], 64, 2, 0),
        (["--set", "objectives=[home p99 <= 1 s whole, like p50 <= 1 s whole]", "--strict"], 64, 1, 2),
    ],
)
def test_check_has_errors_and_warnings_as_lists(capsys, more, code, errors, warnings):
    """Exit code 0 with warnings, 65 with `--strict`, 64 if refused; both lists are always present."""
    left, document, err = run_command(capsys, "check", "first_run", *SETS, *more)

    assert (left, len(document["errors"]), len(document["warnings"])) == (code, errors, warnings)
    assert document["ok"] is (errors == 0)
    assert all(text in err for text in [*document["errors"], *document["warnings"]])
    assert document.get("error", {}).get("exit_code") == (64 if errors else None)


def test_run_prints_the_warnings_too(capsys, monkeypatch):
    """Before anything starts."""
    monkeypatch.setattr(run_request, "execute", lambda request, screen: [])

    cli.run(["run", "first_run", "--on", "twin", *SETS, *FEW_SET])

    assert (
        "500 operations expected in its window x 0.01 = 5 beyond p99; at least 10 are needed"
        in capsys.readouterr().err
    )


def test_expected_operations_are_never_negative():
    """Whatever the faults, no window is longer than the load."""
    scenario = loader.load("zone_loss")

    for objective in scenario.objectives:
        for spans in expected_operations.windows(objective, scenario):
            assert math.fsum(end - start for start, end in spans) <= scenario.workload.load_s
