"""Which other programs used CPU during a run: those that belong neither to the lab, nor to the run, nor to the kernel.

Threads of the kernel write back what the stores wrote, so their CPU is listed with that of the lab's processes.

A run beside other work is slower for a reason that its own samples do not show. The watch reads the CPU time of
every process on the machine now and then and keeps the ones that are not ours. Work of a process that starts and
ends between two readings is missed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from system.platform.process import procs

NAMED = 3
EVERY_S = 5.0  # between two readings, each of some milliseconds
LONGEST = 60  # characters of a command line


KERNEL = "kernel"
KTHREADD = 2  # parent of every thread of the kernel


def kernel_threads() -> list[int]:
    """Return the pids of the kernel's threads; empty in a container, which does not see them."""
    return procs.process_tree().get(KTHREADD, []) if procs.stat(KTHREADD) else []


def cpu_ns(pids: Iterable[int]) -> float:
    """Return the CPU time of these processes in ns, in steps of a clock tick each."""
    return sum(found[1] for pid in pids if (found := _cpu(pid)) is not None) * 1e9


@dataclass(frozen=True)
class Program:
    """`command`: the start of its command line. `core_s`: CPU seconds during the run."""

    command: str
    core_s: float


class Watch:
    """CPU of processes that are not ours.

    `ours`: pids that are ours with their descendants. `lab_id`: a process that carries it in its environment is ours
    too: it left the tree of the supervisor.
    """

    def __init__(self, ours: Iterable[int], lab_id: str) -> None:
        self._ours, self._lab_id = set(ours), lab_id
        self._last: dict[tuple[int, int], float] = {}
        self._used: dict[tuple[int, int], float] = {}
        self._names: dict[tuple[int, int], str] = {}
        self.read()

    def read(self) -> None:
        """Add the CPU that each foreign process has used since the last reading."""
        children = procs.process_tree()
        ours = {pid for root in self._ours for pid in (root, *procs.descendants(root, children))}
        now: dict[tuple[int, int], float] = {}
        for pid in {pid for parent, group in children.items() if parent != KTHREADD for pid in group} - ours:
            found = _cpu(pid)
            if found is None:
                continue
            start_ticks, cpu_s = found
            key = (pid, start_ticks)
            now[key] = cpu_s
            used = cpu_s - self._last.get(key, cpu_s)
            if used > 0.0:
                self._used[key] = self._used.get(key, 0.0) + used
                if key not in self._names:
                    left_tree = procs.environment(pid).get("TWEETLAB_LAB") == self._lab_id
                    self._names[key] = "" if left_tree else _command(pid)
        self._last = now

    def busiest(self) -> list[Program]:
        """Return the programs that used most, at most NAMED; instances of one command line are added up."""
        by_name: dict[str, float] = {}
        for key, used in self._used.items():
            if not self._names[key]:
                continue
            by_name[self._names[key]] = by_name.get(self._names[key], 0.0) + used
        ordered = sorted(by_name.items(), key=lambda item: -item[1])
        return [Program(name, round(used, 2)) for name, used in ordered[:NAMED]]


def _cpu(pid: int) -> tuple[int, float] | None:
    """Return (start in ticks since boot, CPU seconds, exited children excluded); None if the process is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return int(fields[19]), (int(fields[11]) + int(fields[12])) / procs.TICKS_PER_S


def _command(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        return words[:LONGEST] or f"[{Path(f'/proc/{pid}/comm').read_text().strip()}]"
    except OSError:
        return f"process {pid}"
