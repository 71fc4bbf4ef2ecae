"""Instances that are added, removed, fail and hang, on the real HAProxy under load.

A minimal lab: HAProxy and one service with keep-alive (`tests.helpers.busy_service`), run by the supervisor.
"""

import asyncio
import collections
import contextlib
import os
import signal
import time

import aiohttp
import pytest

from system.kernel import policies
from system.kernel.errors import WrongInput
from system.platform import blueprint, native
from system.platform.blueprint import Blueprint, Node
from system.platform.install import packages
from system.platform.process import procs
from system.platform.scaling import haproxy_runtime
from tests.helpers.requirements import requires

pytestmark = [
    pytest.mark.real,
    requires(packages.HAPROXY),
]
RANGE = 220
BUSY = Node("users-1", "users", "service", module="tests.helpers.busy_service")
WORKER = Node("fanout-1", "fanout", "service", module="tests.helpers.busy_service")
QUICK = Blueprint("quick", (blueprint.load("small").of_kind("haproxy")[0], BUSY, WORKER))
QUOTA = 0.1


@pytest.fixture
async def lab(tmp_path):
    """A minimal lab that is up; purged afterwards."""
    started = native.Lab(tmp_path, RANGE)
    await started.up(QUICK)
    yield started
    await started.down(purge=True)


class LoadResult:
    """The results of clients with keep-alive connections. `bad`: responses other than 200, and errors."""

    def __init__(self):
        self.by_instance = collections.Counter()
        self.bad = []
        self.took_s = []

    async def ask(self, session, url):
        began = time.monotonic()
        try:
            async with session.get(url) as answer:
                body = await answer.json(content_type=None)
                if answer.status == 200:
                    self.by_instance[body["instance"]] += 1
                else:
                    self.bad.append((answer.status, body))
        except (aiohttp.ClientError, TimeoutError) as problem:
            self.bad.append(repr(problem))
        self.took_s.append(time.monotonic() - began)


@contextlib.asynccontextmanager
async def crowd(lab, path, clients=6, pause_s=0.005):
    """Let `clients` request `path` in closed loops until the block ends."""
    load, url, stop = LoadResult(), f"http://{lab.plan.host('haproxy')}:8101{path}", asyncio.Event()

    async def one(session):
        while not stop.is_set():
            await load.ask(session, url)
            await asyncio.sleep(pause_s)

    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
        tasks = [asyncio.create_task(one(session)) for _ in range(clients)]
        try:
            yield load
        finally:
            stop.set()
            await asyncio.gather(*tasks)


async def until(condition, what, timeout_s=15.0):
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if await condition():
            return
        await asyncio.sleep(0.05)
    pytest.fail(f"{what} did not happen within {timeout_s} s")


async def node(lab, name):
    return next((row for row in await lab.status() if row.name == name), None)


def decided(report, word):
    return [row for row in report["decisions"] if word in row["what"]]


async def test_scaling_out_and_in_under_load_fails_no_request(lab):
    """1 -> 3 -> 1 with six clients: all three instances serve, no request fails, nothing of the removed two remains."""
    async with crowd(lab, "/work?ms=2") as clients:
        await lab.scale("users", 3)
        clients.by_instance.clear()
        await asyncio.sleep(1.0)
        spread = dict(clients.by_instance)
        await lab.scale("users", 1)
        clients.by_instance.clear()
        await asyncio.sleep(0.5)

    assert clients.bad == [] and len(clients.took_s) > 200
    assert set(spread) == {"users-1", "users-2", "users-3"}
    assert set(clients.by_instance) == {"users-1"}
    assert {row.name for row in await lab.status()} == {"haproxy-1", "users-1", "fanout-1"}


