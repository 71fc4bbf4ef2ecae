"""The report: one self-contained file without scripts, with its sections in a fixed order."""

from __future__ import annotations

import itertools
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from reports import exports, facts, finish, record
from reports.page import charts, render, svg
from reports.page.view import View
from tests.helpers import report_runs


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> record.Run:
    folder = tmp_path_factory.mktemp("runs")
    return finish.finish(folder, report_runs.quiet(), report_runs.twin(), "quick calibration, 1 load")


def report(tmp_path: Path, given: facts.Facts) -> str:
    return (finish.finish(tmp_path, given).path / "report.html").read_text(encoding="utf-8")


def test_the_report_is_one_file_without_script_or_network(run: record.Run) -> None:
    """No script, no external link, no import."""
    html = (run.path / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"<script|https?://|@import|url\(|<img|<iframe", html)
    assert html.lstrip().startswith("<!doctype html>")


def test_every_html_element_is_closed(run: record.Run) -> None:
    """Elements are closed in the reverse order of their opening."""
    open_tags: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            if tag not in ("meta", "link"):
                open_tags.append(tag)

        def handle_startendtag(self, tag: str, attrs: object) -> None:
            return None

        def handle_endtag(self, tag: str) -> None:
            assert open_tags.pop() == tag

    Reader().feed((run.path / "report.html").read_text(encoding="utf-8"))
    assert open_tags == []


def test_the_report_starts_with_verdict_headline_numbers_and_six_charts(run: record.Run) -> None:
    """Objectives, invariants, prediction, validity and the tables by route follow; disclosure is last."""
    html = (run.path / "report.html").read_text(encoding="utf-8")
    headings = ["PASS", "success rate, OK of planned", "Main charts", "Latency of home over time",
                "Operations in flight", "Objectives", "Invariants", "Prediction vs. measurement",
                "Run validity", "Operations and outcomes", "Latency<", "More charts",
                "Latency breakdown by hop", "CPU and memory by process",
                "How to reproduce", "Disclosure"]  # fmt: skip
    positions = [html.index(f">{heading}") for heading in headings]
    assert positions == sorted(positions)
    assert html[:html.index(">Objectives")].count("<svg") == 6
    assert "<table" not in html[:html.index(">Objectives")]


def test_invariants_that_hold_are_collapsed_and_others_are_expanded(tmp_path: Path) -> None:
    """Failed and unknown ones come first, with their first five violations and the number of the others."""
    violations = [f"tweet {n} of polly is in no store" for n in range(7)]
    lost = {"name": "no_acknowledged_tweet_lost", "verdict": "fail", "checked": 512, "note": "",
            "violations": violations}  # fmt: skip
    idle = {"name": "unique_ids", "verdict": "unknown", "checked": 0, "note": "no posts", "violations": []}
    html = report(tmp_path, report_runs.quiet(invariants=(report_runs.FINDINGS[1], idle, lost)))

    summary = re.compile(r'<details class="finding (\w+)"( open)?><summary>.*?<b>(.*?)</b>')
    assert summary.findall(html) == [
        ("fail", " open", "no acknowledged tweet lost"), ("unknown", " open", "unique ids"),
        ("pass", "", "pages in order without duplicates"),
    ]  # fmt: skip
    assert [f"<li>{each}</li>" in html for each in violations] == [True] * 5 + [False] * 2
    assert "and 2 more, in invariants.json" in html


