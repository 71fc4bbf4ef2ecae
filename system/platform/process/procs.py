"""Reads /proc: who a process is, what it holds, what it burnt. A pid alone is no identity; pid + start time is."""

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

Family = dict[int, list[int]]  # pid -> pids of its living children


@dataclass(frozen=True)
class Stat:
    """`start_ticks`: clock ticks from boot to the start. `reaped_cpu_ns`: CPU of children it has waited for."""

    pid: int
    parent: int
    session: int
    state: str
    start_ticks: int
    reaped_cpu_ns: int


def stat(pid: int) -> Stat | None:
    """Return what /proc says of a process; None where it is gone. A zombie is there, with state Z."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    reaped_ns = (int(fields[13]) + int(fields[14])) * 1_000_000_000 // TICKS_PER_S
    return Stat(pid, int(fields[1]), int(fields[3]), fields[0], int(fields[19]), reaped_ns)


def start_ticks(pid: int) -> int:
    """Return the start time of a process in clock ticks from boot; 0 where it is gone."""
    found = stat(pid)
    return found.start_ticks if found else 0


def is_alive(pid: int, started_ticks: int) -> bool:
    """Return whether this very process still runs (a zombie does not)."""
    found = stat(pid)
    return found is not None and found.start_ticks == started_ticks and found.state not in "ZX"


def all_pids() -> list[int]:
    """Return every pid of the machine that this user can see."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def family() -> Family:
    """Return the living children of every process that has some: one look at the whole of /proc."""
    children: Family = {}
    for other in all_pids():
        found = stat(other)
        if found and found.state not in "ZX":
            children.setdefault(found.parent, []).append(other)
    return children


def descendants(pid: int, known: Family | None = None) -> list[int]:
    """Return the living children of a process, and theirs, without itself. `known`: a `family` read just now; None reads it."""
    children = family() if known is None else known
    result, todo = [], [pid]
    while todo:
        for child in children.get(todo.pop(), []):
            result.append(child)
            todo.append(child)
    return result


def yield_to_others(pid: int, nice: int) -> bool:
    """Give the scheduler group (autogroup) of a process less weight: `nice` 1 to 19, for which no privilege is needed.

    Returns False where the kernel has no such groups or wants this asked less often than now.
    """
    try:
        Path(f"/proc/{pid}/autogroup").write_text(f"{nice}\n")
        return True
    except OSError:
        return False


def environment(pid: int) -> dict[str, str]:
    """Return the environment a process was started with; empty where it cannot be read."""
    try:
        raw = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return {}
    pairs = [item.partition(b"=") for item in raw.split(b"\0") if b"=" in item]
    return {key.decode(errors="replace"): value.decode(errors="replace") for key, _, value in pairs}


def escaped(pid_file: Path, lab_id: str, node: str) -> list[int]:
    """Return the pid in the first line of `pid_file`, where that process bears the marks of this lab and node; else nothing."""
    try:
        pid = int(pid_file.read_text().split("\n")[0])
    except (OSError, ValueError):
        return []
    marks = environment(pid)
    return [pid] if (marks.get("TWEETLAB_LAB"), marks.get("TWEETLAB_NODE")) == (lab_id, node) else []


def cpu_ns(pid: int) -> int:
    """Return the CPU time of a process in ns, its exited threads included; 0 where it is gone."""
    with contextlib.suppress(OSError):
        return time.clock_gettime_ns((~pid << 3) | 2)  # CPUCLOCK_SCHED of the whole process, see clock_getcpuclockid(3)
    return 0


def tree_cpu_ns(pid: int, known: Family | None = None) -> int:
    """Return the CPU time of a process and its children (`known`: as for `descendants`); of exited children to the tick."""
    total = 0
    for each in (pid, *descendants(pid, known)):
        found = stat(each)
        total += cpu_ns(each) + (found.reaped_cpu_ns if found else 0)
    return total


def rss_bytes(pids: Iterable[int]) -> int:
    """Return the resident memory of processes that share pages with each other.

    Private memory is added up; of files and shared memory the largest share counts once, so that the
    sessions of PostgreSQL do not count its buffers again and again.
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
    """SIGKILL these (pid, start ticks) and wait until they are gone; return the pids that stay."""
    wanted = [(pid, started) for pid, started in targets if is_alive(pid, started)]
    for pid, _ in wanted:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline and any(is_alive(pid, started) for pid, started in wanted):
        time.sleep(0.01)
    return [pid for pid, started in wanted if is_alive(pid, started)]
