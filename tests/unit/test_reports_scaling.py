"""Runs with a CPU quota: the verdict without control groups, and the figure of instances."""

from __future__ import annotations

import dataclasses
import xml.etree.ElementTree as ET
from pathlib import Path

import pandas as pd
import pytest

from reports import facts, finish, summary
from reports.judge import run_verdict
from reports.page import charts
from reports.page.view import View
from scenarios import loader
from system.kernel.errors import WrongInput
from tests.helpers import report_runs


def with_quota(groups: str) -> facts.Facts:
    given = report_runs.quiet()
    document = {**given.scenario_doc, "resolved": {"cpu_quota": 0.2}}
    return dataclasses.replace(given, scenario_doc=document, platform={**given.platform, "control_groups": groups})


@pytest.mark.parametrize(("groups", "word"), [("v1", "VALID"), ("v2", "VALID"), ("none", "VOID")])
def test_without_control_groups_there_is_no_scaling_verdict(groups: str, word: str) -> None:
    """An instance without its quota is no unit of capacity: the run is VOID and names the broken criterion."""
    given = with_quota(groups)
    judgement = run_verdict.judge(given, summary.summarize(given))

    assert judgement.validity["verdict"] == word
    broken = [one for one in judgement.validity["criteria"] if one["holds"] is False]
    assert [one["name"] for one in broken] == (["CPU quota in force"] if groups == "none" else [])
    assert groups != "none" or "run as root" in broken[0]["fix"]


def test_a_run_without_a_quota_lacks_the_criterion() -> None:
    """The criterion applies only to scenarios with `cpu_quota`."""
    given = report_runs.quiet()
    judgement = run_verdict.judge(given, summary.summarize(given))

    assert "CPU quota in force" not in [one["name"] for one in judgement.validity["criteria"]]


def instances(counts: dict[str, list[int]]) -> pd.DataFrame:
    rows = [(float(t), "instances", node, float(value)) for node, values in counts.items() for t, value in enumerate(values)]
    return pd.concat([report_runs.series(), pd.DataFrame(rows, columns=["t_s", "name", "node", "value"])], ignore_index=True)


def test_instances_are_drawn_over_the_load(tmp_path: Path) -> None:
    """One line per service whose number changed, with the load behind; the caption names the largest change."""
    series = instances({"timelines": [1] * 20 + [3] * 25 + [1] * 15, "users": [1] * 60})
    run = finish.finish(tmp_path, report_runs.quiet(series=series))

    figure = charts.instances(View(run))

    assert figure is not None and ET.fromstring(figure.svg) is not None
    assert "timelines scaled from 1 to 3 instances" in figure.caption
    assert ">timelines<" in figure.svg and ">users<" not in figure.svg


def test_a_run_that_did_not_scale_has_no_such_figure(tmp_path: Path) -> None:
    """A constant number of instances is not drawn."""
    run = finish.finish(tmp_path, report_runs.quiet(series=instances({"users": [1] * 60})))

    assert charts.instances(View(run)) is None


def test_a_scenario_declares_its_quota_with_a_unit() -> None:
    """`0.2 core`; a bare number is refused."""
    assert loader.load("first_run", ["cpu_quota=0.2 core"]).cpu_quota == 0.2
    assert loader.load("first_run").cpu_quota is None
    with pytest.raises(WrongInput, match="core"):
        loader.load("first_run", ["cpu_quota=0.2"])


def test_the_evening_spike_uses_autoscaling() -> None:
    """The shipped scenario has a quota, an autoscale block and a load peak."""
    scenario = loader.load("evening_spike")

    assert scenario.cpu_quota == 0.2 and scenario.policies.autoscale.max == 4
    assert scenario.workload.peak_per_s >= 3 * scenario.workload.stages[0].rate_from
