"""Invalid input and failures: each is one clear error, and no partial start is left behind."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import pytest

from system.kernel.errors import CouldNotRun, WrongInput
from system.platform import blueprint, native, paths
from system.platform.blueprint import Blueprint, Node
from system.platform.install import packages
from system.platform.process import cgroups, orphan_cleanup, procs
from tests.helpers.requirements import requires

pytestmark = [
    pytest.mark.real,
    requires(packages.REDIS, packages.POSTGRES),
]
RANGE = 221
SMALL = blueprint.load("small")
REDIS = SMALL.of_kind("redis")
POSTGRES = SMALL.of_kind("postgres")
ECHO = Node("users-1", "users", "service", module="tests.helpers.echo_service")


@pytest.fixture
async def lab(tmp_path):
    started = native.Lab(tmp_path, RANGE)
    yield started
    await started.down(purge=True)


def left_behind(lab):
    """Return what a failed start must not leave: processes, control groups, the data directory."""
    groups = cgroups.open_groups(lab.paths.lab_id)
    data_dir = [str(lab.paths.data_dir)] if lab.paths.data_dir.exists() else []
    return orphan_cleanup.leftovers(lab.paths, groups) + groups.nodes() + data_dir


def call(*command):
    subprocess.run(command, check=True)


async def test_a_port_in_use_names_the_address_and_the_process_that_holds_it(lab):
    """This test holds the port: the message contains its pid and the fix."""
    with socket.create_server((f"127.{RANGE}.30.1", 6379)):
        with pytest.raises(CouldNotRun) as refused:
            await lab.up(Blueprint("quick", REDIS))

    assert f"127.{RANGE}.30.1:6379 (redis-1) is in use by process {os.getpid()}" in refused.value.detail
    assert f"TWEETLAB_RANGE={RANGE + 1}" in refused.value.detail
    assert left_behind(lab) == []


async def test_a_service_that_dies_while_starting_fails_the_start(lab):
    """The error has the exit code, the last response and the end of the node's log; the stores are stopped again."""
    with pytest.raises(CouldNotRun) as refused:
        await lab.up(Blueprint("quick", (*REDIS, ECHO)), {"TWEETLAB_ECHO_FAILS": "1"})

    message = refused.value.detail
    assert "users-1 died while starting" in message
    assert "exit code 1" in message
    assert "the echo service fails as configured: lorem ipsum" in message
    assert left_behind(lab) == []


async def test_a_configuration_that_cannot_be_written_is_an_error_of_its_node(lab):
    """A directory exists where PostgreSQL's configuration belongs: no traceback, and nothing runs."""
    (lab.paths.config("postgres-1") / "postgresql.conf").mkdir(parents=True)

    with pytest.raises(CouldNotRun, match=r"postgres-1 could not be started: .*Is a directory"):
        await lab.up(Blueprint("quick", POSTGRES))

    assert orphan_cleanup.leftovers(lab.paths, cgroups.open_groups(lab.paths.lab_id)) == []


async def test_a_missing_program_is_reported_before_anything_starts(lab, monkeypatch):
    """No process is started before the check for Redis."""
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(packages, "OUTSIDE_PATH", ())

    with pytest.raises(CouldNotRun) as refused:
        await lab.up(Blueprint("quick", REDIS))

    assert "`redis-server` is not installed; install the package redis-server." in refused.value.detail
    assert left_behind(lab) == []


async def test_too_little_free_disk_space_is_refused_with_both_numbers(lab, monkeypatch):
    """The bound is checked before the start."""
    monkeypatch.setenv("TWEETLAB_MIN_FREE_MIB", "999999999")

    with pytest.raises(CouldNotRun, match=r"has \d+ MiB free; a lab needs 999999999 MiB"):
        await lab.up(Blueprint("quick", REDIS))

    assert left_behind(lab) == []


async def test_a_data_folder_whose_path_is_too_long_for_a_socket_is_refused_before_anything_starts(lab, tmp_path, monkeypatch):
    """The kernel allows 107 bytes; the message has the path, its length and the fix."""
    deep = tmp_path / ("parrot" * 15)
    deep.mkdir()
    monkeypatch.setenv("TWEETLAB_DATA", str(deep))

    with pytest.raises(CouldNotRun, match=rf"The path {deep}\S* has \d+ bytes; a Unix socket takes 107\. Set TWEETLAB_DATA"):
        await lab.up(Blueprint("quick", REDIS))

    assert left_behind(lab) == []


