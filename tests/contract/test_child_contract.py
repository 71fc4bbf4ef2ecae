"""The contract of a child: start, stop, kill, pause, resume, limit, CPU and memory of one node, on a real Redis.

The same tests run on a process of this machine and on a container; the second needs a Docker engine.
"""

import asyncio
import dataclasses
import time

import pytest
from redis import asyncio as redis

from system.kernel.errors import CouldNotRun
from system.platform import blueprint, runtimes
from system.platform.blueprint import Blueprint
from system.platform.containers import images
from system.platform.install import packages
from system.platform.paths import Paths
from system.platform.process import procs
from tests.helpers import containers
from tests.helpers.requirements import requires

pytestmark = [pytest.mark.real, requires(packages.REDIS)]
RANGE = 216
NODE = blueprint.load("small").of_kind("redis")[0]
BUSY = "local n = 0 for i = 1, 300000000 do n = n + i end return n"  # several seconds of one core


@pytest.fixture(params=[pytest.param(runtimes.NATIVE), pytest.param(runtimes.DOCKER, marks=pytest.mark.docker)])
async def child(request, tmp_path, monkeypatch):
    lab = Paths(tmp_path, RANGE)
    if request.param == runtimes.DOCKER:
        found = containers.engine_or_skip()
        monkeypatch.setenv("TWEETLAB_IMAGES", containers.image_set(found))
        containers.tag_or_skip(found, images.of_kind(NODE.kind))
    lab.make()
    runtimes.keep(lab, request.param)
    runtime = runtimes.runtime(request.param, lab)
    await runtime.prepare((NODE,))
    one = runtime.child(runtime.context(NODE, Blueprint("one", (NODE,)), {}), lambda: None)
    yield one
    await one.stop(kill=True)
    await runtime.remove()
    assert runtimes.clean_up(lab, purge=True) == 0
    lab.remove()


async def until(holds, what, within_s=15.0):
    deadline_s = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline_s, what
        await asyncio.sleep(0.02)


def client(child):
    host, _, port = child.ctx.address.rpartition(":")
    return redis.Redis(host=host, port=int(port), socket_timeout=None)


async def test_a_started_child_is_healthy_and_has_an_identity(child):
    """The identity names a live process of this machine; before the start there is none."""
    before = (child.state, child.is_alive(), child.identity.pid, await child.probe())
    await child.start()

    assert before == ("stopped", False, 0, "no process")
    assert (child.state, child.is_alive(), child.is_paused(), await child.probe()) == ("healthy", True, False, "healthy")
    assert procs.is_alive(child.identity.pid, child.identity.start_ticks)
    assert child.expected and time.time() - child.started_at < 30


async def test_a_stopped_child_has_no_process_and_starts_again(child):
    """Stop is safe to repeat; the next start is a new process."""
    await child.start()
    first = child.identity
    await child.stop()
    await child.stop()
    stopped = (child.state, child.is_alive(), child.expected, procs.is_alive(first.pid, first.start_ticks))
    await child.start()

    assert stopped == ("stopped", False, False, False)
    assert (child.state, child.restarts) == ("healthy", 0) and child.identity != first


async def test_a_killed_child_is_restarted_as_a_new_process(child):
    """The CPU time of the earlier process stays counted."""
    await child.start()
    first, used_ns = child.identity, child.cpu_ns()
    await child.kill()
    await until(lambda: child.state == "healthy" and child.identity != first, "the restart")

    assert not procs.is_alive(first.pid, first.start_ticks)
    assert (child.restarts, await child.probe()) == (1, "healthy")
    assert 0 < used_ns < child.cpu_ns()


async def test_without_auto_heal_a_killed_child_stays_dead_until_it_is_restarted(child):
    """A held fault keeps a node down this way."""
    await child.start()
    child.auto_heal = False
    await child.kill()
    await until(lambda: child.state == "dead", "the death")
    await asyncio.sleep(0.5)
    dead = (child.state, child.is_alive(), child.restarts)
    child.restart()
    await until(lambda: child.state == "healthy", "the restart")

    assert dead == ("dead", False, 0)


async def test_a_paused_child_answers_nothing_uses_no_cpu_and_continues_where_it_was(child):
    """The process stays the same, and so does what it holds in memory."""
    await child.start()
    async with client(child) as store:
        await store.set("parrot", "resting")
        await child.pause()
        await child.pause()
        frozen = (child.is_alive(), child.is_paused(), child.state, child.identity)
        used_ns = child.cpu_ns()
        answer = await child.probe()
        spent_ns = child.cpu_ns() - used_ns
        await child.resume()
        await child.resume()

        assert frozen == (True, True, "healthy", child.identity)
        assert "no answer" in answer and spent_ns == 0
        assert (child.is_paused(), await child.probe(), await store.get("parrot")) == (False, "healthy", b"resting")


async def test_a_paused_child_can_be_killed(child):
    """Healing kills a hung instance; a frozen one must not survive it."""
    await child.start()
    first = child.identity
    await child.pause()
    await child.kill()
    await until(lambda: child.state == "healthy" and child.identity != first, "the restart")

    assert not child.is_paused() and not procs.is_alive(first.pid, first.start_ticks)


async def test_a_paused_child_stops_gracefully(child):
    """It handles its stop signal instead of being killed at the end of its stop timeout."""
    await child.start()
    await child.pause()
    began_s = time.monotonic()
    await child.stop()

    assert child.state == "stopped" and time.monotonic() - began_s < child._stop_timeout_s
    assert child._exit_code == 0  # SIGKILL would be -9


async def test_only_a_running_child_can_be_paused(child):
    """The error names the node and its state; resume does nothing."""
    with pytest.raises(CouldNotRun, match="redis-1 has no process to pause; its state is 'stopped'"):
        await child.pause()
    await child.resume()

    assert not child.is_paused()


async def test_a_limited_child_uses_no_more_than_its_share(child):
    """A fifth of a core, measured over two seconds; without the limit it would be a whole one."""
    await child.start()
    await child.limit(0.2)
    async with client(child) as store:
        busy = asyncio.ensure_future(store.eval(BUSY, 0))
        await asyncio.sleep(0.5)
        began_s, used_ns = time.monotonic(), child.cpu_ns()
        await asyncio.sleep(2.0)
        cores = (child.cpu_ns() - used_ns) / 1e9 / (time.monotonic() - began_s)
        busy.cancel()
        await asyncio.gather(busy, return_exceptions=True)

    assert 0.1 < cores < 0.3


async def test_memory_is_that_of_the_node(child):
    """Resident memory grows with what the node holds."""
    await child.start()
    empty_bytes = child.rss_bytes()
    async with client(child) as store:
        await store.set("parrot", b"x" * (20 * 2**20))

    assert 2**20 < empty_bytes < 100 * 2**20
    assert child.rss_bytes() - empty_bytes > 15 * 2**20


async def test_a_child_that_dies_while_starting_reports_the_end_of_its_log(child):
    """The reason is the server's own words."""
    launch = child.server.launch

    class Broken:
        start_timeout_s = 20.0

        def launch(self, ctx):
            given = launch(ctx)
            return dataclasses.replace(given, files=dict.fromkeys(given.files, "no-such-directive yes\n"))

        probe = child.server.probe

    child.server = Broken()
    with pytest.raises(CouldNotRun, match=r"redis-1 died while starting, .* with exit code 1.*(\n.*)*no-such-directive"):
        await child.start()

    assert (child.state, child.is_alive()) == ("failed", False)
