"""How fast the cores of the machine are during a run: `python -m tweetlab.run.speed_probe FILE`.

A process repeats one small piece of work, on one core after the other, and appends the CPU time that each took to a
file. On a core of one's own that is always the same. On half of a physical core it is up to 1.6 times as much while
somebody else uses the other half, and all processes of the lab are slower then, too.
"""

from __future__ import annotations

import itertools
import os
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tweetlab import home

NAME = "speed-probe"
STEPS = 7_000   # of one piece of work: 0.6 to 1 ms
EVERY_S = 0.06  # between two pieces; the probe uses 0.02 core
ROW = struct.Struct("=qqq")  # monotonic ns, core, CPU ns


class Probe:
    """A running probe that writes to `file`."""

    def __init__(self, file: Path) -> None:
        self._file = file
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")
        command = [sys.executable, "-P", "-m", "tweetlab.run.speed_probe", str(file)]
        environment = {**os.environ, "PYTHONPATH": str(home.ROOT)}
        self._process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)
        self.pid = self._process.pid
        self._pieces, self._cpu_us = 0, 0.0  # counted so far

    def rows(self, first: int = 0) -> NDArray[np.int64]:
        """Return what was measured from piece `first` on: monotonic ns, core, CPU ns; int64, shape (n, 3)."""
        with self._file.open("rb") as file:
            file.seek(first * ROW.size)
            text = file.read()
        return np.frombuffer(text[: len(text) // ROW.size * ROW.size], dtype=np.int64).reshape(-1, 3)

    async def counters(self) -> dict[str, float]:
        """Return the number of pieces so far and their summed CPU, µs."""
        rows = self.rows(self._pieces)
        self._pieces += len(rows)
        self._cpu_us += float(rows[:, 2].sum()) / 1e3
        return {"probes": float(self._pieces), "probe_us": self._cpu_us}

    def stop(self) -> None:
        """End the process. Safe to repeat."""
        self._process.terminate()
        self._process.wait(timeout=10.0)


def _work() -> int:
    value = 1
    for _ in range(STEPS):
        value = (value * 1103515245 + 12345) & 0x7FFFFFFF
    return value


def _main(file: Path) -> None:
    parent = os.getppid()
    with file.open("ab", buffering=0) as out:
        for core in itertools.cycle(sorted(os.sched_getaffinity(0))):
            if os.getppid() != parent:
                return
            os.sched_setaffinity(0, {core})
            at_ns, start_ns = time.monotonic_ns(), time.process_time_ns()
            _work()
            out.write(ROW.pack(at_ns, core, time.process_time_ns() - start_ns))
            time.sleep(EVERY_S)


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
