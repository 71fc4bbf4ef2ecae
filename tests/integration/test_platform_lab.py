"""Real processes under a real supervisor: start, restart, accounting, several labs, unprivileged users.

A minimal lab represents the large one: Redis, PostgreSQL, HAProxy and an echo service.
"""

import asyncio
import dataclasses
import json
import os
import shutil
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

import pytest

from system.platform import blueprint, health, native, paths
from system.platform.blueprint import Blueprint, Node
from system.platform.install import packages
from system.platform.process import procs
from tests.helpers.requirements import requires

pytestmark = [
    pytest.mark.real,
    requires(packages.REDIS, packages.POSTGRES),
]
RANGE, NEIGHBOUR = 211, 212
SMALL = blueprint.load("small")
ECHO = Node("users-1", "users", "service", module="tests.helpers.echo_service")
QUICK = Blueprint("quick", (SMALL.of_kind("redis")[0], SMALL.of_kind("postgres")[0], SMALL.of_kind("haproxy")[0], ECHO))
REDIS_ONLY = Blueprint("quick", SMALL.of_kind("redis"))


@pytest.fixture
async def lab(tmp_path):
    """A lab whose checkout is 0700, as `mktemp -d` creates it; purged afterwards."""
    tmp_path.chmod(0o700)
    started = native.Lab(tmp_path, RANGE)
    yield started
    await started.down(purge=True)


def echo(lab, path="/env"):
    with urllib.request.urlopen(f"http://{lab.plan.of('users')}{path}", timeout=10) as answer:
        return json.loads(answer.read())


async def until(condition, what, timeout_s=15.0):
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if await condition():
            return
        await asyncio.sleep(0.05)
    pytest.fail(f"{what} did not happen within {timeout_s} s")


async def node(lab, name):
    return next(row for row in await lab.status() if row.name == name)


async def test_stores_are_prepared_before_the_first_service_starts(lab):
    """`prepare` gets healthy stores and an existing database; services start only after it."""
    observed = {}

    async def prepare(stores):
        observed.update(stores)
        await health.postgres_execute(lab.plan.of("postgres"), "tweetlab", "tweetlab", "CREATE TABLE parrots (id int)")
        observed["done_at"] = time.time()

    await lab.up(QUICK, {"TWEETLAB_POLICIES": "{}"}, prepare=prepare)

    assert observed["redis"] == "127.211.30.1:6379"
    assert echo(lab)["started_at"] > observed["done_at"]
    assert {row.name: row.health for row in await lab.status()} == {
        "redis-1": "healthy", "postgres-1": "healthy", "haproxy-1": "healthy", "users-1": "healthy",
    }  # fmt: skip
    assert echo(lab)["TWEETLAB_LISTEN"] == "127.211.101.1:8000"


async def test_every_process_has_its_own_session_and_control_group(lab):
    """Each node joins a scheduler group and an accounting group of its own before it opens a socket."""
    await lab.up(QUICK)

    rows = await lab.status()
    sessions = {procs.stat(row.pid).session for row in rows}
    groups = {Path(f"/proc/{row.pid}/cgroup").read_text() for row in rows}

    assert sessions == {row.pid for row in rows}
    if lab.accounting() == "none":
        pytest.skip("this user can make no control groups here")
    assert len(groups) == len(rows)
    assert all(f"tweetlab/{lab.paths.lab_id}/" in text for text in groups)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root drops")
async def test_as_root_postgres_runs_as_another_user_outside_a_checkout_that_only_root_may_enter(lab):
    """PostgreSQL refuses to run as root and cannot enter a 0700 directory: its files are in the data directory."""
    await lab.up(Blueprint("quick", SMALL.of_kind("postgres")))

    uid = Path(f"/proc/{(await node(lab, 'postgres-1')).pid}").stat().st_uid

    assert uid == paths.unprivileged()[0] != 0


async def test_cpu_of_an_exited_child_is_counted(lab):
    """CPU per node includes threads and children that have exited: here 0.3 s."""
    await lab.up(Blueprint("quick", (ECHO,)))
    before = (await lab.cpu_ns())["users-1"]

    await asyncio.to_thread(echo, lab, "/burn")
    burnt_s = ((await lab.cpu_ns())["users-1"] - before) / 1e9

    assert 0.29 < burnt_s < 0.8
    assert (await lab.rss_bytes())["users-1"] > 5 * 2**20


async def test_a_killed_node_is_restarted_as_a_new_process(lab):
    """Auto-heal: after SIGKILL, Redis is healthy again with another pid, counted as one restart."""
    await lab.up(REDIS_ONLY)

    killed = await lab.kill("redis-1")

    async def healed():
        row = await node(lab, "redis-1")
        return row.health == "healthy" and row.pid not in (0, killed.pid)

    await until(healed, "healing")
    assert not procs.is_alive(killed.pid, killed.start_ticks)
    assert (await node(lab, "redis-1")).restarts == 1


async def test_auto_heal_can_be_disabled_for_a_node(lab):
    """During a drill a dead node stays dead; enabling auto-heal restarts it."""
    await lab.up(REDIS_ONLY)
    await lab.auto_heal("redis-1", False)

    await lab.kill("redis-1")
    await asyncio.sleep(1.0)
    dead = await node(lab, "redis-1")
    await lab.auto_heal("redis-1", True)

    assert (dead.state, dead.health, dead.pid) == ("dead", "no process", 0)

    async def back():
        return (await node(lab, "redis-1")).health == "healthy"

    await until(back, "the return")


