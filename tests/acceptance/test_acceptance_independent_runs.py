"""A run owes nothing to the run before it: the second of a pair says what it says on a fresh lab."""

import json
import os
from pathlib import Path

import pytest

from tests.helpers import independent_runs
from tests.helpers.command import tweetlab

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.usefixtures("lab")]
SEED = 109
"""Before: pulled authors and a lost cache. After: another graph, protected users, a cold cache, pulled
authors.
"""
RECORD = Path(__file__).with_name("independent_pair.json")
"""What the second of the pair said on a fresh lab. To record it again after a change of what is drawn or of
the paths:
`TWEETLAB_RECORD=1` and this test, on a lab that was purged and started for it."""


def test_the_second_run_of_a_pair_says_what_it_says_on_a_fresh_lab(tmp_path):
    """Invariants, violations and path counts do not depend on the order of runs: nothing of the first is in
    the second."""
    first, second = independent_runs.drawn(SEED)
    recording = bool(os.environ.get("TWEETLAB_RECORD"))
    said = []
    for doc in (second,) if recording else (first, second):
        path = independent_runs.written(doc, tmp_path)
        done = tweetlab("run", str(path), "--on", "system", "--json", timeout_s=120)
        assert done.out, done.err[-3000:]
        said.append(independent_runs.said_by(done.json()[0]))
    if recording:
        RECORD.write_text(json.dumps({"seed": SEED, **said[-1]}, indent=1) + "\n")
    fresh = json.loads(RECORD.read_text())

    assert fresh["seed"] == SEED and fresh["violations"] == []
    assert independent_runs.differences(said[-1], fresh) == []
