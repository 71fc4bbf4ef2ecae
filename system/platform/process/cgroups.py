"""One control group per node: CPU accounting to the nanosecond, quota, freezing, and a path for iptables.

Both versions of cgroups are supported. v1: one mounted tree per controller (cpu, cpuacct, freezer, memory),
and a v2 tree without controllers (`unified`), which `iptables -m cgroup --path` reads; a node gets a group in
each. v2: one tree. If neither is writable (an unprivileged user), `kind` is "none": the lab runs, CPU time is
read from process clocks, and a run gets no verdict on scaling.

A process joins its groups before it opens a socket: the launcher writes its own pid to the files that `make`
returns, then execs the server.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

MOUNT = Path("/sys/fs/cgroup")
V1_CONTROLLERS = ("cpu", "cpuacct", "freezer", "memory")
TOP = "tweetlab"
# Period of the CPU quota. A quota of a fifth of a core is 4 ms in every 20 ms. With the kernel's default
# period of 100 ms a process could run for 20 ms and would then be throttled for 80 ms; a small machine has no
# such pauses.
PERIOD_US = 20_000


@dataclass(frozen=True)
class Groups:
    """The control groups of one lab.

    `bases`: the root of each tree that this user can write; empty for "none".
    """

    lab_id: str
    kind: str
    bases: tuple[Path, ...]

    def paths(self, node: str) -> list[Path]:
        """Return the directories of a node, one per tree."""
        return [base / TOP / self.lab_id / node for base in self.bases]

    def make(self, node: str, quota_cores: float | None = None) -> list[Path]:
        """Create the groups of a node and return the files that a joining process writes its pid to."""
        for path in self.paths(node):
            path.mkdir(parents=True, exist_ok=True)
            if self.kind == "v2":
                (path.parent / "cgroup.subtree_control").write_text("+cpu +memory")
        if quota_cores:
            self.set_quota(node, quota_cores)
        return [path / "cgroup.procs" for path in self.paths(node)]

    def set_quota(self, node: str, cores: float | None) -> None:
        """Limit a node to `cores` of CPU; None removes the limit."""
        quota_us = int(cores * PERIOD_US) if cores else -1
        for path in self.paths(node):
            if (path / "cpu.cfs_quota_us").exists():
                (path / "cpu.cfs_period_us").write_text(str(PERIOD_US))
                (path / "cpu.cfs_quota_us").write_text(str(quota_us))
            elif (path / "cpu.max").exists():
                (path / "cpu.max").write_text(f"{quota_us if cores else 'max'} {PERIOD_US}")

    def cpu_ns(self, node: str) -> int | None:
        """Return the CPU time, in ns, of all processes a node has had; None without accounting."""
        for path in self.paths(node):
            with contextlib.suppress(OSError, ValueError, StopIteration):
                if (path / "cpuacct.usage").exists():
                    return int((path / "cpuacct.usage").read_text())
                if (path / "cpu.stat").exists() and self.kind == "v2":
                    lines = (path / "cpu.stat").read_text().splitlines()
                    return 1000 * next(int(line.split()[1]) for line in lines if line.startswith("usage_usec"))
        return None

    def pids(self, node: str) -> list[int]:
        """Return the pids in the group of a node, including child groups, sorted."""
        pids: set[int] = set()
        for path in self.paths(node)[:1]:
            for file in (path / "cgroup.procs", *path.glob("**/cgroup.procs")):
                with contextlib.suppress(OSError):
                    pids.update(int(line) for line in file.read_text().split())
        return sorted(pids)

    def nodes(self) -> list[str]:
        """Return the nodes that have a group, including those of an earlier start, sorted."""
        names: set[str] = set()
        for base in self.bases:
            with contextlib.suppress(OSError):
                names.update(path.name for path in (base / TOP / self.lab_id).iterdir() if path.is_dir())
        return sorted(names)

    def remove(self) -> None:
        """Remove the groups of this lab.

        Waits up to 2 s, because a group becomes empty only shortly after its last process died.
        """
        deadline = time.monotonic() + 2.0
        for node in self.nodes():
            for path in self.paths(node):
                _remove(path, deadline)
        for base in self.bases:
            for path in (base / TOP / self.lab_id, base / TOP):
                with contextlib.suppress(OSError):
                    path.rmdir()


def open_groups(lab_id: str, mount: Path = MOUNT) -> Groups:
    """Return the control groups that this user can create on this machine.

    With v2 it tests this by writing, which leaves at most an empty top directory.
    """
    if (mount / "cgroup.controllers").exists():
        bases: tuple[Path, ...] = (mount,) if os.access(mount, os.W_OK) and _enable_v2(mount) else ()
        return Groups(lab_id, "v2" if bases else "none", bases)
    names = [name for name in V1_CONTROLLERS if _mounted(mount, name)]
    if "cpuacct" in names and all(os.access(mount / name, os.W_OK) for name in names):
        unified = ["unified"] if (mount / "unified" / "cgroup.procs").exists() else []
        # cpu and cpuacct may be the same mount under two names; `resolve` removes the duplicate.
        folders = list(dict.fromkeys((mount / name).resolve() for name in ["cpuacct", *names, *unified]))
        return Groups(lab_id, "v1", tuple(folders))
    return Groups(lab_id, "none", ())


def _mounted(mount: Path, name: str) -> bool:
    return (mount / name / "cgroup.procs").exists()


def _enable_v2(mount: Path) -> bool:
    """Delegate the cpu and memory controllers to our groups; False if the kernel refuses."""
    for folder in (mount, mount / TOP):
        try:
            folder.mkdir(exist_ok=True)
            (folder / "cgroup.subtree_control").write_text("+cpu +memory")
        except OSError:
            return False
    return True


def _remove(path: Path, deadline: float) -> None:
    while path.exists():
        try:
            path.rmdir()
        except OSError:
            if time.monotonic() > deadline:
                return  # a process is still in it; the next cleanup tries again
            time.sleep(0.02)