@pytest.fixture
def short_folder():
    """A directory that every user may enter, with a path short enough for a socket: pytest's own is deep and 0700."""
    folder = Path(tempfile.mkdtemp(prefix="disk-", dir="/var/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
async def test_a_disk_that_fills_while_starting_is_reported_as_full(lab, short_folder, monkeypatch):
    """A PostgreSQL cluster takes 40 MB; on a disk of 16 MiB the start fails, and the error names the cause."""
    disk = short_folder
    await asyncio.to_thread(call, "mount", "-t", "tmpfs", "-o", "size=16m,mode=755", "tmpfs", str(disk))
    monkeypatch.setenv("TWEETLAB_DATA", str(disk))
    monkeypatch.setenv("TWEETLAB_MIN_FREE_MIB", "1")
    try:
        with pytest.raises(CouldNotRun, match="is full"):
            await lab.up(Blueprint("quick", POSTGRES))
        left = left_behind(lab)
    finally:
        await asyncio.to_thread(call, "umount", "-l", str(disk))

    assert left == []


async def test_an_unknown_blueprint_node_or_range_names_the_known_ones(lab):
    """The error has value, bound and fix; exit code 64."""
    with pytest.raises(WrongInput, match=r"'smal' is unknown; known are cluster, small, two_regions. Did you mean 'small'\?"):
        blueprint.load("smal")
    with pytest.raises(WrongInput, match="TWEETLAB_RANGE is 251; it must be a whole number from 1 to 250"):
        native.Lab(Path("/var/tmp"), 251)
    await lab.up(Blueprint("quick", REDIS))
    with pytest.raises(WrongInput, match="The node 'reddis-1' is unknown; known are redis-1"):
        await lab.kill("reddis-1")


async def test_after_kill_9_of_the_supervisor_the_next_start_removes_the_orphans(lab):
    """The children outlive it; the next start finds them by pid + start time and control group, ends them, and starts again."""
    await lab.up(Blueprint("quick", (*REDIS, *POSTGRES, ECHO)))
    old = {row.name: (row.pid, row.start_ticks) for row in await lab.status()}
    supervisor = orphan_cleanup.read_children(lab.paths)["supervisor"]

    os.kill(supervisor["pid"], signal.SIGKILL)
    while procs.is_alive(supervisor["pid"], supervisor["start_ticks"]):
        await asyncio.sleep(0.01)
    orphans = [procs.is_alive(*each) for each in old.values()]
    down = await lab.status()
    await lab.up(Blueprint("quick", (*REDIS, *POSTGRES, ECHO)))
    new = {row.name: row.pid for row in await lab.status()}

    assert orphans == [True, True, True]
    assert down == []
    assert [procs.is_alive(*each) for each in old.values()] == [False, False, False]
    assert set(new) == set(old)
    assert all(new[name] != old[name][0] for name in old)


async def test_down_removes_the_orphans_too(lab):
    """No later start is needed to clean up."""
    await lab.up(Blueprint("quick", REDIS))
    redis = (await lab.status())[0]
    os.kill(orphan_cleanup.read_children(lab.paths)["supervisor"]["pid"], signal.SIGKILL)

    await lab.down(purge=True)

    assert not procs.is_alive(redis.pid, redis.start_ticks)
    assert left_behind(lab) == []


async def test_a_caller_that_is_killed_during_the_start_leaves_nothing(lab, tmp_path):
    """A start is a transaction: without its commit the supervisor rolls back and exits."""
    script = textwrap.dedent(f"""
        import asyncio, pathlib
        from system.platform import blueprint, native
        async def hang(stores):
            print("preparing", flush=True)
            await asyncio.sleep(60)
        lab = native.Lab(pathlib.Path({str(tmp_path)!r}), {RANGE})
        redis = blueprint.Blueprint("quick", blueprint.load("small").of_kind("redis"))
        asyncio.run(lab.up(redis, prepare=hang))
    """)
    env = {**os.environ, "PYTHONPATH": str(paths.CODE)}
    command = [sys.executable, "-c", script]
    caller = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)  # noqa: ASYNC220
    assert caller.stdout.readline() == "preparing\n"
    redis = (await lab.status())[0]

    caller.kill()
    caller.wait()
    deadline = time.monotonic() + 10
    while await lab.status() and time.monotonic() < deadline:  # a node is removed shortly after its process ended
        await asyncio.sleep(0.05)

    assert await lab.status() == []
    assert not procs.is_alive(redis.pid, redis.start_ticks)


async def test_an_interrupted_start_leaves_nothing(lab):
    """Ctrl-C while the stores are being prepared stops them before the command returns."""
    started = asyncio.Event()

    async def hang(stores):
        started.set()
        await asyncio.sleep(60)

    task = asyncio.create_task(lab.up(Blueprint("quick", REDIS), prepare=hang))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert left_behind(lab) == []


async def test_another_blueprint_is_refused_while_a_lab_is_up(lab):
    """One lab per range: the message names both blueprints and the fix."""
    await lab.up(Blueprint("quick", REDIS))

    with pytest.raises(CouldNotRun, match=f"blueprint 'quick' is up in range {RANGE}; to start 'other' run `tweetlab down`"):
        await lab.up(Blueprint("other", REDIS))

    assert [row.health for row in await lab.status()] == ["healthy"]


async def test_an_error_of_prepare_leaves_nothing(lab):
    """The exception propagates unchanged after everything was stopped."""

    async def stumble(stores):
        raise ZeroDivisionError("lorem ipsum")

    with pytest.raises(ZeroDivisionError, match="lorem ipsum"):
        await lab.up(Blueprint("quick", REDIS + POSTGRES), prepare=stumble)

    assert left_behind(lab) == []
    assert not await lab.is_up()
