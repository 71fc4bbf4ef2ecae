"""Installs the servers: the distribution's packages as root, the rest into the user's cache.

`make servers` calls it.

Uses only the standard library, so that it can run while the Python environment is being installed. What is
already installed is left alone, so a second call is quick. Each step is one line of progress.

Server packages start their daemons on installation by default. A policy prevents that during the
installation; afterwards, the services of the packages that were installed here are disabled.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Set
from pathlib import Path

from system.kernel.errors import CouldNotRun, LabError
from system.platform.install import fetch, packages
from system.platform.install.packages import Debian, Go, Maven

Say = Callable[[str], None]

POLICY = Path("/usr/sbin/policy-rc.d")
POLICY_TEXT = "#!/bin/sh\n# Created by tweetlab during an installation, then removed: no service may start.\nexit 101\n"
SERVICES = {  # package -> the services that it installs
    "redis-server": ("redis-server",),
    "redis-sentinel": ("redis-sentinel",),
    "postgresql": ("postgresql",),
    "haproxy": ("haproxy",),
    "nginx-light": ("nginx",),
    "prometheus": ("prometheus",),
    "prometheus-alertmanager": ("prometheus-alertmanager",),
    "rsyslog": ("rsyslog",),
    "etcd-server": ("etcd",),
    "patroni": ("patroni",),
    "pdns-server": ("pdns",),
}
BUILD_TOOLS = {"mvn": "maven"}  # program -> package, needed only while something must be downloaded


async def servers(say: Say, further: tuple[packages.Package, ...] = (), required: bool = True) -> None:
    """Install what is missing of PACKAGES and of `further`.

    With `required` False, the distribution's packages of `further` that cannot be installed here (no root,
    not offered) are left out, with one line each. Raises CouldNotRun that lists every other failure and its
    fix.
    """
    began = time.monotonic()

    def progress(name: str, text: str) -> None:
        say(f"{name:<14} {text}")

    optional = set() if required else {package for package in further if isinstance(package, Debian)} - set(packages.PACKAGES)
    wanted = tuple(dict.fromkeys(packages.PACKAGES + further))
    to_build = [package.name for package in wanted if isinstance(package, Go) and packages.missing(package)]
    if to_build:
        progress("servers", f"compiling with Go, once: {' and '.join(to_build)}; about "
                            f"{fetch.COMPILING_MIN * len(to_build)} min on 2 cores")
    fetched = [package for package in wanted if isinstance(package, Maven | Go)]
    system = asyncio.ensure_future(_install_reporting(missing_system_packages(wanted), progress, optional))
    results = await asyncio.gather(
        system, *(_after_its_tools(package, system, progress) for package in fetched), return_exceptions=True
    )
    packages.java.cache_clear()
    packages.java_version.cache_clear()
    failures = list(dict.fromkeys(str(problem) for problem in results if isinstance(problem, LabError)))
    unexpected = [problem for problem in results if isinstance(problem, BaseException) and not isinstance(problem, LabError)]
    if unexpected:
        raise unexpected[0]
    if failures:
        raise CouldNotRun("\n".join(failures))
    progress("servers", f"all are installed after {time.monotonic() - began:.0f} s")


def missing_system_packages(of: tuple[packages.Package, ...] = packages.PACKAGES) -> list[str]:
    """Return the names of the distribution's packages that are missing here, in order."""
    wanted = [package.package for package in of if isinstance(package, Debian) and packages.missing(package)]
    to_resolve = any(isinstance(package, Maven) and packages.missing(package) for package in of)
    if packages.java() is None:
        wanted.append(f"openjdk-{packages.JAVA_MAJOR}-jre-headless")
    if to_resolve:
        wanted += [package for program, package in BUILD_TOOLS.items() if packages.find(program) is None]
    return list(dict.fromkeys(wanted))


