"""The table of `make bench`: rows are merged, and a row that could not run keeps its old value."""

from __future__ import annotations

import json

import pytest

from bench import __main__ as bench
from bench.containers import provider_rows
from bench.rows import ROWS, Row

ROW = Row("search_p95_ms", "a row", "ms", None, 100, lambda: 1.0)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "latest.json"


def table(path):
    return {row["name"]: row for row in json.loads(path.read_text())["rows"]}


def test_a_row_that_could_not_run_keeps_its_old_value_and_says_so(path, capsys):
    """Until it is measured again; the other rows are unchanged."""
    bench.merge(ROW, 80.0, path)
    bench.merge(Row("seed_100k_s", "another", "s", None, 300, lambda: 1.0), 160.0, path)
    bench.failed(ROW, "No instance joined.", path)
    bench.show(path)

    assert table(path)["search_p95_ms"]["value"] == 80.0 and "No instance" in table(path)["search_p95_ms"]["failed"]["why"]
    assert "could not run" in capsys.readouterr().out and "failed" not in table(path)["seed_100k_s"]
    bench.merge(ROW, 90.0, path)
    assert table(path)["search_p95_ms"]["value"] == 90.0 and "failed" not in table(path)["search_p95_ms"]


def test_a_row_that_never_ran_is_empty(path):
    """No value, no commit."""
    bench.failed(ROW, "no machine", path)

    row = table(path)["search_p95_ms"]
    assert (row["holds"], row["value"], row["commit"]) == (None, None, "")
    bench.show(path)


def test_a_row_without_a_bar_is_recorded(path):
    """It always holds."""
    row = next(row for row in ROWS if row.name == "media_upload_ratio")
    bench.merge(row, 0.5, path)

    assert (row.bar, table(path)["media_upload_ratio"]["holds"]) == ("none", True)


def test_a_stray_argument_does_not_start_the_bench(capsys):
    """It takes an hour; `--help` must not be ignored."""
    assert bench.main(["--help"]) == 64
    assert "ROW=NAME" in capsys.readouterr().err


def test_a_row_without_its_optional_input_is_not_run(path, capsys, monkeypatch):
    """The conformance cases are not part of the repository: without CASES the row says so, and the bench does not fail."""
    monkeypatch.setenv("ROW", "twitter_text_conformance")
    monkeypatch.delenv("CASES", raising=False)
    monkeypatch.setattr(bench, "failed", lambda row, why, failed=bench.failed: failed(row, why, path))
    monkeypatch.setattr(bench, "show", lambda show=bench.show: show(path))

    assert bench.main([]) == 0
    assert "set CASES" in table(path)["twitter_text_conformance"]["failed"]["why"]
    assert "not run" in capsys.readouterr().out


def test_several_rows_are_measured_in_the_order_of_their_names(path, monkeypatch, capsys):
    """Rows of one measurement share it; an unknown name measures nothing."""
    measured = []
    monkeypatch.setattr(bench.rows, "ROWS", [Row(name, "a row", "s", None, 1, lambda name=name: measured.append(name) or 0.5)
                                             for name in ("ni", "shrubbery", "herring")])
    monkeypatch.setattr(bench, "merge", lambda row, value, merge=bench.merge: merge(row, value, path))
    monkeypatch.setattr(bench, "show", lambda: None)
    monkeypatch.setenv("ROW", "herring,ni")

    assert bench.main([]) == 0 and measured == ["herring", "ni"]
    monkeypatch.setenv("ROW", "ni,shruberry")
    assert bench.main([]) == 64 and measured == ["herring", "ni"]
    assert "Did you mean shrubbery?" in capsys.readouterr().err


def test_the_ratio_of_two_providers_has_an_interval_that_holds_every_pair():
    """Geometric mean over pairs; windows that vary widen the interval, and constant ones leave the range of the pairs."""
    calm = provider_rows.ratio_of([([2.0, 2.0], [2.0, 2.0]), ([1.0, 1.0], [4.0, 4.0])])
    noisy = provider_rows.ratio_of([([2.0, 2.0], [1.0, 3.0]), ([1.0, 1.0], [2.0, 6.0])])

    assert calm == pytest.approx((2.0, 1.0, 4.0))
    assert noisy[0] == pytest.approx(2.0) and noisy[1] < 1.0 and noisy[2] > 4.0
