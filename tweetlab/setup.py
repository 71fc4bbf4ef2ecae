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
from collections.abc import Callable, Iterator
from pathlib import Path

from system.kernel.errors import CouldNotRun, LabError
from system.platform import fetch, packages
from system.platform.packages import Debian, Go, Maven

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


async def servers(say: Say, observe: bool = False, blueprint: str = "") -> None:
    """Install and fetch all that is missing; with `observe` what --observe needs too, and what `blueprint` alone needs.

    Raises CouldNotRun that lists every failure with its mend.
    """
    began = time.monotonic()

    def progress(name: str, text: str) -> None:
        say(f"{name:<14} {text}")

    wanted = packages.PACKAGES + (packages.OBSERVING if observe else ()) + packages.FURTHER.get(blueprint, ())
    fetched = [package for package in wanted if isinstance(package, Maven | Go)]
    system = asyncio.ensure_future(_install_telling(missing_system_packages(wanted), progress))
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


async def browser(say: Say) -> None:
    """Install Chromium where no browser is found. Raises CouldNotRun with the mend; tests of our pages are skipped then."""
    lacking = [] if packages.browser() else [packages.CHROMIUM.package]
    await install(lacking, lambda name, text: say(f"{name:<14} {text}"))


def missing_system_packages(of: tuple[packages.Package, ...] = packages.PACKAGES) -> list[str]:
    """Return the names of the distribution's packages that are missing here, in order."""
    wanted = [each.package for each in of if isinstance(each, Debian) and packages.missing(each)]
    to_resolve = any(isinstance(each, Maven) and packages.missing(each) for each in of)
    if packages.java() is None:
        wanted.append(f"openjdk-{packages.JAVA_MAJOR}-jre-headless")
    if to_resolve:
        wanted += [package for program, package in BUILD_TOOLS.items() if packages.find(program) is None]
    return list(dict.fromkeys(wanted))


async def install(names: list[str], progress: fetch.Progress) -> None:
    """Install packages of the distribution. Raises CouldNotRun with the one command where that needs another user."""
    if not names:
        progress("packages", "of the distribution are installed")
        return
    apt = packages.find("apt-get")
    command = f"apt-get install --no-install-recommends {' '.join(names)}"
    if apt is None:
        raise CouldNotRun(f"These packages are missing and this is neither Debian nor Ubuntu; install them: {' '.join(names)}")
    if os.geteuid() != 0:
        raise CouldNotRun(f"Packages are missing and installing them needs root; run: sudo {command}")
    progress("packages", f"installing {', '.join(names)} ({command}); their own services stay off")
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    here = Path("/")
    with nothing_may_start():
        with contextlib.suppress(CouldNotRun):  # old lists may do; if not, the installation tells why
            await fetch.run("packages", "reading the package lists", [apt, "-q", "update"], progress, cwd=here, env=env)
        await fetch.run(
            "packages", "installing", [apt, "-q", "-y", "install", "--no-install-recommends", *names], progress,
            cwd=here, env=env,
        )  # fmt: skip
        disable([service for name in names for service in SERVICES.get(name, ())], progress)


async def _install_telling(names: list[str], progress: fetch.Progress) -> None:
    """Install, and tell a failure at once: the rest is fetched meanwhile, and that may take minutes."""
    try:
        await install(names, progress)
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
    """Fetch everything (with `--observe` what observes, too; with `--browser` Chromium alone), telling each step on stderr."""
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {text}", file=sys.stderr, flush=True)

    try:
        asyncio.run(browser(say) if "--browser" in sys.argv[1:] else servers(say, "--observe" in sys.argv[1:]))
    except LabError as problem:
        print(problem.detail, file=sys.stderr)
        return problem.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
