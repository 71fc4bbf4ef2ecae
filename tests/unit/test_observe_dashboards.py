"""Dashboards and alerts use only metrics that exist and that the code updates."""

import json
import re
from pathlib import Path

import pytest

from bench import reference
from system.kernel.telemetry.metric_table import METRICS
from system.observe import dashboards
from system.platform import alerting

SYSTEM = Path(__file__).resolve().parents[2] / "system"
SUFFIXES = re.compile(r"_(bucket|count|sum)$")


def metrics_in(expression):
    """Return the lab's metrics in an expression."""
    return {name if name in METRICS else SUFFIXES.sub("", name) for name in re.findall(r"\btweetlab_\w+", expression)}


@pytest.mark.parametrize("board", sorted(dashboards.BOARDS))
def test_a_dashboard_reads_only_metrics_that_exist(board):
    """Every expression uses rows of METRICS, recorded ratios of an objective, or metrics of HAProxy."""
    recorded = {rule["record"] for group in alerting.rules()["groups"] for rule in group["rules"] if "record" in rule}
    for panel in dashboards.dashboard(board)["panels"]:
        for target in panel["targets"]:
            assert metrics_in(target["expr"]) <= set(METRICS), target["expr"]
            assert set(re.findall(r"slo:[\w:]+", target["expr"])) <= recorded, target["expr"]


def test_every_declared_metric_has_a_panel():
    """A metric without a panel would never be seen."""
    drawn = {name for board in dashboards.BOARDS for panel in dashboards.dashboard(board)["panels"]
             for target in panel["targets"] for name in metrics_in(target["expr"])}
    assert drawn == set(METRICS)


def test_rules_read_only_metrics_that_exist():
    """An alert on a misspelt name would never fire."""
    for group in alerting.rules()["groups"]:
        for rule in group["rules"]:
            assert metrics_in(rule["expr"]) <= set(METRICS), rule["expr"]


def test_every_metric_is_updated_by_the_code():
    """A declared metric that no module names would remain empty."""
    code = "\n".join(path.read_text() for path in SYSTEM.rglob("*.py") if path.name != "metric_table.py")
    assert [name for name in METRICS if f'"{name}"' not in code] == []


def test_make_reference_writes_every_dashboard(tmp_path, monkeypatch):
    """A file for each row of BOARDS, which Grafana reads as JSON."""
    monkeypatch.setattr(reference, "FOLDER", tmp_path)
    reference.main()

    written = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "dashboards").glob("*.json")}
    assert set(written) == set(dashboards.BOARDS)
    assert all(board["panels"] for board in written.values())


def test_burn_windows_are_those_of_the_sre_workbook_and_their_compressed_copies():
    """1 h and 5 min at 14.4, 6 h and 30 min at 6, three days and 6 h at 1; the fast set is all of them divided by 60."""
    assert [(w.long_s, w.short_s, w.burn) for w in alerting.WINDOWS] == [(3600, 300, 14.4), (21600, 1800, 6), (259200, 21600, 1)]
    assert [(w.long_s, w.short_s) for w in alerting.compressed()] == [(60, 5), (360, 30), (4320, 360)]
    assert alerting.COMPRESSION == 60


def test_unfilled_windows_follow_from_the_observation_time():
    """After ten minutes those of an hour and more, real and compressed; after three days none."""
    assert [w.long_s for w in alerting.not_full(600)] == [3600, 4320, 21600, 259200]
    assert alerting.not_full(259_200) == ()


def test_an_expression_with_a_pipe_does_not_break_its_table():
    """A Markdown page shows each alert in one row."""
    rows = [line for line in reference.telemetry().splitlines() if line.startswith("| DeadLetters")]
    assert len(rows) == 1
