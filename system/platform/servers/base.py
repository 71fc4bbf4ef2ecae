"""What every server module answers: how to launch a node of its kind, and whether that node is well."""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from system.kernel import wan
from system.platform.addresses import Plan
from system.platform.blueprint import Blueprint, Node
from system.platform.install import packages
from system.platform.install.packages import Package
from system.platform.paths import Paths

# The jars' checksums were verified when they were fetched; verifying each class again costs 0.6-0.9 s of CPU a start.
UNVERIFIED = ("-XX:+UnlockDiagnosticVMOptions", "-XX:-BytecodeVerificationRemote")


@dataclass(frozen=True)
class Context:
    """All that a launch may depend on. `env`: what the caller hands to our services."""

    node: Node
    blueprint: Blueprint
    plan: Plan
    paths: Paths
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def host(self) -> str:
        return self.plan.host(self.node.kind, self.node.instance, self.node.region)

    @property
    def address(self) -> str:
        return self.plan.of(self.node.kind, self.node.instance, self.node.region)

    @property
    def data(self) -> Path:
        return self.paths.data(self.node.name)

    @property
    def config(self) -> Path:
        return self.paths.config(self.node.name)

    @property
    def networks(self) -> list[str]:
        """CIDR blocks from where the lab's own processes ask: loopback, and its regions where it has some."""
        regions = wan.NAMES if self.blueprint.in_regions else ()
        return ["127.0.0.0/8", *(self.plan.network(region) for region in regions)]

    def addresses(self, kind: str) -> list[str]:
        """Return `host:port` of every node of `kind` in the blueprint."""
        return [self.plan.of(node.kind, node.instance, node.region) for node in self.blueprint.of_kind(kind)]

    def near(self, kind: str) -> list[str]:
        """Return the same, those of the node's own zone first."""
        nodes = sorted(self.blueprint.of_kind(kind), key=lambda node: node.zone != self.node.zone)
        return [self.plan.of(node.kind, node.instance, node.region) for node in nodes]


@dataclass(frozen=True)
class Step:
    """A command that runs to its end before the server starts, unless `unless` exists already.

    It runs as the server's user, or with `as_lab_owner` as the user of the lab.
    """

    argv: tuple[str, ...]
    unless: Path
    env: Mapping[str, str] = field(default_factory=dict)
    as_lab_owner: bool = False


@dataclass(frozen=True)
class Launch:
    """How one node starts.

    `files`: rendered configuration, path to text. `folders`: created empty if absent.
    `stale`: what a killed predecessor leaves and a start would stumble over; removed, since nothing of it lives.
    `harvest`: (made, kept): what a gentle end leaves at `made` is kept at `kept`.
    `escapes`: a file whose first line is the pid of a further process of the node, which leaves the tree of its starter.
    `drops_root`: it runs as an unprivileged user when the lab is root's.
    `stop_timeout_s`: how long after `stop_signal` it is killed.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[Path, str] = field(default_factory=dict)
    folders: tuple[Path, ...] = ()
    stale: tuple[Path, ...] = ()
    harvest: tuple[tuple[Path, Path], ...] = ()
    escapes: Path | None = None
    before: tuple[Step, ...] = ()
    cwd: Path | None = None
    drops_root: bool = False
    stop_signal: int = signal.SIGTERM
    stop_timeout_s: float = 10.0


class Server(Protocol):
    """One kind of server."""

    @property
    def package(self) -> Package | None:
        """What must be installed; None for our own services."""

    @property
    def start_timeout_s(self) -> float:
        """How long a node of this kind may take until it is well."""

    def launch(self, ctx: Context) -> Launch:
        """Return how to start the node. Raises CouldNotRun where a program is missing."""

    async def probe(self, ctx: Context) -> str:
        """Return what a well node answered. Raises health.Unhealthy with its last answer otherwise."""

    def version(self) -> str:
        """Return the server's version; "" where it cannot be told."""


def base_env(ctx: Context) -> dict[str, str]:
    """Return the environment every child starts from; its lab's mark lets a sweep find it."""
    path = os.pathsep.join((os.environ.get("PATH", "/usr/bin:/bin"), *packages.OUTSIDE_PATH))
    return {
        "PATH": path,
        "LANG": "C.UTF-8",
        "HOME": str(ctx.paths.data_dir / ctx.node.name),
        "MALLOC_ARENA_MAX": "2",  # glibc gives each thread an arena of 64 MiB of address space otherwise
        "TWEETLAB_LAB": ctx.paths.lab_id,
        "TWEETLAB_NODE": ctx.node.name,
    }


def jvm_flags(node: Node) -> list[str]:
    """Return the flags that the blueprint's row asks for: heap, collector, processors."""
    running = node.running
    flags = ["-Xshare:auto", "-XX:-UsePerfData", "-XX:+ExitOnOutOfMemoryError"]
    if running.heap_mib:
        flags += [f"-Xms{running.heap_mib}m", f"-Xmx{running.heap_mib}m"]
    if running.gc:
        flags.append(f"-XX:+Use{running.gc}GC")
    if running.processors:
        flags.append(f"-XX:ActiveProcessorCount={running.processors}")
    return flags


def class_path(package: packages.Maven) -> str:
    """Return the class path of a package of jars."""
    return f"{packages.home(package)}/lib/*"


def class_archive(ctx: Context, package: packages.Maven) -> tuple[list[str], tuple[tuple[Path, Path], ...]]:
    """Return JVM flags for a shared archive of loaded classes, and what to harvest.

    The first gentle end of a server writes the archive beside its jars; later starts map it instead of parsing and
    verifying some ten thousand classes: Cassandra starts with 7.5 s of CPU instead of 10-11.7, Kafka with 3.4
    instead of 4.1 (2 cores). An archive of another Java is another file; one that does not fit is ignored.
    """
    home = packages.home(package)
    digest = hashlib.sha256(f"{packages.need_java()} {packages.java_version()}".encode()).hexdigest()[:10]
    archive = home / f"classes-{digest}.jsa"
    if archive.exists():
        return [f"-XX:SharedArchiveFile={archive}"], ()
    if not os.access(home, os.W_OK):
        return [], ()
    part = home / f".{archive.name}.{ctx.paths.lab_id}.part"
    return [f"-XX:ArchiveClassesAtExit={part}"], ((part, archive),)
