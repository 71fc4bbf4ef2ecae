"""A runner that injects a fault and then waits to be killed: `striking(paths, FAULT, TARGET)`.

As a program: `python -m tests.helpers.interrupted_runner ROOT RANGE FAULT TARGET`. It prints `struck` once
the fault is injected.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

from chaos import undo, watchdog
from chaos.faults.table import FAULTS
from system.platform import native
from system.platform.paths import CODE, Paths

WAITS_S = 300


async def striking(at: Paths, fault: str, target: str) -> asyncio.subprocess.Process:
    """Return the runner's process once it has injected the fault."""
    runner = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.helpers.interrupted_runner", str(at.root), str(at.range), fault, target,
        stdout=asyncio.subprocess.PIPE,
        cwd=CODE, env={**os.environ, "PYTHONPATH": str(CODE)})
    assert runner.stdout is not None
    assert await runner.stdout.readline() == b"struck\n"
    return runner


async def _strike(root: str, range_: str, fault: str, target: str) -> None:
    lab = native.Lab(Path(root), int(range_))
    log = undo.UndoLog(undo.path_of(lab.paths.state))
    aim = await FAULTS[fault].choose_target(lab, target)
    with watchdog.guard(log, lab):
        if fault == "kill":  # else it would be restarted before the test checks
            await lab.auto_heal(target, False)
        log.plan(fault, aim)
        await FAULTS[fault].inject(lab, aim)
        print("struck", flush=True)
        time.sleep(WAITS_S)  # noqa: ASYNC251 - it blocks until it is killed


if __name__ == "__main__":
    asyncio.run(_strike(*sys.argv[1:]))