def test_heading_levels_have_no_gaps(run: record.Run) -> None:
    """The outline for screen readers: h1, then h2, then h3."""
    html = (run.path / "report.html").read_text(encoding="utf-8")
    levels = [int(each) for each in re.findall(r"<h([1-6])", html)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_every_figure_is_accessible(run: record.Run) -> None:
    """Each SVG is well-formed and has the role `img`, a title and a description."""
    figures = charts.draw(View(run))
    assert [figure.key for figure in figures] == [
        "latency", "rates", "delivery", "cpu", "lag", "flight", "spectrum", "heatmap", "routes", "hops"
    ]  # fmt: skip
    for figure in figures:
        root = ET.fromstring(figure.svg)
        assert root.get("role") == "img"
        assert [child.tag for child in root][:2] == ["title", "desc"]
        assert all(child.text for child in list(root)[:2])


def test_fault_and_warm_up_are_shaded_behind_the_lines(run: record.Run) -> None:
    """The band of the cache loss has a tooltip with its injection and its recovery."""
    latency = charts.latency(View(run))
    assert latency is not None
    assert "<title>cache_loss on redis-1, 30.0 s to 35.2 s</title>" in latency.svg
    assert "<title>warm-up, 10 s: excluded from steady time</title>" in latency.svg


def test_fault_labels_overlap_neither_lines_nor_each_other(tmp_path: Path) -> None:
    """They are above the plot; of two faults that start close together, one label is a row higher."""
    faults = (facts.FaultWindow("cache_loss", "redis-1", 30.0, None, 35.0),
              facts.FaultWindow("kill", "users-1", 31.0, None, 40.0),
              facts.FaultWindow("pause", "users-1", 50.0, 55.0, 56.0))  # fmt: skip
    windows = facts.Windows(report_runs.START_NS, 10.0, 60.0, faults)
    view = View(finish.finish(tmp_path, report_runs.quiet(windows=windows)))
    canvas = svg.Canvas("t", "d", "k")
    x = charts.time_axis(view, canvas)

    assert [label.row for label in charts.fault_labels(view, x)] == [0, 1, 0]
    charts.backdrop(view, canvas, x)
    heights = [float(y) for y in re.findall(r'y="([\d.]+)" class="fault-word"', "".join(canvas.parts))]
    assert len(heights) == 3
    assert max(heights) < canvas.top


def test_the_prediction_is_drawn_dashed_over_the_measurement(run: record.Run) -> None:
    """Latency, percentiles, operations in flight and delivery have a line of the prediction."""
    drawn = {figure.key for figure in charts.draw(View(run)) if "model" in figure.svg}
    assert drawn == {"latency", "spectrum", "flight", "delivery"}


def test_the_prediction_has_its_label_and_signed_errors(run: record.Run) -> None:
    """The label is 'quick calibration, 1 load', and the error has its sign."""
    html = (run.path / "report.html").read_text(encoding="utf-8")
    assert "Label: <b>quick calibration, 1 load</b>" in html
    row = next(row for row in render.prediction_rows(run.document["prediction"]) if row["name"] == "home p50")
    assert row["error"] == "-10.3 %"


def test_a_void_run_withholds_its_headline_numbers(tmp_path: Path) -> None:
    """No tiles and no measured objectives; the page shows the broken criterion and its fix."""
    html = report(tmp_path, report_runs.void())
    assert 'class="tiles"' not in html
    assert "Headline numbers are withheld" in html
    assert html.count("withheld</td>") == 4
    assert "lower workload.rate, or run the generator on more cores" in html


def test_an_overloaded_run_names_the_criterion_next_to_its_verdict(tmp_path: Path) -> None:
    """The headline numbers are shown, too."""
    html = report(tmp_path, report_runs.overloaded())
    assert "offered load exceeded capacity: growth of the queue over a stage 7.31 s" in html
    assert 'class="tiles"' in html


def test_scenario_text_is_escaped(tmp_path: Path) -> None:
    """A question that contains a script is shown, not executed."""
    doc = {"question": "<script>alert('polly')</script>", "source": "a: <b>"}
    html = report(tmp_path, report_runs.quiet(scenario_doc=doc))
    assert "<script" not in html
    assert "&lt;script&gt;alert" in html


def test_thirty_minutes_of_twenty_processes_stay_below_one_megabyte(tmp_path: Path) -> None:
    """1 s resolution, 1,800 s, 20 processes, with a prediction."""
    fault = facts.FaultWindow("kill", "redis-1", 900.0, None, 930.0)
    windows = facts.Windows(report_runs.START_NS, 10.0, 1800.0, (fault,))
    rows = report_runs.history(1800.0, 20.0)
    series = report_runs.series(1800, {f"parrot-{i}": 0.05 for i in range(20)})
    given = report_runs.quiet(history=rows, series=series, windows=windows)
    twin = report_runs.twin(history=rows, series=series, windows=windows)
    run = finish.finish(tmp_path, given, twin, "same")
    assert 200_000 < (run.path / "report.html").stat().st_size < 1_000_000


@pytest.mark.parametrize(
    ("value", "text"), [(1.0, "100 %"), (0.0, "0 %"), (0.5, "50.0 %"), (0.9951, "99.51 %"), (0.0004, "0.040 %"), (None, "–")]
)
def test_shares_have_more_digits_near_0_and_1(value: float | None, text: str) -> None:
    """99.51 % is not shown as 99.5 %, and no value is rounded to 100 %."""
    assert render.share(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.25, "250 µs"), (12.345, "12.3 ms"), (1500.0, "1.5 s"), (0.0, "0 ms"), (None, "–")]
)
def test_durations_have_a_suitable_unit(value: float | None, text: str) -> None:
    """µs below 1 ms, s from 1,000 ms."""
    assert render.millis(value) == text


