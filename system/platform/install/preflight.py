"""Checks before a start: programs, disk, memory, ports. Each error names the value, the limit and the fix."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import socket
from pathlib import Path

from system.kernel import numbers
from system.kernel.errors import CouldNotRun, WrongInput
from system.platform.addresses import Plan
from system.platform.blueprint import Blueprint, Node
from system.platform.install import packages
from system.platform.paths import Paths
from system.platform.servers import SERVERS

DEFAULT_MIN_FREE_MIB = 2048  # a fresh small lab writes about 300 MiB, a long run with 100,000 users about 1.5 GiB
MAX_SOCKET_PATH_BYTES = 107  # of a Unix socket on Linux: sun_path without its terminating zero
KEEPS_DATA = ("cassandra", "elasticsearch", "etcd", "kafka", "minio", "postgres")
JAVA_KINDS = ("cassandra", "kafka", "elasticsearch")


def check_programs(blueprint: Blueprint) -> None:
    """Raise CouldNotRun, with a list, if this machine lacks programs that the blueprint needs."""
    servers = [SERVERS[node.kind] for node in blueprint.nodes]
    wanted = {package for server in servers for package in (server.package, *getattr(server, "modules", ()))} - {None}
    wanted |= {*packages.BY_BLUEPRINT.get(blueprint.name, ())}
    lacking = [packages.missing(package) for package in wanted if package]
    lines = sorted(text for text in lacking if text)
    if any(node.kind in JAVA_KINDS for node in blueprint.nodes) and packages.java() is None:
        lines.append(f"Java {packages.JAVA_MAJOR} was not found; install openjdk-{packages.JAVA_MAJOR}-jre-headless.")
    if lines:
        raise CouldNotRun("\n".join(("Programs are missing (`make servers` fetches what it can):", *lines)))


def check_disk(paths: Paths) -> None:
    """Raise CouldNotRun if the data or the state directory has too little free space.

    TWEETLAB_MIN_FREE_MIB sets the limit.
    """
    need_mib = _min_free_mib(os.environ.get("TWEETLAB_MIN_FREE_MIB", ""))
    for folder in (paths.data_dir.parent, paths.root):
        free_mib = shutil.disk_usage(folder).free // 2**20
        if free_mib < need_mib:
            raise CouldNotRun(
                f"The disk of {folder} has {free_mib} MiB free; a lab needs {need_mib} MiB. "
                "Free some space, or lower TWEETLAB_MIN_FREE_MIB."
            )


def check_socket_path(paths: Paths) -> None:
    """Raise CouldNotRun if TWEETLAB_DATA is so deep that the supervisor's socket cannot be bound below it."""
    too_many = len(os.fsencode(paths.socket)) - MAX_SOCKET_PATH_BYTES
    if too_many > 0:
        raise CouldNotRun(
            f"The path {paths.socket} has {MAX_SOCKET_PATH_BYTES + too_many} bytes; a Unix socket takes "
            f"{MAX_SOCKET_PATH_BYTES}. Set TWEETLAB_DATA to a folder whose path is {too_many} bytes shorter."
        )


def _min_free_mib(text: str) -> int:
    if not text:
        return DEFAULT_MIN_FREE_MIB
    try:
        return numbers.parse_int(text, 0, numbers.MAX_INT)
    except ValueError:
        raise WrongInput(f"TWEETLAB_MIN_FREE_MIB is {text[:40]!r}; it must be a whole number of MiB from 0 "
                         f"to {numbers.MAX_INT}, such as {DEFAULT_MIN_FREE_MIB}.") from None


def check_memory(blueprint: Blueprint, available_mib: int | None = None) -> None:
    """Raise CouldNotRun if a lab with zones expects more memory than this machine has free, swap included.

    A lab without zones is not checked. `available_mib`: None reads /proc/meminfo.
    """
    if not any(node.zone for node in blueprint.nodes):
        return
    need_mib = sum(node.memory_mib for node in blueprint.nodes)
    free_mib = _available_mib() if available_mib is None else available_mib
    if free_mib < need_mib:
        raise CouldNotRun(
            f"The blueprint {blueprint.name!r} needs {need_mib} MiB, and {free_mib} MiB of memory and swap are free. "
            "Stop other programs, or start the blueprint `small`."
        )


