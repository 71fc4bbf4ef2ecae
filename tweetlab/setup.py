"""Gets the servers: the distribution's packages as root, the rest into the user's cache. `make servers` calls it.

Runs on the standard library alone, so that it can work beside the installation of the environment. What is
there already is left alone: a second call takes a moment. Each step is one line of progress.

Packages of servers start their daemons on installation unless told not to: a policy keeps them from it while
we install, and afterwards the services of the packages that *we* installed are disabled.
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
POLICY_TEXT = "#!/bin/sh\n# Placed by tweetlab's set-up while it installs packages, then removed: nothing may start.\nexit 101\n"
SERVICES = {  # package -> the services it brings
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
BUILD_TOOLS = {"mvn": "maven"}  # program -> package, needed only while something is to be fetched


async def servers(say: Say, further: tuple[packages.Package, ...] = (), required: bool = True) -> None:
    """Install and fetch what is missing of PACKAGES and of `further`.

    With `required` False the distribution's packages of `further` that this machine cannot have (no root, not offered) are
    left out, each with a line that says so. Raises CouldNotRun that lists every other failure and how to fix it.
    """
    began = time.monotonic()

    def progress(name: str, text: str) -> None:
        say(f"{name:<14} {text}")

    optional = set() if required else {each for each in further if isinstance(each, Debian)} - set(packages.PACKAGES)
    wanted = tuple(dict.fromkeys(packages.PACKAGES + further))
    to_build = [each.name for each in wanted if isinstance(each, Go) and packages.missing(each)]
    if to_build:
        progress("servers", f"to compile with Go, once: {' and '.join(to_build)}; about "
                            f"{fetch.COMPILING_MIN * len(to_build)} min on 2 cores")
    fetched = [package for package in wanted if isinstance(package, Maven | Go)]
    system = asyncio.ensure_future(_install_telling(missing_system_packages(wanted), progress, optional))
    gone = await asyncio.gather(
        system, *(_after_its_tools(package, system, progress) for package in fetched), return_exceptions=True
    )
    packages.java.cache_clear()
    packages.java_version.cache_clear()
    failures = list(dict.fromkeys(str(problem) for problem in gone if isinstance(problem, LabError)))
    unexpected = [problem for problem in gone if isinstance(problem, BaseException) and not isinstance(problem, LabError)]
    if unexpected:
        raise unexpected[0]
    if failures:
        raise CouldNotRun("\n".join(failures))
    progress("servers", f"all are there after {time.monotonic() - began:.0f} s")


def missing_system_packages(of: tuple[packages.Package, ...] = packages.PACKAGES) -> list[str]:
    """Return the names of the distribution's packages that are missing here, in order."""
    wanted = [each.package for each in of if isinstance(each, Debian) and packages.missing(each)]
    to_resolve = any(isinstance(each, Maven) and packages.missing(each) for each in of)
    if packages.java() is None:
        wanted.append(f"openjdk-{packages.JAVA_MAJOR}-jre-headless")
    if to_resolve:
        wanted += [package for program, package in BUILD_TOOLS.items() if packages.find(program) is None]
    return list(dict.fromkeys(wanted))


async def install(names: list[str], progress: fetch.Progress, optional: Set[Debian] = frozenset()) -> None:
    """Install packages of the distribution; of `optional` those that this machine can have.

    Raises CouldNotRun with the one command where that needs another user.
    """
    apt = packages.find("apt-get")
    if names and apt and os.geteuid() == 0:
        with contextlib.suppress(CouldNotRun):  # old lists may do; if not, the installation says why
            await fetch.run("packages", "reading the package lists", [apt, "-q", "update"], progress, cwd=Path("/"))
    names = _possible(names, progress, optional)
    if not names:
        progress("packages", "of the distribution are installed")
        return
    command = f"apt-get install --no-install-recommends {' '.join(names)}"
    if apt is None:
        raise CouldNotRun(f"These packages are missing and this is neither Debian nor Ubuntu; install them: {' '.join(names)}")
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
    """Return `names` without what is optional and cannot be had here; one line for each that is left out."""
    out_of_reach = {each.package for each in optional if each.package in names and packages.is_out_of_reach(each)}
    reason = "the distribution does not offer it" if os.geteuid() == 0 else "installing it needs root"
    for name in sorted(out_of_reach):
        progress("packages", f"{name} is left out: {reason}")
    return [name for name in names if name not in out_of_reach]


async def _install_telling(names: list[str], progress: fetch.Progress, optional: Set[Debian]) -> None:
    """Install, and report a failure immediately: the rest is fetched in the meantime, and that may take minutes."""
    try:
        await install(names, progress, optional)
    except CouldNotRun as problem:
        progress("packages", problem.detail)
        raise


@contextlib.contextmanager
def nothing_may_start(policy: Path = POLICY) -> Iterator[None]:
    """Keep packages from starting their services inside this block; what stood there before is put back."""
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
    """Take these services out of the machine's start; says so for each."""
    systemctl = packages.find("systemctl")
    for service in services:
        command = [systemctl, "disable", service] if systemctl else ["update-rc.d", service, "disable"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        trouble = done.stderr.strip()[-200:]
        told = "is not started with the machine" if done.returncode == 0 else f"could not be disabled: {trouble}"
        progress("packages", f"service {service} {told}")


def _forbids(policy: Path) -> bool:
    if not policy.stat().st_mode & stat.S_IXUSR:
        return False
    asked = subprocess.run([str(policy), "redis-server", "start"], capture_output=True, check=False, timeout=10)
    return asked.returncode == 101


async def _after_its_tools(package: Maven | Go, system: asyncio.Future[None], progress: fetch.Progress) -> None:
    """Fetch a package as soon as its tool is there: Maven may have to be installed first, Go need not."""
    if isinstance(package, Maven) and packages.missing(package) and packages.find("mvn") is None:
        await asyncio.wait([system])
    await fetch.fetch(package, progress)


def main() -> int:
    """Fetch everything (with `--observe` what observes, too; with `--tests` what the tests use), each step a line on stderr."""
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {text}", file=sys.stderr, flush=True)

    further = packages.TESTS if "--tests" in sys.argv[1:] else packages.OBSERVING if "--observe" in sys.argv[1:] else ()
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
