"""Reads /proc: identity, memory and CPU time of processes.

A pid alone does not identify a process, because the kernel reuses pids; pid and start time together do.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PAGE = os.sysconf("SC_PAGE_SIZE")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")

Tree = dict[int, list[int]]  # pid -> pids of its living children


@dataclass(frozen=True)
class Stat:
    """One process.

    `start_ticks`: clock ticks from boot to its start. `reaped_cpu_ns`: CPU time of the exited children that
    it waited for.
    """

    pid: int
    parent: int
    session: int
    state: str
    start_ticks: int
    reaped_cpu_ns: int


def stat(pid: int) -> Stat | None:
    """Return a process as /proc lists it; None if it does not exist. A zombie exists, with state Z."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    reaped_ns = (int(fields[13]) + int(fields[14])) * 1_000_000_000 // TICKS_PER_S
    return Stat(pid, int(fields[1]), int(fields[3]), fields[0], int(fields[19]), reaped_ns)


def start_ticks(pid: int) -> int:
    """Return the start time of a process in clock ticks from boot; 0 if it does not exist."""
    row = stat(pid)
    return row.start_ticks if row else 0


def is_alive(pid: int, started_ticks: int) -> bool:
    """Return whether the process with this pid and start time still runs (a zombie does not)."""
    row = stat(pid)
    return row is not None and row.start_ticks == started_ticks and row.state not in "ZX"


def own_pid(pid: int) -> int:
    """Return a process's pid as it sees it itself: inside a container often 1; 0 if it does not exist."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[-1]) for line in lines if line.startswith("NSpid:")), pid)


def all_pids() -> list[int]:
    """Return every pid that this user can see."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def process_tree() -> Tree:
    """Return the living children of every process that has any; reads all of /proc once."""
    children: Tree = {}
    for pid in all_pids():
        row = stat(pid)
        if row and row.state not in "ZX":
            children.setdefault(row.parent, []).append(pid)
    return children


def descendants(pid: int, known: Tree | None = None) -> list[int]:
    """Return the living descendants of a process, without itself.

    `known`: a current `process_tree`; None reads it.
    """
    children = process_tree() if known is None else known
    result, todo = [], [pid]
    while todo:
        for child in children.get(todo.pop(), []):
            result.append(child)
            todo.append(child)
    return result


def yield_to_others(pid: int, nice: int) -> bool:
    """Lower the weight of a process's scheduler group (autogroup): `nice` 1 to 19, which needs no privilege.

    Returns False if the kernel has no such groups, or if it refuses because of its rate limit for these
    changes.
    """
    try:
        Path(f"/proc/{pid}/autogroup").write_text(f"{nice}\n")
        return True
    except OSError:
        return False


def environment(pid: int) -> dict[str, str]:
    """Return the environment a process was started with; empty if it cannot be read."""
    try:
        raw = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return {}
    pairs = [item.partition(b"=") for item in raw.split(b"\0") if b"=" in item]
    return {key.decode(errors="replace"): value.decode(errors="replace") for key, _, value in pairs}


def escaped(pid_file: Path, lab_id: str, node: str) -> list[int]:
    """Return the pid in the first line of `pid_file` if that process belongs to this lab and node.

    Else [].
    """
    try:
        pid = int(pid_file.read_text().split("\n")[0])
    except (OSError, ValueError):
        return []
    env = environment(pid)
    return [pid] if (env.get("TWEETLAB_LAB"), env.get("TWEETLAB_NODE")) == (lab_id, node) else []


def cpu_ns(pid: int) -> int:
    """Return the CPU time of a process in ns, exited threads included; 0 if it does not exist."""
    with contextlib.suppress(OSError):
        return time.clock_gettime_ns((~pid << 3) | 2)  # CPUCLOCK_SCHED of the whole process, see clock_getcpuclockid(3)
    return 0


def tree_cpu_ns(pid: int, known: Tree | None = None) -> int:
    """Return the CPU time, in ns, of a process and its descendants.

    The part of exited children has a resolution of one tick. `known`: as for `descendants`.
    """
    total = 0
    for member in (pid, *descendants(pid, known)):
        row = stat(member)
        total += cpu_ns(member) + (row.reaped_cpu_ns if row else 0)
    return total


def rss_bytes(pids: Iterable[int]) -> int:
    """Return the resident memory of processes that share pages with each other.

    Private memory is summed. Of file-backed and of shared memory only the largest value counts; otherwise the
    shared buffers of PostgreSQL would count once per session.
    """
    private = shared_file = shared_memory = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        except OSError:
            continue
        kib = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.startswith("Rss")}
        private += kib.get("RssAnon", 0)
        shared_file = max(shared_file, kib.get("RssFile", 0))
        shared_memory = max(shared_memory, kib.get("RssShmem", 0))
    return (private + shared_file + shared_memory) * 1024


def kill_all(targets: Iterable[tuple[int, int]], patience_s: float = 5.0) -> list[int]:
    """SIGKILL these (pid, start ticks) and wait up to `patience_s` until they are dead.

    Returns the pids that are still alive.
    """
    wanted = [(pid, started) for pid, started in targets if is_alive(pid, started)]
    for pid, _ in wanted:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline and any(is_alive(pid, started) for pid, started in wanted):
        time.sleep(0.01)
    return [pid for pid, started in wanted if is_alive(pid, started)]
