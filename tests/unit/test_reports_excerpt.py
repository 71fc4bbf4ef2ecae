"""Excerpts: a run small enough to ship, that opens like any other."""

import pytest

from reports import excerpt, finish, record
from system.kernel.errors import WrongInput
from tests.helpers import report_runs


@pytest.fixture
def run(tmp_path):
    """A finished run."""
    return finish.finish(tmp_path / "runs", report_runs.quiet())


def test_an_excerpt_opens_like_a_run_and_keeps_its_times(run, tmp_path):
    """Latencies survive to the microsecond; pages and keys do not."""
    excerpt.write(run, tmp_path / "small")
    again = record.read(tmp_path / "small")
    kept = run.history[run.history["route"] != "null"].sort_values("due_ns", kind="stable")

    assert len(again.history) == len(kept) and again.document["summary"] == run.document["summary"]
    assert (again.history["done_ns"].to_numpy() - kept["done_ns"].to_numpy()).max() <= 0
    assert abs(again.history["done_ns"].to_numpy() - kept["done_ns"].to_numpy()).max() < 1000
    assert again.history["key"].eq("").all() and again.history["page_ids"].isna().all()


def test_only_the_wanted_seconds_and_routes_are_kept(run, tmp_path):
    """The record says so."""
    excerpt.write(run, tmp_path / "small", ("home",), until_s=10.0)
    again = record.read(tmp_path / "small")

    assert set(again.history["route"]) == {"home"} and len(again.history)
    assert ((again.history["due_ns"] - again.start_ns) / 1e9 < 10.0).all()
    assert again.document["excerpt"] == {"routes": ["home"], "until_s": 10.0}


def test_an_excerpt_that_is_too_large_is_refused_and_leaves_nothing(run, tmp_path):
    """With its size, the bound and what to leave out."""
    with pytest.raises(WrongInput, match=r"takes [\d,]+ bytes; at most 1,000 are allowed: keep fewer routes"):
        excerpt.write(run, tmp_path / "small", limit_bytes=1000)
    assert not (tmp_path / "small").exists()