def _available_mib() -> int:
    rows = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    free_kib = {row[0].rstrip(":"): int(row[1]) for row in rows}
    return (free_kib["MemAvailable"] + free_kib["SwapFree"]) // 1024


def check_layout(paths: Paths, blueprint: Blueprint) -> None:
    """Raise CouldNotRun if the data directory holds data of other members: no store could start on it."""
    if not paths.layout.exists():
        return
    before, wanted = json.loads(paths.layout.read_text()), _layout(blueprint)
    for kind in sorted(before.keys() & wanted.keys()):
        if before[kind] != wanted[kind]:
            raise CouldNotRun(
                f"{paths.data_dir} holds the data of a lab with {before[kind]} {kind}, "
                f"and {blueprint.name!r} has {wanted[kind]}. "
                "Remove the data with `tweetlab down --purge`, or use another TWEETLAB_RANGE."
            )


def keep_layout(paths: Paths, blueprint: Blueprint) -> None:
    """Record how many members of each kind have data here, and whether they are in regions."""
    before = json.loads(paths.layout.read_text()) if paths.layout.exists() else {}
    paths.layout.write_text(json.dumps(before | _layout(blueprint)))


def _layout(blueprint: Blueprint) -> dict[str, int | str]:
    members = {kind: nodes for kind in KEEPS_DATA if (nodes := blueprint.of_kind(kind))}
    # Members store the addresses of their peers, and these differ in regions.
    return {kind: f"{len(nodes)} in regions" if nodes[0].region else len(nodes) for kind, nodes in members.items()}


def check_ports(nodes: tuple[Node, ...], plan: Plan) -> None:
    """Raise CouldNotRun, with a list, if addresses are in use.

    Names the process that holds each if it is visible.
    """
    taken = []
    for node in nodes:
        if node.region or node.role == "network":
            continue  # no other process listens in the lab's own namespaces
        host = plan.host(node.kind, node.instance, node.region)
        for port in plan.ports(node.kind):
            if not _is_free(host, port):
                taken.append(f"{host}:{port} ({node.name}) is in use by {_holder(host, port)}")
    if taken:
        other = plan.range + 1 if plan.range < 250 else 1
        fix = f"Stop it, or use other addresses: TWEETLAB_RANGE={other}."
        raise CouldNotRun("\n".join((*taken, fix)))


def _is_free(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as problem:
            if problem.errno == errno.EADDRINUSE:
                return False
            raise CouldNotRun(f"{host}:{port} cannot be used on this machine: {problem.strerror}.") from problem
    return True


def _holder(host: str, port: int) -> str:
    inodes = _listeners(host, port)
    for pid in (name for name in os.listdir("/proc") if name.isdigit()):
        with contextlib.suppress(OSError):  # it exited, or belongs to another user
            if inodes & _sockets(pid):
                return f"process {pid} ({Path(f'/proc/{pid}/comm').read_text().strip()})"
    return "a process of another user"


def _sockets(pid: str) -> set[str]:
    """Return the inodes of the sockets that a process holds open."""
    inodes = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):  # closed since it was listed
            link = os.readlink(f"/proc/{pid}/fd/{fd}")
            if link.startswith("socket:["):
                inodes.add(link[8:-1])
    return inodes


def _listeners(host: str, port: int) -> set[str]:
    exact = "".join(f"{int(part):02X}" for part in reversed(host.split(".")))
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            rows = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for fields in (row.split() for row in rows):
            address, _, number = fields[1].rpartition(":")
            ours = address in (exact, "0" * 8, "0" * 32) or address.endswith(exact)
            if ours and int(number, 16) == port and fields[3] == "0A":
                inodes.add(fields[9])
    return inodes
