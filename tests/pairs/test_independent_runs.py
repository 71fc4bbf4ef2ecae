"""Runs are independent: a campaign of randomly drawn pairs of runs in one lab (`small`) that stays up.

The second run of each pair is compared with the same run on a fresh lab.
"""

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
RANGE = str(home.lab_range() + 2)  # an address range other than that of the drills, which run before
SEED = int(os.environ.get("TWEETLAB_PAIRS_SEED") or random.SystemRandom().randrange(1_000_000))


def tweetlab(*args: str, timeout_s: float = 180) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tweetlab", *args], cwd=paths.CODE, capture_output=True, text=True,
        timeout=timeout_s, env=os.environ | {"TWEETLAB_RANGE": RANGE})


def result_of(doc: independent_runs.Doc, folder: Path) -> Any:
    """Run a scenario in the lab of this campaign; return its results, or `failed` with its error output."""
    done = tweetlab("run", str(independent_runs.written(doc, folder)), "--on", "system", "--json")
    if not done.stdout:
        return {"failed": done.stderr[-3000:]}
    return independent_runs.said_by(json.loads(done.stdout)[0])


@pytest.fixture(scope="module")
def results_in_one_lab(
    tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Iterator[list[Any]]:
    """Run all pairs one after the other in one lab; yield the results of each second run. Print the seed."""
    capture: Any = pytestconfig.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print(f"\n{PAIRS} pairs drawn from seed {SEED}; TWEETLAB_PAIRS_SEED={SEED} repeats them", flush=True)
    folder = tmp_path_factory.mktemp("pairs")
    started = tweetlab("up")
    assert started.returncode == 0, started.stderr[-3000:]
    try:
        pairs = [independent_runs.drawn(SEED + number) for number in range(PAIRS)]
        yield [[result_of(doc, folder) for doc in pair][1] for pair in pairs]
    finally:
        tweetlab("down", "--purge")


@pytest.mark.parametrize("number", range(PAIRS))
def test_a_run_gives_the_same_results_as_on_a_fresh_lab(results_in_one_lab, number, tmp_path):
    """Graph, push limit, protected users, cache state and fault of the previous run do not affect it."""
    tweetlab("down", "--purge")
    started = tweetlab("up")
    assert started.returncode == 0, started.stderr[-3000:]
    fresh = result_of(independent_runs.drawn(SEED + number)[1], tmp_path)
    reused = results_in_one_lab[number]

    assert "failed" not in fresh and "failed" not in reused, (fresh, reused)
    assert independent_runs.differences(reused, fresh) == [], f"seed {SEED}, pair {number}"