async def install(names: list[str], progress: fetch.Progress, optional: Set[Debian] = frozenset()) -> None:
    """Install packages of the distribution; those of `optional` only if this machine can install them.

    Raises CouldNotRun that names the command to run if this user may not install packages.
    """
    apt = packages.find("apt-get")
    if names and apt and os.geteuid() == 0:
        with contextlib.suppress(CouldNotRun):  # outdated lists may suffice; if not, the installation reports why
            await fetch.run("packages", "reading the package lists", [apt, "-q", "update"], progress, cwd=Path("/"))
    names = _possible(names, progress, optional)
    if not names:
        progress("packages", "of the distribution are installed")
        return
    command = f"apt-get install --no-install-recommends {' '.join(names)}"
    if apt is None:
        raise CouldNotRun(f"This is neither Debian nor Ubuntu, and packages are missing. To fix: install {' '.join(names)}")
    if os.geteuid() != 0:
        raise CouldNotRun(f"Packages are missing and installing them needs root; run: sudo {command}")
    progress("packages", f"installing {', '.join(names)} ({command}); their own services stay off")
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with nothing_may_start():
        await fetch.run(
            "packages", "installing", [apt, "-q", "-y", "install", "--no-install-recommends", *names], progress,
            cwd=Path("/"), env=env,
        )  # fmt: skip
        disable([service for name in names for service in SERVICES.get(name, ())], progress)


def _possible(names: list[str], progress: fetch.Progress, optional: Set[Debian]) -> list[str]:
    """Return `names` without optional packages that cannot be installed here; report each that is left out."""
    out_of_reach = {package.package for package in optional
                    if package.package in names and packages.cannot_be_installed(package)}
    reason = "the distribution does not offer it" if os.geteuid() == 0 else "installing it needs root"
    for name in sorted(out_of_reach):
        progress("packages", f"{name} is skipped: {reason}")
    return [name for name in names if name not in out_of_reach]


async def _install_reporting(names: list[str], progress: fetch.Progress, optional: Set[Debian]) -> None:
    """Install, and report a failure immediately: the downloads that run at the same time may take minutes."""
    try:
        await install(names, progress, optional)
    except CouldNotRun as problem:
        progress("packages", problem.detail)
        raise


@contextlib.contextmanager
def nothing_may_start(policy: Path = POLICY) -> Iterator[None]:
    """Prevent packages from starting their services inside this block; restore the previous policy afterwards."""
    if policy.exists() and _forbids(policy):
        yield
        return
    before = policy.read_text() if policy.exists() else None
    policy.write_text(POLICY_TEXT)
    policy.chmod(0o755)
    try:
        yield
    finally:
        if before is None:
            policy.unlink()
        else:
            policy.write_text(before)


def disable(services: list[str], progress: fetch.Progress) -> None:
    """Disable these services at boot; report each."""
    systemctl = packages.find("systemctl")
    for service in services:
        command = [systemctl, "disable", service] if systemctl else ["update-rc.d", service, "disable"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        trouble = done.stderr.strip()[-200:]
        outcome = "is disabled at boot" if done.returncode == 0 else f"could not be disabled: {trouble}"
        progress("packages", f"service {service} {outcome}")


def _forbids(policy: Path) -> bool:
    if not policy.stat().st_mode & stat.S_IXUSR:
        return False
    reply = subprocess.run([str(policy), "redis-server", "start"], capture_output=True, check=False, timeout=10)
    return reply.returncode == 101


async def _after_its_tools(package: Maven | Go, system: asyncio.Future[None], progress: fetch.Progress) -> None:
    """Download a package as soon as its tool is available: Maven may have to be installed first, Go not."""
    if isinstance(package, Maven) and packages.missing(package) and packages.find("mvn") is None:
        await asyncio.wait([system])
    await fetch.fetch(package, progress)


def main() -> int:
    """Install everything, each step a line on stderr.

    `--observe`: also the observability stack; `--tests`: also test tools.
    """
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {text}", file=sys.stderr, flush=True)

    further = packages.TESTS if "--tests" in sys.argv[1:] else packages.OBSERVABILITY if "--observe" in sys.argv[1:] else ()
    try:
        asyncio.run(servers(say, further, required="--tests" not in sys.argv[1:]))
    except LabError as problem:
        print(problem.detail, file=sys.stderr)
        return problem.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
