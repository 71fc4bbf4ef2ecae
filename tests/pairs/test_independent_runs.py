"""A campaign of drawn pairs in one lab `small` that stays up, each second run held against the same run on a
fresh lab."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from system.platform import paths
from tests.helpers import independent_runs
from tweetlab import home

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.campaign, pytest.mark.timeout(3600)]
PAIRS = int(os.environ.get("TWEETLAB_PAIRS", "20"))
RANGE = str(home.lab_range() + 2)  # beside the lab of the other drills, after which it runs
SEED = int(os.environ.get("TWEETLAB_PAIRS_SEED") or random.SystemRandom().randrange(1_000_000))


def tweetlab(*words: str, timeout_s: float = 180) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tweetlab", *words], cwd=paths.CODE, capture_output=True, text=True,
        timeout=timeout_s, env=os.environ | {"TWEETLAB_RANGE": RANGE})


def ran(doc: independent_runs.Doc, folder: Path) -> Any:
    """Run a scenario in the lab of this campaign; return what it said."""
    done = tweetlab("run", str(independent_runs.written(doc, folder)), "--on", "system", "--json")
    if not done.stdout:
        return {"failed": done.stderr[-3000:]}
    return independent_runs.said_by(json.loads(done.stdout)[0])


@pytest.fixture(scope="module")
def in_a_row(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[list[Any]]:
    """What the second run of each pair said in one lab in which every pair before it ran, too. The seed is
    printed."""
    capture: Any = pytestconfig.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print(f"\n{PAIRS} pairs drawn from seed {SEED}; TWEETLAB_PAIRS_SEED={SEED} repeats them", flush=True)
    folder = tmp_path_factory.mktemp("pairs")
    started = tweetlab("up")
    assert started.returncode == 0, started.stderr[-3000:]
    try:
        pairs = [independent_runs.drawn(SEED + number) for number in range(PAIRS)]
        yield [[ran(doc, folder) for doc in pair][1] for pair in pairs]
    finally:
        tweetlab("down", "--purge")


@pytest.mark.parametrize("number", range(PAIRS))
def test_a_second_run_says_what_it_says_on_a_fresh_lab(in_a_row, number, tmp_path):
    """Other graph, push limit, protected users, cache state and fault before it: nothing of that is in what
    it says."""
    tweetlab("down", "--purge")
    started = tweetlab("up")
    assert started.returncode == 0, started.stderr[-3000:]
    fresh = ran(independent_runs.drawn(SEED + number)[1], tmp_path)

    assert "failed" not in fresh and "failed" not in in_a_row[number], (fresh, in_a_row[number])
    assert independent_runs.differences(in_a_row[number], fresh) == [], f"seed {SEED}, pair {number}"
