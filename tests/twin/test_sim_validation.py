"""Validation of the twin: loads from a hash, cells with noise, verdicts, rivals, and the ledger."""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from reports.page import validation as page
from scenarios import spec
from sim import calibration
from sim.replication import SIMPY, Replication
from sim.validation import cells, draw, judge, ledger, predict, rivals
from tests.helpers import twin_harness as harness


def literature() -> calibration.Calibration:
    return calibration.load(harness.LITERATURE)


def test_loads_are_drawn_from_the_model_and_its_calibration() -> None:
    """The same model has the same loads; a changed cost has others. Both have half above 0.6 of the machine."""
    known = literature()
    known = known.costing(dict.fromkeys(known.nodes, 2.0))  # so that 600/s, the highest rate drawn, are enough for any mix
    changed = dataclasses.replace(known, noise_cv=known.noise_cv + 0.01)

    loads = draw.plan(known, quick=True)

    assert [draw.as_json(one) for one in draw.plan(known, quick=True)] == [draw.as_json(one) for one in loads]
    assert draw.identity(changed) != draw.identity(known)
    used = [draw.utilization(one.scenario, known) for one in loads]
    assert draw.LOW[0] - 0.05 < used[0] < draw.EDGE < used[1] < draw.HIGH[1] + 0.05
    assert all(sum(one.scenario.workload.mix.values()) == pytest.approx(1.0) for one in loads)


def test_both_engines_predict_the_same_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every statistic of every route, the CPU of every process, and what follows a cache loss."""
    known = literature()
    drawn = draw.scenario("load", np.random.default_rng(5), "mixed", 12.0)
    scenario = dataclasses.replace(drawn, faults=(spec.Fault(14.0, "cache_loss", "redis"),))

    compiled = predict.of_load(scenario, known, seeds=1)
    monkeypatch.setattr(predict, "Replication", functools.partial(Replication, engine=SIMPY))

    assert predict.of_load(scenario, known, seeds=1) == compiled
    assert compiled.routes["home"]["p99"] > compiled.routes["home"]["p50"] > 0.0 and compiled.after_loss["p95"] > 0.0


def responses(mean_ms: float, n: int, seed: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    random = np.random.default_rng(seed)
    return {"home": (np.sort(random.uniform(0.0, 60.0, n)), random.exponential(mean_ms, n))}


def test_a_cell_counts_with_enough_requests_and_knows_its_noise() -> None:
    """Of 4,000 requests mean, p50 and p95 count, p99 does not; independent requests have a mean's noise of 1/sqrt(n)."""
    found = {one.statistic: one for one in cells.compare([responses(5.0, 4_000, 1)], [responses(6.0, 4_000, 2)])}

    assert {name for name, one in found.items() if one.counts} == {"mean", "p50", "p95"}
    assert found["mean"].noise == pytest.approx(1 / np.sqrt(4_000), rel=0.3)
    assert found["mean"].error == pytest.approx(0.2, abs=0.06)


def entry(load: str, mix: str, error: float, kind: str = "examination", rate: float = 100.0) -> dict[str, Any]:
    routes = {"home": dict.fromkeys(cells.STATISTICS, 10.0 * (1.0 + error))}
    return {
        "load": {"name": load, "mix": mix, "kind": kind, "rate": rate},
        "sha256": "0" * 64,
        "predicted": {"routes": routes, "cores": {"gateway-1": 0.3 * (1.0 + error)}, "utilization": 0.5, "rebuilds": []},
    }


def run(utilization: float = 0.5, requests: int = 20_000, noise: float = 0.1, **changes: Any) -> dict[str, Any]:
    values = dict.fromkeys(cells.STATISTICS, 10.0)
    return {
        "routes": {"home": values},
        "requests": {"home": requests},
        "noise": {"home": dict.fromkeys(cells.STATISTICS, noise)},
        "cores": {"gateway-1": 0.3},
        "utilization": utilization,
        "dropped": 0.0,
        "rebuilds": [],
        "recovery_s": None,
        "structure": {"home": dict.fromkeys(cells.STATISTICS, 0.01)},
        "at_speed": None,
        **changes,
    }


def verdicts(errors: list[float], **changes: Any) -> dict[str, judge.Row]:
    names = [f"load_{number}" for number in range(len(errors))]
    mixes = ["reads", "posts", "mixed", "social"]
    predictions = {
        name: entry(name, mixes[number % 4], error) for number, (name, error) in enumerate(zip(names, errors, strict=True))
    }
    found = judge.judged(predictions, {name: [run(**changes)] * 3 for name in names})
    return {row.statistic: row for row in judge.rows(found) if row.band == "low"}


