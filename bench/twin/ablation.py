"""What each part of the model is worth: the rungs of a calibration replayed without it.

    python -m bench.twin.ablation runs/calibrate_full/UTC

The costs stay those of the calibration, so a row shows what the part contributes where everything else is as measured.
docs/how-to/twin.md has the table of one run.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import numpy as np

from reports import record
from sim import calibrate, gate, services, workers
from sim.calibration import Calibration, DelayShape
from sim.speed import CoreSpeed

SOON_S = 1e-4  # in place of a pause
Change = Callable[[Calibration], Calibration]


def _same(known: Calibration) -> Calibration:
    return known


def _medians(known: Calibration) -> Calibration:
    return dataclasses.replace(known, delays={
        name: DelayShape((float(np.median(shape.quantiles_ms)),), shape.source) for name, shape in known.delays.items()})


PARTS: dict[str, tuple[Change, dict[str, object]]] = {
    "nothing": (_same, {}),
    "pauses of publisher, fan-out and relay": (_same, {"workers.PUBLISHER_GATHER_S": SOON_S, "workers.FANOUT_GATHER_S": SOON_S,
                                                       "workers.LISTEN_S": SOON_S}),
    "HAProxy's single thread": (_same, {"services.WIDTHS": {**services.WIDTHS, services.HAPROXY: 2}}),
    "the load generator's real-time priority": (_same, {"services.REALTIME": ()}),
    "cores of two speeds": (lambda known: dataclasses.replace(known, core_speed=CoreSpeed()), {}),
    "work that is cheaper at higher load": (lambda known: dataclasses.replace(known, exponents={}), {}),
    "CPU off the path of a request": (lambda known: dataclasses.replace(known, off_path={}), {}),
    "CPU without load": (lambda known: dataclasses.replace(known, background_cores={}), {}),
    "the Redis of the limits": (lambda known: known.costing({services.LIMITS: 0.0}), {}),
    "the spread of each delay": (_medians, {}),
}  # fmt: skip
"""What is left out -> (how the calibration changes, names of modules of `sim` with other values)."""


@contextlib.contextmanager
def _patched(values: dict[str, object]) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for name, value in values.items():
            module, _, attribute = name.partition(".")
            stack.enter_context(mock.patch.object({"workers": workers, "services": services}[module], attribute, value))
        yield


def rows(run: record.Run) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield (what is left out, statistic -> median signed and absolute error over the rungs of the ladders)."""
    known = calibrate.full(run)
    replayed = calibrate.replay(run, known.cores)
    for name, (change, values) in PARTS.items():
        with _patched(values):
            rungs = [rung for rung in gate.replayed(replayed, change(known)) if rung.ladder]
        found = {}
        for statistic in gate.BARS:
            errors = [rung.error[statistic] for rung in rungs if statistic in rung.error]
            found[statistic], found[f"|{statistic}|"] = float(np.median(errors)), float(np.median(np.abs(errors)))
        yield name, found


def main(path: str) -> None:
    """Print the table as Markdown."""
    print("| without | CPU | p50 | p95 |\n|---|---|---|---|")
    for name, found in rows(record.read(Path(path))):
        cells = (f"{found[f'|{one}|']:.0%} ({found[one]:+.0%})" for one in gate.BARS)
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
