"""The lists of `tweetlab list`."""

import pytest

from system.kernel.errors import WrongInput
from tweetlab import home, listing


def test_a_broken_record_does_not_hide_the_other_runs(tmp_path, monkeypatch):
    """Its row says what is wrong with it."""
    monkeypatch.setattr(home, "RUNS", tmp_path)
    broken = tmp_path / "first_run" / "20261122T180000Z"
    broken.mkdir(parents=True)
    (broken / "record.json").write_text("{")

    (row,) = listing.rows("runs")

    assert row["run"] == "first_run/20261122T180000Z"
    assert "is not JSON" in row["question"]


def test_an_unknown_word_is_answered_with_the_nearest_one():
    """Every word has rows; another is refused."""
    assert all(listing.rows(word) for word in ("faults", "invariants", "routes", "scenarios"))
    with pytest.raises(WrongInput, match="Did you mean 'scenarios'"):
        listing.rows("scenario")
