"""Rows about graph files: reading a list of 5 million follows, in a separate process to measure its peak memory.

`python -m bench.graphs` prints seconds and GiB for plain numbers, for ids of 19 digits and for names.
"""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import csv

from tweetlab import home

LINES, USERS = 5_000_000, 500_000
FIRST_19_DIGITS = 10**18
KINDS = ("numbers", "19 digits", "names")


@functools.cache
def measured(kind: str = "numbers") -> tuple[float, float]:
    """Return seconds from the file to a graph in memory, and the peak of the process in GiB.

    `kind`: a word of KINDS.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "follows.txt"
        write(path, kind)
        child = subprocess.run(
            [sys.executable, "-m", "bench.graphs", str(path)],
            cwd=home.ROOT,
            check=True,
            stdout=subprocess.PIPE,
        )
    values = json.loads(child.stdout)
    return float(values["s"]), float(values["gib"])


def write(path: Path, kind: str) -> None:
    """Write LINES follows among USERS users; a few users have very many followers."""
    random = np.random.default_rng(5)
    follower = (USERS * random.random(LINES)).astype(np.int64)
    followee = (USERS * random.random(LINES) ** 3).astype(np.int64)
    ids = np.sort(random.integers(FIRST_19_DIGITS, 2 * FIRST_19_DIGITS, USERS))
    known = {
        "numbers": pa.array(range(USERS)),
        "19 digits": pa.array(ids),
        "names": pa.array([f"user_{n:x}" for n in range(USERS)]),
    }
    table = pa.table(
        {"source": known[kind].take(pa.array(follower)), "target": known[kind].take(pa.array(followee))}
    )
    csv.write_csv(
        table, str(path), csv.WriteOptions(include_header=False, delimiter="\t", quoting_style="none")
    )


def read_once(path: Path) -> dict[str, float]:
    """Read `path` in this process; return seconds and the peak of its resident memory."""
    from scenarios.world import graph_files, population

    began = time.monotonic()
    graph = population.of_file(graph_files.read(path))
    taken_s = time.monotonic() - began
    assert 0.9 * LINES < graph.edges <= LINES, f"{graph.edges:,} follows of {LINES:,} lines"
    status = Path("/proc/self/status").read_text()  # not getrusage, which inherits the peak of the parent
    peak_kib = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    return {"s": taken_s, "gib": peak_kib / 2**20}


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(read_once(Path(sys.argv[1]))))
    else:
        for kind in KINDS:
            print(kind, "{:.1f} s, {:.2f} GiB".format(*measured(kind)))