async def test_a_removed_instance_drains_its_requests(lab):
    """Requests of 1.5 s that started before the removal are answered by the instance that is removed."""
    await lab.scale("users", 2)
    async with crowd(lab, "/wait?ms=1500", clients=8, pause_s=0.0) as clients:
        await asyncio.sleep(0.3)
        began = time.monotonic()
        await lab.scale("users", 1)
        took_s = time.monotonic() - began

    assert clients.bad == [] and clients.by_instance["users-2"] >= 1
    assert took_s > 0.5


async def test_load_scales_out_and_its_end_scales_in(lab):
    """The autoscaler with a CPU quota of 0.1 core: no request fails either way, and every change states its reason."""
    if lab.accounting() == "none":
        pytest.skip("this user can make no control groups here")
    knobs = policies.AutoscaleKnobs(max=3, cool_down_s=1.0, calm_s=1.0)
    await lab.set_scaling(policies.Policies(autoscale=knobs), QUOTA)

    async def has(count):
        return (await lab.scaling())["instances"]["users"] == count

    async with crowd(lab, "/work?ms=4", clients=3, pause_s=0.02) as clients:
        await until(lambda: has(3), "the third instance")
    async with crowd(lab, "/wait?ms=1", clients=1, pause_s=0.1) as quiet:
        await until(lambda: has(1), "the way back to one instance")
    said = [row for row in (await lab.scaling())["decisions"] if "->" in row["what"]]

    assert clients.bad == [] and quiet.bad == []
    assert any("cpu at" in row["why"] for row in said) and any("were enough for" in row["why"] for row in said)


async def test_scaling_with_dead_instances_keeps_the_one_that_serves(lab):
    """Two of three are dead and the load needs two: the third keeps serving, and no request fails."""
    await lab.set_scaling(policies.Policies(autoscale=policies.AutoscaleKnobs(max=3, in_flight=4, cool_down_s=0.0, calm_s=60.0)))
    await lab.scale("users", 3)
    serving = await node(lab, "users-3")
    for name in ("users-1", "users-2"):
        await lab.auto_heal(name, False)
        await lab.kill(name)
    await asyncio.sleep(1.5)
    async with crowd(lab, "/wait?ms=200", clients=6) as clients:
        await asyncio.sleep(6.0)
        after = await node(lab, "users-3")

    assert clients.bad == [] and set(clients.by_instance) == {"users-3"}
    assert after is not None and after.pid == serving.pid


async def test_a_restarted_haproxy_gets_its_added_servers_again(lab):
    """They are lost with its process; the autoscaler adds them again within a few seconds."""
    await lab.scale("users", 2)
    mesh = haproxy_runtime.HaproxyRuntime(str(lab.paths.data_dir / "haproxy-1.sock"))

    killed = await lab.kill("haproxy-1")

    async def back():
        row = await node(lab, "haproxy-1")
        return row.pid not in (0, killed.pid) and row.state == "healthy" and "users-2" in (await mesh.backends())["users"].servers

    await until(back, "the second server's return")
    async with crowd(lab, "/work?ms=1") as clients:
        await asyncio.sleep(0.5)
    assert clients.bad == [] and clients.by_instance["users-2"] > 0


async def test_a_hung_instance_is_ejected_and_then_replaced(lab):
    """SIGSTOP: no new requests, then a new process. Workers, too, which no load balancer checks; not faults of a drill."""
    await lab.set_scaling(policies.Policies(mesh=policies.MeshKnobs(heal_s=2.0)))
    await lab.scale("users", 2)
    await lab.auto_heal("fanout-1", False)
    mesh = haproxy_runtime.HaproxyRuntime(str(lab.paths.data_dir / "haproxy-1.sock"))
    hung, worker = await node(lab, "users-2"), await node(lab, "fanout-1")
    for each in (hung, worker):
        os.kill(each.pid, signal.SIGSTOP)

    async def out():
        return not (await mesh.backends())["users"].servers["users-2"].checks.startswith("UP")

    await until(out, "the ejection")
    stood_when_ejected = procs.is_alive(hung.pid, hung.start_ticks)

    async def replaced(one):
        return not procs.is_alive(one.pid, one.start_ticks) and (await node(lab, one.name)).state == "healthy"

    await until(lambda: replaced(hung), "the replacement", 20.0)
    held = procs.is_alive(worker.pid, worker.start_ticks)
    await lab.auto_heal("fanout-1", True)
    await until(lambda: replaced(worker), "the worker's replacement")

    assert stood_when_ejected and held
    assert decided(await lab.scaling(), "users-2 replaced") and decided(await lab.scaling(), "fanout-1 replaced")
    assert (await node(lab, "users-1")).restarts == 0


