"""Finds and kills orphaned processes of an earlier start of this lab, as after `kill -9` of its supervisor.

A process is the lab's if any of three signs says so: the recorded pid and start time, membership in the lab's
control groups, or the lab's id in its environment (`TWEETLAB_LAB`). Nothing else on the machine is touched.
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
    processes: dict[int, int] = {}
    for row in read_children(paths).values():
        pid, started = int(row["pid"]), int(row["start_ticks"])
        if procs.is_alive(pid, started):
            processes[pid] = started
    grouped = [pid for node in groups.nodes() for pid in groups.pids(node)]
    marked = [pid for pid in procs.all_pids() if procs.environment(pid).get("TWEETLAB_LAB") == paths.lab_id]
    for pid in (*grouped, *marked):
        if pid != os.getpid():
            processes[pid] = procs.start_ticks(pid)
    for pid in list(processes):
        for child in procs.descendants(pid):
            processes.setdefault(child, procs.start_ticks(child))
    return sorted(processes.items())


def clean_up(paths: Paths, groups: Groups) -> int:
    """Kill all leftovers, remove control groups, network and files; return how many processes there were.

    Raises CouldNotRun if one cannot be killed.
    """
    targets = leftovers(paths, groups)
    stubborn = procs.kill_all(targets)
    if stubborn:
        raise CouldNotRun(f"The processes {stubborn} of an earlier start could not be killed; kill them and start again.")
    groups.remove()
    network.remove(paths, Plan(paths.range))
    for file in (paths.children, paths.socket):
        file.unlink(missing_ok=True)
    return len(targets)


def read_children(paths: Paths) -> dict[str, Any]:
    """Return the recorded children, node -> {pid, start_ticks}; empty if none are recorded."""
    try:
        raw = json.loads(paths.children.read_text())
    except (OSError, ValueError):
        return {}
    return raw if isinstance(raw, dict) else {}


def write_children(paths: Paths, rows: dict[str, dict[str, int]]) -> None:
    """Record the children, atomically (rename)."""
    part = paths.children.with_suffix(".part")
    part.write_text(json.dumps(rows))
    part.replace(paths.children)
