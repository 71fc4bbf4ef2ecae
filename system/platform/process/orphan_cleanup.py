"""Finds and ends what an earlier start of this lab left behind, as after `kill -9` of its supervisor.

Three traces, any of which is enough: the recorded pid + start time, membership in the lab's control groups,
and the lab's mark in the environment. Nothing else on the machine is touched.
"""

from __future__ import annotations

import json
import os
from typing import Any

from system.kernel.errors import CouldNotRun
from system.platform.addresses import Plan
from system.platform.paths import Paths
from system.platform.process import procs
from system.platform.process.cgroups import Groups
from system.platform.regions import network


def leftovers(paths: Paths, groups: Groups) -> list[tuple[int, int]]:
    """Return (pid, start ticks) of every living process that an earlier start of this lab owned."""
    found: dict[int, int] = {}
    for row in read_children(paths).values():
        pid, started = int(row["pid"]), int(row["start_ticks"])
        if procs.is_alive(pid, started):
            found[pid] = started
    grouped = [pid for node in groups.nodes() for pid in groups.pids(node)]
    marked = [pid for pid in procs.all_pids() if procs.environment(pid).get("TWEETLAB_LAB") == paths.lab_id]
    for pid in (*grouped, *marked):
        if pid != os.getpid():
            found[pid] = procs.start_ticks(pid)
    for pid in list(found):
        for child in procs.descendants(pid):
            found.setdefault(child, procs.start_ticks(child))
    return sorted(found.items())


def sweep(paths: Paths, groups: Groups) -> int:
    """End all leftovers and return how many there were. Raises CouldNotRun where one cannot be ended."""
    targets = leftovers(paths, groups)
    stubborn = procs.kill_all(targets)
    if stubborn:
        raise CouldNotRun(f"The processes {stubborn} of an earlier start could not be ended; end them and start again.")
    groups.remove()
    network.remove(paths, Plan(paths.range))
    for trace in (paths.children, paths.socket):
        trace.unlink(missing_ok=True)
    return len(targets)


def read_children(paths: Paths) -> dict[str, Any]:
    """Return the recorded children, node -> {pid, start_ticks}; empty where none are recorded."""
    try:
        raw = json.loads(paths.children.read_text())
    except (OSError, ValueError):
        return {}
    return raw if isinstance(raw, dict) else {}


def write_children(paths: Paths, rows: dict[str, dict[str, int]]) -> None:
    """Record the children, whole or not at all."""
    part = paths.children.with_suffix(".part")
    part.write_text(json.dumps(rows))
    part.replace(paths.children)
