"""The log of what workers did with each event: evidence for delivery times and for "effective exactly once".

One file a process, one JSON object a line, appended: `<directory>/<instance>-<pid>.jsonl`.

| field | meaning |
|---|---|
| group, event, key, kind | consumer group, event id, record key, topic |
| applied | True where something was to be done and was done |
| path | push, pull, skip, back_fill, purge, remove, index |
| targets | live timelines (or documents) that were changed |
| at_ns | CLOCK_MONOTONIC after the last effect of this event |
| wall_ms | wall time of the same moment, ms since 1970 |
| retries | how often the event was started again |
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import orjson

from system.kernel.telemetry import metrics


@dataclass(frozen=True)
class Effect:
    """One line of the log; the fields are told in the module's table."""

    group: str
    event: str
    key: int
    kind: str
    applied: bool
    path: str
    targets: int
    at_ns: int
    wall_ms: int
    retries: int = 0


class EffectLog:
    """Where effects go, and metrics count them. An empty directory name: no file. `flush` after each poll; a SIGKILL loses at
    most one poll's lines.
    """

    def __init__(self, directory: str, instance: str) -> None:
        self._file: BinaryIO | None = None
        self._counted: dict[tuple[str, str], tuple[metrics.Amount, metrics.Amount]] = {}
        if directory:
            Path(directory).mkdir(parents=True, exist_ok=True)
            self._file = (Path(directory) / f"{instance}-{os.getpid()}.jsonl").open("ab")

    def write(self, effect: Effect) -> None:
        """Add one line. It reaches the file at the next `flush` at the latest."""
        counted = self._counted.get((effect.group, effect.path))
        if counted is None:
            counted = (metrics.counter("tweetlab_effects_total", group=effect.group, path=effect.path),
                       metrics.counter("tweetlab_effect_targets_total", group=effect.group, path=effect.path))
            self._counted[effect.group, effect.path] = counted
        counted[0](1)
        counted[1](effect.targets)
        if self._file is not None:
            self._file.write(orjson.dumps(effect) + b"\n")  # a dataclass as it is; `asdict` took 23 µs an event

    def flush(self) -> None:
        """Hand the lines to the operating system."""
        if self._file is not None:
            self._file.flush()

    def close(self) -> None:
        """Flush and close. Safe to repeat."""
        if self._file is not None:
            self._file.close()
            self._file = None