def test_a_bar_holds_where_the_median_and_the_worst_cell_do() -> None:
    """Three loads 5 to 9 % off: mean, p50, p95 and p99 hold; CPU, whose bar is 4 %, misses with its worst cell named."""
    rows = verdicts([0.05, -0.07, 0.09])

    assert {name: row.verdict for name, row in rows.items() if name in cells.STATISTICS} == dict.fromkeys(
        cells.STATISTICS, "holds"
    )
    assert rows["CPU"].verdict == "misses"
    assert rows["mean"].median == pytest.approx(0.07)
    assert rows["mean"].worst_cell == "load_2 home"


def test_one_cell_beyond_twice_the_bar_misses_it() -> None:
    """The median of 1 % does not hide a load that is 40 % off."""
    assert verdicts([0.01, 0.01, 0.40])["mean"].verdict == "misses"


@pytest.mark.parametrize(("change", "state"), [({"requests": 100}, "few"), ({"noise": 1.5}, "unknown")])
def test_too_few_requests_or_too_much_noise_are_not_counted(change: dict[str, Any], state: str) -> None:
    """A wrong prediction of such a cell says nothing, so it neither holds nor misses."""
    found = judge.judged({"a": entry("a", "reads", 0.9)}, {"a": [run(**change)] * 3})

    assert {cell.state for cell in found if cell.statistic == "mean"} == {state}
    assert {row.verdict for row in judge.rows(found) if row.statistic == "mean"} == {"unknown"}


def test_a_prediction_is_judged_at_the_speed_of_the_machine() -> None:
    """The machine was a tenth faster than when calibrated: 10 % off in the ledger, right for the speed that was probed."""
    said = {"routes": {"home": dict.fromkeys(cells.STATISTICS, 10.0)}, "cores": {"gateway-1": 0.3}}

    rows = verdicts([0.10, 0.10, 0.10], at_speed=said)

    assert {row.verdict for row in rows.values()} == {"holds"} and rows["CPU"].median == pytest.approx(0.0)
    assert rows["CPU"].as_calibrated == pytest.approx(0.10)


def test_a_wrong_model_is_wrong_at_the_speed_of_the_machine_too() -> None:
    """A mutation is not played at each run's speed: what it does to the prediction in the ledger, it does there."""
    said = {"routes": {"home": dict.fromkeys(cells.STATISTICS, 10.0)}, "cores": {"gateway-1": 0.3}}
    right, wrong = entry("a", "reads", 0.10), entry("a", "reads", -0.45)

    found = judge.judged({"a": {**wrong, "registered": right["predicted"]}}, {"a": [run(at_speed=said)] * 3})

    assert {round(cell.error, 3) for cell in found} == {-0.5}


def test_two_loads_are_no_verdict() -> None:
    """Good as they are, three loads and two mixes are needed."""
    assert verdicts([0.01, 0.01])["mean"].verdict == "unknown"


def test_capacity_is_where_p99_crosses_its_bound() -> None:
    """Between 200/s with 25 ms and 300/s with 100 ms, 50 ms are reached half way of their logarithms."""
    assert judge.capacity([(200.0, 25.0), (300.0, 100.0)], 50.0) == pytest.approx(250.0)
    assert judge.capacity([(200.0, 25.0), (300.0, 40.0)], 50.0) is None


def test_what_follows_a_cache_loss_is_judged() -> None:
    """Mean within 30 %, p95 within 40 %, recovery within 30 % or 0.5 s, rebuilds within three points in any 5 s."""
    lossy = entry("cache_loss", "reads", 0.0, "cache_loss")
    lossy["predicted"] |= {"rebuilds": [0.0, 0.52, 0.20], "after_loss": {"mean": 12.0, "p95": 30.0}, "recovery_s": 1.4}
    near = run(rebuilds=[0.0, 0.50, 0.19], after_loss={"mean": 10.0, "p95": 25.0}, recovery_s=1.0)
    far = run(rebuilds=[0.0, 0.40, 0.19], after_loss={"mean": 9.0, "p95": 20.0}, recovery_s=3.0)

    def verdicts(measured: dict[str, Any]) -> dict[str, str]:
        found = judge.cache_loss({"cache_loss": lossy}, {"cache_loss": [measured]})
        return {row["statistic"]: row["verdict"] for row in found}

    assert verdicts({**near, "recovery_s": None})["recovery"] == "misses"
    lossy["predicted"]["recovery_s"] = None
    assert verdicts({**near, "recovery_s": None})["recovery"] == "unknown"
    lossy["predicted"]["recovery_s"] = 1.4
    assert verdicts(near) == dict.fromkeys(("mean", "p95", "recovery", "rebuilds"), "holds")
    assert verdicts(far) == dict.fromkeys(("mean", "p95", "recovery", "rebuilds"), "misses")
    slower = {"rebuilds": [0.0, 0.40, 0.19], "after_loss": {"mean": 9.0, "p95": 20.0}, "recovery_s": 3.0}
    assert verdicts({**far, "at_speed": slower}) == dict.fromkeys(("mean", "p95", "recovery", "rebuilds"), "holds")
    assert judge.cache_loss({}, {}) == []


