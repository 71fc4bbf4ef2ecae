"""Rows of the bench about sweeps, notebooks and the first answer of the API: no server runs."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ALONE = {**os.environ, "PYTHONPATH": str(ROOT)}
OPERATIONS, RATES, REPLICATIONS = 20_000, 100, 10


def sweep_100_points_s() -> float:
    """Return the wall time of 100 rates of `first_run`'s mix, 20,000 operations each, 10 replications, on all cores."""
    from tweetlab.sweep import execute, grid

    definition = execute.define("first_run", grid.axes([f"rate=20..320:{RATES}"]), operations=OPERATIONS,
                                replications=REPLICATIONS, search=False)
    with tempfile.TemporaryDirectory() as folder:
        start_s = time.perf_counter()
        execute.run(definition, root=Path(folder))
        return time.perf_counter() - start_s


def notebooks_s() -> float:
    """Return the wall time of executing every notebook. Raises CalledProcessError if one fails."""
    start_s = time.perf_counter()
    subprocess.run([sys.executable, "-P", "-m", "bench.notebooks", "check"], cwd=ROOT, check=True,
                   env=ALONE)
    return time.perf_counter() - start_s


def api_first_answer_s() -> float:
    """Return the wall time of a process that imports the API and predicts `first_run`; the second of two, so caches are warm."""
    code = "from tweetlab import api; assert len(api.simulate('first_run').latency())"
    took_s = 0.0
    for _ in range(2):
        start_s = time.perf_counter()
        subprocess.run([sys.executable, "-P", "-c", code], cwd=ROOT, check=True, env=ALONE)
        took_s = time.perf_counter() - start_s
    return took_s