def test_a_logarithmic_axis_has_round_ticks() -> None:
    """1-2-5 steps over a short span, decades over a long one."""
    assert svg.Scale(8.0, 120.0, 0, 100, log=True).ticks() == [10.0, 20.0, 50.0, 100.0]
    assert svg.Scale(0.5, 2000.0, 0, 100, log=True).ticks() == [1.0, 10.0, 100.0, 1000.0]


def test_a_linear_axis_has_round_ticks() -> None:
    """Steps of 1, 2 or 5."""
    assert svg.Scale(0.0, 60.0, 0, 100).ticks() == [0.0, 20.0, 40.0, 60.0]


def test_a_line_breaks_at_missing_values() -> None:
    """NaN and a gap start a new segment; a single point is drawn as a dot."""
    canvas = svg.Canvas("t", "d", "k")
    canvas.path(np.array([0.0, 1.0, 2.0, 9.0]), np.array([5.0, 5.5, np.nan, 7.0]), "line", gap=3.0)
    assert canvas.parts == ['<path d="M0 50l10 5M90 70h1" class="line" transform="scale(.1)"/>']


def test_markdown_has_verdict_objectives_and_percentiles(run: record.Run) -> None:
    """The format is for pull requests."""
    text = exports.markdown(run)
    assert text.startswith("# first_run: PASS\n")
    assert "| home p99 <= 250 ms steady | ✓ pass | 27.1 ms | 1606 |" in text
    assert "| home | 1606 | 1606 | 9.84 | 20.29 | 27.13 | 46.79 | 52.27 |" in text
    assert text.endswith("Reproduce: `tweetlab run first_run --on both` (seed 7, commit 0123abc)\n")


def test_markdown_of_a_void_run_has_no_numbers(tmp_path: Path) -> None:
    """It has the broken criterion and its fix, but no percentiles and no measured objectives."""
    text = exports.markdown(finish.finish(tmp_path, report_runs.void()))
    assert "| generator CPU | 93.0 % | <= 80% of a core |" in text
    assert "steady response in ms" not in text
    assert "✓ pass | 27.1 ms" not in text


def test_junit_has_a_case_per_objective_and_invariant_and_unknown_is_no_success(tmp_path: Path) -> None:
    """fail -> failure, unknown -> error, otherwise passed."""
    failing = ET.fromstring(exports.junit(finish.finish(tmp_path, report_runs.failing())))
    assert (failing.get("failures"), failing.get("errors")) == ("1", "0")
    unknown = ET.fromstring(exports.junit(finish.finish(tmp_path, report_runs.unknown())))
    assert (unknown.get("failures"), unknown.get("errors")) == ("0", "1")
    broken = [case.get("name") for case in unknown if case.find("error") is not None]
    assert broken == ["no_ghost_after_delete_or_unfollow"]


def test_the_brief_has_the_verdict_and_the_headline_numbers(run: record.Run) -> None:
    """The first line is the verdict; a void run shows no numbers."""
    lines = exports.brief(run)
    assert lines[0] == "PASS  4 objectives and 6 invariants hold."
    assert [line.split("  ")[-1] for line in lines[1:3]] == [
        "offered load, 3600 operations", "success rate, OK of planned"
    ]  # fmt: skip