def rungs() -> list[dict[str, Any]]:
    return [
        {
            "rate": rate,
            "utilization": rate / 400,
            "routes": {"home": {"mean": 3 / (1 - rate / 400), "p95": 8 / (1 - rate / 400)}},
        }
        for rate in (40.0, 100.0, 180.0, 260.0)
    ]


def test_rivals_predict_from_the_same_rungs() -> None:
    """Each answers for a rate between two rungs, and none is absurd; the nearest rung's p95 is 18 % off."""
    known = dataclasses.replace(literature(), diagnostics={"rungs": rungs()})
    true = 8 / (1 - 220 / 400)
    cell = judge.Judged("a", "reads", "low", "home", "p95", true, true * 1.02, 0.02, 0.02, None, 0.01, 9_000, "counts")

    errors = rivals.rival_errors([cell], {"a": entry("a", "reads", 0.02, rate=220.0)}, known)

    assert errors["twin"] == pytest.approx(0.02)
    assert set(errors) == {*rivals.RIVALS, "twin"}
    assert errors["nearest load"] == pytest.approx(0.182, abs=0.001)
    assert all(error < 0.5 for error in errors.values())


def test_a_mutation_changes_what_it_names() -> None:
    """Without the generator's CPU only the generator is free; a hop that is missing costs nothing at two processes."""
    known = literature()

    idle = rivals.MUTATIONS["the generator uses no CPU"](known)
    short = rivals.MUTATIONS["a hop is missing"](known)

    assert idle.units["load-generator.home"].base_us == 0.0
    assert idle.units["gateway-1.home"] == known.units["gateway-1.home"]
    assert short.units["gateway-1.home"].base_us == short.units["haproxy-1.mesh"].base_us == 0.0


def test_the_ledger_only_grows_and_survives_a_torn_line(tmp_path: Path) -> None:
    """An entry cut off by a crash is left out, and what follows is read."""
    book = ledger.Ledger(tmp_path)
    book.append({"type": "begin", "identity": "a"})
    with book.path.open("a") as file:
        file.write('{"type": "run", "iden\n')
    book.append({"type": "begin", "identity": "b"})

    assert [one["identity"] for one in book.entries()] == ["a", "b"]
    assert [one["identity"] for one in book.entries("b")] == ["b"]


def test_the_page_shows_every_row_and_cell() -> None:
    """It is one file that opens without network, with the verdicts and the cells in it."""
    names = {"load_0": 0.05, "load_1": 0.3, "load_2": 0.02}
    predictions = {name: entry(name, "reads", error) for name, error in names.items()}
    found = judge.judged(predictions, {name: [run()] * 3 for name in names})
    summary = {
        "identity": "abc",
        "commit": "def",
        "at": "2026-11-30T00:00:00Z",
        "machine": "AMD",
        "calibration": {"label": "full"},
        "runs": 9,
        "void": [],
        "rows": judge.as_json(judge.rows(found)),
        "cells": judge.as_json(found),
        "capacity": [],
        "cache_loss": judge.cache_loss(
            {"loss": entry("loss", "reads", 0.0, "cache_loss") | {"predicted": {
                "rebuilds": [0.5], "after_loss": {"mean": 12.0, "p95": 30.0}, "recovery_s": 1.4}}},
            {"loss": [run(rebuilds=[0.4], after_loss={"mean": 10.0, "p95": 25.0}, recovery_s=1.0)]}),
        "rivals": {"twin": 0.1, "curve": 0.2},
        "mutations": {"a hop is missing": ["mean to 0.6"]},
        "earlier": [],
        "known": ["noise"],
        "loads": [
            {
                "name": "load_0",
                "kind": "examination",
                "mix": "reads",
                "rate": 100.0,
                "predicted": 0.5,
                "measured": 0.5,
                "sha256": "0" * 64,
            }
        ],
    }

    html = page.render(json.loads(json.dumps(summary)))

    assert html.count("load_1") >= 4 and "misses" in html and "<svg" in html and "+10.0 points" in html
    assert "http" not in html.replace("http-equiv", "")


@pytest.mark.parametrize(("slow_s", "recovers_s"), [(2.0, 2.0), (60.0, None)])
def test_recovery_is_the_first_of_three_good_seconds(slow_s: float, recovers_s: float | None) -> None:
    """Home reads take 5 ms, and 50 ms after the loss; three good seconds that the load no longer has are no recovery."""
    drawn = draw.scenario("load", np.random.default_rng(5), "mixed", 12.0)
    scenario = dataclasses.replace(drawn, faults=(spec.Fault(14.0, "cache_loss", "redis"),))
    due_s = np.arange(scenario.measure.warm_up_s, min(scenario.workload.load_s, 40.0), 0.02)
    took_ms = np.where((due_s >= 14.0) & (due_s < 14.0 + slow_s), 50.0, 5.0)
    table = pd.DataFrame({"route": "home", "due": due_s * 1e3, "done": due_s * 1e3 + took_ms})

    assert predict.recovery_s(table, scenario) == recovers_s