async def test_an_instance_that_answers_its_checks_with_errors_is_replaced(lab):
    """It is alive but reports that it cannot serve: after `heal_s` a new process replaces it."""
    await lab.set_scaling(policies.Policies(mesh=policies.MeshKnobs(heal_s=1.0)))
    ill = await node(lab, "users-1")
    async with aiohttp.ClientSession() as session, session.get(f"http://{lab.plan.of('users', 1)}/fall-ill") as answer:
        assert answer.status == 200

    async def replaced():
        row = await node(lab, "users-1")
        return row.pid not in (0, ill.pid) and row.state == "healthy"

    await until(replaced, "the replacement")
    assert decided(await lab.scaling(), "users-1 replaced")


async def test_a_queue_in_the_mesh_scales_out(lab):
    """Not CPU: requests that queue for an instance in the mesh are counted, and scale the service out."""
    knobs = policies.AutoscaleKnobs(max=3, cpu=0.0, queue_s=0.05, cool_down_s=1.0, calm_s=60.0)
    await lab.set_scaling(policies.Policies(autoscale=knobs))

    async def grown():
        return (await lab.scaling())["instances"]["users"] >= 2

    async with crowd(lab, "/wait?ms=300", clients=70, pause_s=0.0) as clients:
        await until(grown, "the second instance")
    said = [row for row in (await lab.scaling())["decisions"] if "->" in row["what"]]

    assert clients.bad == [] and any("queue at" in row["why"] for row in said)


async def test_an_instance_that_only_returns_errors_is_ejected_for_a_while(tmp_path):
    """users-2 returns 500: it gets no more requests and is readmitted later. An only instance is never ejected."""
    lab = native.Lab(tmp_path, RANGE)
    try:
        await lab.up(QUICK, {"TWEETLAB_BUSY_FAILS": "users-2"})
        await lab.set_scaling(policies.Policies(mesh=policies.MeshKnobs(eject_s=3.0)))
        await lab.scale("users", 2)

        async with crowd(lab, "/fail") as clients:
            await until(lambda: asyncio.sleep(0, bool(clients.bad)), "the first error")
            await asyncio.sleep(4.0)
            before = len(clients.bad)
            await asyncio.sleep(0.5)
            while_out = len(clients.bad) - before
            await until(lambda: asyncio.sleep(0, len(clients.bad) > before + while_out + 5), "its return")

        assert while_out == 0
        assert decided(await lab.scaling(), "users-2 ejected") and not decided(await lab.scaling(), "users-1 ejected")
    finally:
        await lab.down(purge=True)


async def test_killing_the_only_instance_delays_requests_and_fails_none(lab):
    """While no instance passes its checks, reads are retried for about as long as a restart takes."""
    async with crowd(lab, "/work?ms=1", clients=2, pause_s=0.05) as clients:
        await asyncio.sleep(0.3)
        await lab.kill("users-1")
        await until(lambda: asyncio.sleep(0, clients.by_instance["users-1"] > 50), "a normal service")

    assert clients.bad == []


async def test_a_scale_outside_its_bounds_is_refused(lab):
    """The error names the value and the bound."""
    wrong = [("users", 0, "may have 1"), ("users", 99, "to 16"), ("fanout", 5, "to 4"), ("redis", 2, "cannot be scaled")]
    for service, count, says in wrong:
        with pytest.raises(WrongInput, match=says):
            await lab.scale(service, count)
