"""The folder of a run: written atomically, and readable for known schema versions."""

from __future__ import annotations

import json
import os
from pathlib import Path

import jsonschema
import pytest

from reports import columns, finish, record, schema
from reports.stats import histogram
from system.kernel import errors
from tests.helpers import report_runs


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    finish.finish(folder, report_runs.quiet(), report_runs.twin(), "quick calibration, 1 load")
    return folder


def test_a_run_leaves_these_files(runs: Path) -> None:
    """Every file that docs/results.md explains, and no hidden or partial file."""
    run = record.find(runs)
    files = [path for path in run.path.rglob("*") if path.is_file() and "twin" not in path.parts]
    assert sorted(str(path.relative_to(run.path)) for path in files) == [
        "effects.parquet", "faults.json",
        "histograms/home.response.hlog", "histograms/home.service.hlog",
        "histograms/post.response.hlog", "histograms/post.service.hlog",
        "histograms/search.response.hlog", "histograms/search.service.hlog",
        "histograms/user_tweets.response.hlog", "histograms/user_tweets.service.hlog",
        "history.parquet", "invariants.json", "probes.parquet", "record.json", "report.html", "series.parquet",
    ]  # fmt: skip


def test_latest_points_to_the_newest_run(runs: Path) -> None:
    """runs/latest is a relative link to the folder."""
    assert os.readlink(runs / "latest") == "first_run/20261122T180900Z"
    assert record.find(runs).run_id == "first_run/20261122T180900Z"
    assert record.find(runs, "first_run").path == record.find(runs).path


def test_a_run_is_read_as_it_was_written(runs: Path) -> None:
    """Tables keep rows, types and lists; the record keeps its verdict."""
    run = record.find(runs)
    assert run.document["verdict"] == "PASS"
    assert len(run.history) == 3600
    assert str(run.history["due_ns"].dtype) == "int64"
    assert list(run.history[run.history["route"] == "home"]["page_ids"].iloc[0]) == [3, 2, 1]
    assert run.history.columns.tolist() == [column.name for column in columns.HISTORY]


def test_the_twin_is_recorded_with_the_run_in_the_same_format(runs: Path) -> None:
    """<run>/twin is a run of kind twin, and the run's record has the signed errors and the label."""
    run = record.find(runs)
    assert run.twin is not None
    assert run.twin.kind == "twin"
    assert run.twin.history.columns.tolist() == run.history.columns.tolist()
    block = run.document["prediction"]
    assert block["label"] == "quick calibration, 1 load"
    pair = block["routes"]["home"]["response_ms"]["p50"]
    assert pair["error"] == pytest.approx(pair["predicted"] / pair["measured"] - 1, abs=1e-4)


def test_every_derived_series_is_recorded(runs: Path) -> None:
    """Rates, percentiles and operations in flight per second, in addition to the runner's series."""
    names = set(record.find(runs).series["name"])
    assert names >= {"rate.planned", "rate.sent", "rate.ok", "rate.fail", "rate.info"}
    assert names >= {"p50", "p99", "p999", "in_flight"}
    assert names >= {"cpu_cores", "rss_mib", "lag", "host_busy_cores", "steal"}


def test_the_histogram_log_holds_every_ok_operation(runs: Path) -> None:
    """Its count equals that of the record."""
    run = record.find(runs)
    total = histogram.read_log(run.path / "histograms" / "post.response.hlog").get_total_count()
    assert total == run.summary["routes"]["post"]["ok"] == 537


def test_a_record_fits_the_published_schema(runs: Path) -> None:
    """record_schema() is valid JSON Schema, and both records satisfy it."""
    jsonschema.Draft202012Validator.check_schema(schema.record_schema())
    validator = jsonschema.Draft202012Validator(schema.record_schema())
    for path in (runs / "latest" / "record.json", runs / "latest" / "twin" / "record.json"):
        assert list(validator.iter_errors(json.loads(path.read_text()))) == []


def test_an_unknown_schema_version_is_refused_with_a_fix(runs: Path, tmp_path: Path) -> None:
    """The error says how to read the record."""
    document = json.loads((runs / "latest" / "record.json").read_text())
    (tmp_path / "record.json").write_text(json.dumps({**document, "schema_version": 7}))
    with pytest.raises(errors.WrongInput, match="schema_version 7; this Tweetlab reads 2: read it with the commit"):
        record.read(tmp_path)


