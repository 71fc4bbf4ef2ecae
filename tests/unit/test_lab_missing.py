"""A test run that brought up its own lab is not green where that went away."""

import pytest

from tests.lab_missing import missing


@pytest.mark.parametrize(("stands", "ends"), [("", pytest.skip.Exception), ("1", pytest.fail.Exception)])
def test_a_missing_lab_skips_alone_and_fails_in_a_run_that_brought_one_up(monkeypatch, stands, ends):
    """Four hundred skipped tests would look like a good end."""
    monkeypatch.setenv("TWEETLAB_LAB_STANDS", stands)
    with pytest.raises(ends, match="no parrot"):
        missing("no parrot")
