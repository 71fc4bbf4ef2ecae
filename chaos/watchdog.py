"""Undoes the faults of a run when its runner dies. `python -m chaos.watchdog LOG PID TICKS ROOT RANGE LAB`

The runner starts it before the first fault (`guard`) and terminates it after the last. It runs in a session
of its own, so that neither Ctrl-C nor the loss of the runner's terminal reaches it, and identifies the runner
by pid and start time. LAB: `module:class` of the platform, constructed as LAB(ROOT, RANGE).
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from chaos import undo
from chaos.faults.targets import Lab
from system.kernel.errors import LabError
from system.platform.process import procs

WATCH_EVERY_S = 0.1
TRY_FOR_S = 30.0  # a supervisor that is busy restarting nodes may refuse for a while


@contextlib.contextmanager
def guard(log: undo.UndoLog, lab: Lab) -> Iterator[int]:
    """Watch the calling process while the block runs; yield the watchdog's pid.

    The watchdog constructs its own client of the lab from the class, the root directory and the range of
    `lab`.
    """
    code, kind = Path(__file__).resolve().parents[1], type(lab)
    command = [sys.executable, "-m", "chaos.watchdog", str(log.path), str(os.getpid()), str(procs.start_ticks(os.getpid())),
               str(lab.paths.root), str(lab.paths.range), f"{kind.__module__}:{kind.__qualname__}"]
    path = os.pathsep.join([str(code), *filter(None, sys.path)])
    process = subprocess.Popen(command, cwd=code, env={**os.environ, "PYTHONPATH": path}, stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait()


async def watch(log: undo.UndoLog, pid: int, ticks: int, lab: Lab) -> list[undo.Entry]:
    """Wait until a runner has exited, then undo the faults that it left active; return them.

    If the lab refuses, retries for TRY_FOR_S and then raises the last error.
    """
    while procs.is_alive(pid, ticks):
        await asyncio.sleep(WATCH_EVERY_S)
    deadline_s = time.monotonic() + TRY_FOR_S
    while True:
        try:
            return await undo.sweep(lab, log)
        except LabError:
            if time.monotonic() > deadline_s:
                raise
            await asyncio.sleep(1.0)


def main(arguments: list[str]) -> int:
    """Run the watchdog; return the exit code, 64 for wrong arguments."""
    if len(arguments) != 6:
        print(__doc__, file=sys.stderr)
        return 64
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    path, pid, ticks, root, range_, kind = arguments
    module, _, name = kind.partition(":")
    lab: Lab = getattr(importlib.import_module(module), name)(Path(root), int(range_))
    asyncio.run(watch(undo.UndoLog(Path(path)), int(pid), int(ticks), lab))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