def test_a_record_without_a_required_key_is_refused(runs: Path, tmp_path: Path) -> None:
    """The error names the key."""
    document = json.loads((runs / "latest" / "record.json").read_text())
    del document["summary"]["paths"]["push"]
    (tmp_path / "record.json").write_text(json.dumps(document))
    with pytest.raises(errors.WrongInput, match=r"summary\.paths: 'push' is a required property"):
        record.read(tmp_path)


def test_a_truncated_record_is_refused(tmp_path: Path) -> None:
    """The error says that the file is not JSON."""
    (tmp_path / "record.json").write_text('{"schema_version": 2, ')
    with pytest.raises(errors.WrongInput, match="is not JSON"):
        record.read(tmp_path)


def test_a_missing_run_is_not_found(tmp_path: Path) -> None:
    """The error names the run."""
    with pytest.raises(errors.NotFound, match="no run named 'parrot'"):
        record.find(tmp_path, "parrot")


def test_a_crash_while_writing_leaves_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk fills up at the last file: CouldNotRun, no folder, no link, nothing hidden."""
    real = Path.write_text

    def full(self: Path, *args: object, **kwargs: object) -> int:
        if self.name == "record.json":
            raise OSError(28, "No space left on device")
        return real(self, *args, **kwargs)  # type: ignore[arg-type]

    parts = finish.parts(report_runs.quiet())
    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(errors.CouldNotRun, match=r"No space left on device; free some space"):
        record.write(tmp_path, parts)
    assert [path.name for path in tmp_path.rglob("*")] == ["first_run"]


def test_two_runs_of_the_same_second_get_different_ids(tmp_path: Path) -> None:
    """-2 is appended to the second id, and neither run is lost."""
    parts = finish.parts(report_runs.quiet())
    first, second = record.write(tmp_path, parts), record.write(tmp_path, parts)
    assert (first.run_id, second.run_id) == ("first_run/20261122T180900Z", "first_run/20261122T180900Z-2")
    assert [path.name for path in record.all_runs(tmp_path)] == ["20261122T180900Z", "20261122T180900Z-2"]


def test_an_amended_record_is_validated_before_it_replaces_the_old_one(tmp_path: Path) -> None:
    """If a block violates the schema, the old record remains."""
    run = record.write(tmp_path, finish.parts(report_runs.quiet()))
    with pytest.raises(errors.WrongInput, match="verdict"):
        record.amend(run, verdict="MAYBE")
    assert record.read(run.path).document["verdict"] == "PASS"


def test_an_interrupted_run_without_operations_is_recorded(tmp_path: Path) -> None:
    """Ctrl-C before the first request: a void record and a report, not a traceback."""
    empty = report_runs.quiet(history=report_runs.history().iloc[:0], interrupted=True)
    run = finish.finish(tmp_path, empty)
    assert run.document["verdict"] == "VOID"
    assert (run.path / "report.html").exists()


def test_in_sample_predictions_have_no_error(tmp_path: Path) -> None:
    """A prediction whose service times come from the scored run proves nothing."""
    run = finish.finish(tmp_path, report_runs.quiet(), report_runs.twin(), "this run", in_sample=True)
    block = run.document["prediction"]
    assert block["label"] == "IN-SAMPLE, this run"
    assert {pair["error"] for pair in block["routes"]["home"]["response_ms"].values()} == {None}


def test_a_record_of_version_1_is_converted_to_the_current_version(runs: Path, tmp_path: Path) -> None:
    """The only difference is the name of the key `fix` of the criteria."""
    document = json.loads((record.all_runs(runs)[0] / "record.json").read_text())
    old = {**document, "schema_version": 1, "validity": {**document["validity"], "criteria": [
        {**{key: value for key, value in one.items() if key != "fix"}, schema.FIX_V1: one["fix"]}
        for one in document["validity"]["criteria"]]}}
    (tmp_path / "record.json").write_text(json.dumps(old))

    assert record.read(tmp_path).document == document