async def test_services_are_restarted_with_new_policies_and_stores_keep_running(lab):
    """New policies need no new lab: our services restart with them, Redis keeps its process."""
    await lab.up(QUICK, {"TWEETLAB_POLICIES": '{"old": 1}'})
    redis_before = (await node(lab, "redis-1")).pid

    await lab.restart_services({"TWEETLAB_POLICIES": '{"new": 2}'})

    assert echo(lab)["TWEETLAB_POLICIES"] == '{"new": 2}'
    assert (await node(lab, "redis-1")).pid == redis_before


async def test_stopped_services_stay_down_until_they_are_started_again(lab):
    """During a reset the stores are emptied: auto-heal starts no service, and the stores keep their processes."""
    await lab.up(QUICK, {"TWEETLAB_POLICIES": '{"old": 1}'})
    before = {row.name: (row.role, row.pid) for row in await lab.status()}

    await lab.stop_services()
    await asyncio.sleep(2.5)  # two cycles of auto-heal
    down = {row.name: row.pid for row in await lab.status()}
    await lab.restart_services({})

    services = {name for name, (role, _) in before.items() if role == "service"}
    assert services and {name for name, pid in down.items() if pid == 0} == services
    assert all(down[name] == pid for name, (_, pid) in before.items() if name not in services)
    assert echo(lab)["TWEETLAB_POLICIES"] == '{"old": 1}'


async def test_data_survive_down_and_are_removed_by_purge(lab):
    """`down` keeps the stores' data; `down --purge` removes them and the directory outside of the checkout."""
    postgres = Blueprint("quick", SMALL.of_kind("postgres"))
    where = lab.plan.of("postgres"), "tweetlab", "tweetlab"
    await lab.up(postgres)
    await health.postgres_execute(*where, "CREATE TABLE parrots (id int)")

    await lab.down()
    await lab.up(postgres)
    again = await health.postgres_execute(*where, "INSERT INTO parrots VALUES (1)")
    await lab.down(purge=True)

    assert again == "INSERT 0 1"
    assert not lab.paths.data_dir.exists()
    assert not lab.paths.state.exists()


async def test_two_labs_run_side_by_side(lab, tmp_path):
    """One environment variable changes the whole range; stopping one lab does not affect the other."""
    neighbour = native.Lab(tmp_path, NEIGHBOUR)
    try:
        await asyncio.gather(lab.up(REDIS_ONLY), neighbour.up(REDIS_ONLY))
        both = [(await node(each, "redis-1")).address for each in (lab, neighbour)]
        await lab.down()
        left = await node(neighbour, "redis-1")
    finally:
        await neighbour.down(purge=True)

    assert both == ["127.211.30.1:6379", "127.212.30.1:6379"]
    assert left.health == "healthy"


@pytest.fixture
def readable_code():
    """A copy of the system's code that every user may read: the checkout can be in a directory that only root may enter."""
    folder = Path(tempfile.mkdtemp(prefix="tweetlab-code-", dir="/var/tmp"))
    shutil.copytree(paths.CODE / "system", folder / "system", ignore=shutil.ignore_patterns("__pycache__"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_an_unprivileged_user_runs_a_lab(readable_code):
    """With the packages installed no root is needed: no control groups are created, and the lab reports that."""
    python = next((p for p in ("/usr/bin/python3", "/usr/local/bin/python3") if _is_new_enough(p)), None)
    if python is None:
        pytest.skip("no Python 3.11 or later with PyYAML that another user may enter")
    checkout = Path("/var/tmp/tweetlab-test-unprivileged")
    shutil.rmtree(checkout, ignore_errors=True)
    checkout.mkdir()
    shutil.chown(checkout, "nobody")
    checkout.chmod(0o700)
    script = (
        "import asyncio, json, pathlib, sys\n"
        "from system.platform import blueprint, native\n"
        "small = blueprint.load('small')\n"
        "async def main():\n"
        f"    lab = native.Lab(pathlib.Path({str(checkout)!r}), {RANGE})\n"
        "    await lab.up(blueprint.Blueprint('quick', small.of_kind('redis') + small.of_kind('postgres')))\n"
        "    rows = await lab.status()\n"
        "    print(json.dumps([lab.accounting(), [r.health for r in rows], (await lab.cpu_ns())['postgres-1'] > 0]))\n"
        "    await lab.down(purge=True)\n"
        "asyncio.run(main())\n"
    )
    command = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", python, "-c", script]
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(readable_code), "HOME": str(checkout), "PYTHONDONTWRITEBYTECODE": "1"}

    done = subprocess.run(command, cwd=checkout, env=env, capture_output=True, text=True, timeout=120)
    shutil.rmtree(checkout, ignore_errors=True)

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ["none", ["healthy", "healthy"], True]


def _is_new_enough(python):
    test = "import sys, yaml; sys.exit(sys.version_info < (3, 11))"  # PyYAML comes with Patroni
    return Path(python).exists() and subprocess.run([python, "-c", test], check=False).returncode == 0


async def test_extending_a_lab_of_stores_starts_only_what_is_missing(lab):
    """`up` on a running lab adds the missing nodes and does not touch the others."""
    await lab.up(dataclasses.replace(QUICK, nodes=QUICK.nodes), stores_only=True)
    before = {row.name: row.pid for row in await lab.status()}

    await lab.up(QUICK)
    after = {row.name: row.pid for row in await lab.status()}

    assert set(before) == {"redis-1", "postgres-1"}
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {"haproxy-1", "users-1"}
