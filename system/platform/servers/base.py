"""The interface of every server module: how to launch a node, and whether it is healthy."""

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
from system.platform.install import packages, programs
from system.platform.install.packages import Package
from system.platform.install.programs import Programs
from system.platform.paths import Paths

# The jars' checksums were verified when they were fetched; verifying each class again costs 0.6-0.9 s of CPU
# per start.
UNVERIFIED = ("-XX:+UnlockDiagnosticVMOptions", "-XX:-BytecodeVerificationRemote")


@dataclass(frozen=True)
class Context:
    """Everything that a launch may depend on.

    `env`: the caller's environment for our services. `programs`: where the node's programs are.
    """

    node: Node
    blueprint: Blueprint
    plan: Plan
    paths: Paths
    env: Mapping[str, str] = field(default_factory=dict)
    programs: Programs = programs.HOST

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
        """CIDR blocks that the lab's own processes connect from: loopback, its bridge network or its regions."""
        regions = wan.NAMES if self.blueprint.in_regions else ()
        own = [self.plan.network()] if self.plan.bridge else []
        return ["127.0.0.0/8", *own, *(self.plan.network(region) for region in regions)]

    def addresses(self, kind: str) -> list[str]:
        """Return `host:port` of every node of `kind` in the blueprint."""
        return [self.plan.of(node.kind, node.instance, node.region) for node in self.blueprint.of_kind(kind)]

    def near(self, kind: str) -> list[str]:
        """Return the same as `addresses`, with the node's own zone first."""
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

    `files`: rendered configuration, path to text. `folders`: directories, created if absent.
    `stale`: files that a killed predecessor leaves and that would break a start; removed first.
    `harvest`: (source, destination): a file that a graceful stop leaves is moved to its destination.
    `escapes`: a file whose first line is the pid of a further process of the node, which leaves its parent's
    process tree.
    `drops_root`: it runs as an unprivileged user if the lab runs as root.
    `stop_timeout_s`: time from `stop_signal` to SIGKILL.
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
        """The longest time until a node of this kind is healthy."""

    def launch(self, ctx: Context) -> Launch:
        """Return how to start the node. Raises CouldNotRun if a program is missing."""

    async def probe(self, ctx: Context) -> str:
        """Return what a healthy node answered.

        Raises health.Unhealthy, with its last answer, if it is not healthy.
        """

    def version(self) -> str:
        """Return the server's version; "" if it is not known."""


def base_env(ctx: Context) -> dict[str, str]:
    """Return the base environment of every child; the lab's id in it lets orphan cleanup find the process."""
    path = ctx.programs.search_path()
    return {
        **({"PATH": path} if path else {}),
        "LANG": "C.UTF-8",
        "HOME": str(ctx.paths.data_dir / ctx.node.name),
        "MALLOC_ARENA_MAX": "2",  # otherwise glibc gives each thread an arena of 64 MiB of address space
        "TWEETLAB_LAB": ctx.paths.lab_id,
        "TWEETLAB_NODE": ctx.node.name,
    }


def jvm_flags(node: Node) -> list[str]:
    """Return the JVM flags for the blueprint's row: heap, collector, processors."""
    running = node.running
    flags = ["-Xshare:auto", "-XX:-UsePerfData", "-XX:+ExitOnOutOfMemoryError"]
    if running.heap_mib:
        flags += [f"-Xms{running.heap_mib}m", f"-Xmx{running.heap_mib}m"]
    if running.gc:
        flags.append(f"-XX:+Use{running.gc}GC")
    if running.processors:
        flags.append(f"-XX:ActiveProcessorCount={running.processors}")
    return flags


def class_archive(ctx: Context, package: packages.Maven) -> tuple[list[str], tuple[tuple[Path, Path], ...]]:
    """Return JVM flags for a class-data sharing archive, and what to harvest.

    The first graceful stop of a server writes the archive next to its jars; later starts map it instead of
    parsing and verifying some ten thousand classes: Cassandra starts with 7.5 s of CPU instead of 10-11.7,
    Kafka with 3.4 instead of 4.1 (2 cores). Each Java version has its own archive file; the JVM ignores one
    that does not match.
    """
    if not ctx.programs.writable:
        return [], ()
    home = ctx.programs.home(package)
    digest = hashlib.sha256(f"{packages.require_java()} {packages.java_version()}".encode()).hexdigest()[:10]
    archive = home / f"classes-{digest}.jsa"
    if archive.exists():
        return [f"-XX:SharedArchiveFile={archive}"], ()
    if not os.access(home, os.W_OK):
        return [], ()
    part = home / f".{archive.name}.{ctx.paths.lab_id}.part"
    return [f"-XX:ArchiveClassesAtExit={part}"], ((part, archive),)
