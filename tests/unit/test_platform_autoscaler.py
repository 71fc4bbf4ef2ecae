"""The autoscaler, rolling restarts and automatic restarts, on fake children and a fake HAProxy."""

import asyncio
import contextlib
import dataclasses
import errno
from types import SimpleNamespace

import pytest

from system.kernel.errors import CouldNotRun, WrongInput
from system.kernel.policies import AutoscaleKnobs, LimitKnobs, Policies
from system.kernel.resilience import scaling
from system.platform import blueprint
from system.platform.blueprint import Blueprint, Node, Running
from system.platform.process import lifecycle, supervisor
from system.platform.process.children import NativeRuntime
from system.platform.scaling import autoscaler, haproxy_runtime, rolling_restart
from system.platform.scaling.haproxy_runtime import Backend, HaproxyRuntime, Server, Unresponsive
from system.platform.scaling.outlier_ejection import OutlierEjection


class Child:
    """A fake instance. `starts`: False if it does not become healthy."""

    def __init__(self, node, state="healthy", starts=True):
        self.node, self.state, self.starts = node, state, starts
        self.ctx = SimpleNamespace(address=f"127.1.1.{node.instance}:8000")
        self.quota_cores, self.identity, self.auto_heal, self.stopped = None, 7, True, False

    async def start(self):
        if not self.starts:
            raise CouldNotRun(f"{self.node.name} did not come up")
        self.state = "healthy"

    async def stop(self, *, kill=False):
        self.state, self.stopped = "stopped", True

    def cpu_ns(self):
        return 0

    async def limit(self, cores):
        self.quota_cores = cores

    def is_alive(self):
        return self.state == "healthy"


class Host:
    """A supervisor with instances in these states; the first `of_blueprint` of them are the blueprint's."""

    def __init__(self, *states, kind="users", of_blueprint=1):
        self.kind = kind
        nodes = tuple(Node(f"{kind}-{n}", kind, "service", n) for n in range(1, len(states) + 1))
        self.blueprint = Blueprint("toy", nodes[:of_blueprint])
        self.children = {node.name: Child(node, state) for node, state in zip(nodes, states, strict=True)}
        self.all, self.starts = list(self.children.values()), True

    def add_child(self, node):
        child = self.children[node.name] = Child(node, "starting", self.starts)
        self.all.append(child)
        return child

    def refresh(self, child):
        pass

    def forget_child(self, name):
        self.children.pop(name, None)


def scaled(host, **knobs):
    scaler = autoscaler.Autoscaler(host)
    scaler.knobs = AutoscaleKnobs(max=4, **knobs)
    return scaler


@pytest.mark.parametrize(("wanted", "ready", "existing", "now"), [
    (3, 1, 1, 3), (1, 3, 3, 1), (2, 2, 2, None),
    (2, 1, 3, None), (1, 0, 3, None), (3, 1, 3, None), (1, 2, 3, None),  # the others are restarting
    (4, 1, 3, 4),
])  # fmt: skip
def test_no_instance_is_removed_while_others_restart(wanted, ready, existing, now):
    """From one ready of three to two would be a scale-in, perhaps of the one instance that serves."""
    assert scaling.change(wanted, ready, existing) == now


async def test_an_overload_of_the_only_ready_instance_stops_no_instance():
    """Two of three restart while the third has all the load: the autoscaler wants two, and three exist."""
    host = Host("dead", "dead", "healthy")
    scaler = scaled(host, in_flight=1, cool_down_s=0.0)
    busy = Backend({"users-3": Server("users", "users-3", "UP", 50, 0, 0, 0, True, 256)})
    for _ in range(scaling.LOOKS + 2):
        scaler._scale_one("users", busy)
        await asyncio.sleep(0)

    assert [child.node.name for child in host.all if child.stopped] == []


async def test_unhealthy_instances_are_removed_first_and_the_blueprints_stay():
    """Manually from four to two: users-1 is the blueprint's, users-2 is dead, users-4 is the newest."""
    host = Host("dead", "dead", "healthy", "healthy")
    await scaled(host).scale("users", 2)

    assert sorted(host.children) == ["users-1", "users-3"]


@pytest.mark.parametrize("most", [1, 4])
async def test_there_are_no_more_gateways_than_share_the_limits(most):
    """Without the limits' Redis each admits 1 / `max_gateways` of a limit: one more would exceed it."""
    scaler = scaled(Host("healthy", kind="gateway"))
    scaler.max_gateways = most
    assert scaler._limits("gateway").max == most

    message = f"cannot have {most + 1} instances; it may have 1 .* to {most}, the number that `policies.limits"
    with pytest.raises(WrongInput, match=message):
        await scaler.scale("gateway", most + 1)


async def test_the_number_of_gateways_comes_from_the_policies():
    """`configure` sets it together with the other knobs."""
    scaler = autoscaler.Autoscaler(Host("healthy", kind="gateway"))
    await scaler.configure(dataclasses.replace(Policies(), limits=LimitKnobs(max_gateways=2)), None)

    assert scaler.max_gateways == 2


async def test_earlier_added_gateways_are_removed_if_fewer_share_the_limits():
    """Four were added manually, and the next scenario allows two: four would admit twice the limit."""
    host = Host("healthy", "healthy", "healthy", "healthy", kind="gateway")
    await autoscaler.Autoscaler(host).configure(dataclasses.replace(Policies(), limits=LimitKnobs(max_gateways=2)), None)

    assert sorted(host.children) == ["gateway-1", "gateway-2"]


async def test_a_failed_poll_does_not_end_the_autoscaler(monkeypatch):
    """After any error, since nothing else replaces instances.

    `looked_s` reports the age of the last full poll.
    """
    monkeypatch.setattr(autoscaler, "EVERY_S", 0.001)
    scaler, polls = autoscaler.Autoscaler(Host("healthy")), []

    async def poll():
        polls.append(1)
        if len(polls) < 3:
            raise TypeError("an unexpected error")

    scaler._poll = poll
    before_s = scaler.polled_s
    task = asyncio.create_task(scaler.run())
    while len(polls) < 4 and not task.done():
        await asyncio.sleep(0.005)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task

    assert len(polls) >= 4 and scaler.polled_s > before_s and scaler.state()["looked_s"] >= 0


async def test_instances_added_during_a_reconciliation_do_not_break_it():
    """The loop over the children waits for HAProxy in between."""
    host = Host("healthy", "healthy")

    class Slow:
        async def add(self, kind, name, address):
            host.add_child(Node(f"users-{9 + len(host.children)}", "users", "service", 9))

    await OutlierEjection(lambda *_: None).reconcile(Slow(), {"users": Backend({})}, host.children, set())

    assert len(host.children) == 4


HEAD = "# pxname,svname,qcur,scur,slim,status,check_status,econ,eresp,hrsp_1xx,hrsp_2xx,hrsp_3xx,hrsp_4xx,hrsp_5xx"
ROW = "users,users-1,0,1,256,UP,L7OK,0,0,0,5,0,0,0"


@pytest.mark.parametrize("cut", ["users,users-1,0", "users", "users,users-1,0,1,256,UP,L7OK,0,0,0,5,x,0,0"])
async def test_a_truncated_reply_counts_as_no_reply(monkeypatch, cut):
    """HAProxy died while it replied; half a row is no row."""
    runtime = HaproxyRuntime("/nowhere")
    replies = [f"{HEAD}\n{ROW}", f"{HEAD}\n{ROW}\n{cut}"]

    async def execute(command):
        return replies.pop(0)

    monkeypatch.setattr(runtime, "execute", execute)
    assert (await runtime.backends())["users"].servers["users-1"].in_flight == 1
    with pytest.raises(Unresponsive, match="broke off"):
        await runtime.backends()


async def test_a_rolling_restart_removes_the_spares_of_earlier_failed_ones(monkeypatch):
    """However often it failed before: the repeated call restarts all instances and leaves no spare."""
    host = Host("healthy")
    scaler, fails = autoscaler.Autoscaler(host), [True]

    class Fleet:
        async def is_up(self, *_):
            return ""

        async def drain(self, *_):
            return True

        async def close(self, *_):
            pass

        add = readmit = delete = close

    async def backends(_):
        return {"users": Backend(dict.fromkeys(host.children))}

    async def refused(*_):
        raise CouldNotRun("HAProxy did not report it up")

    async def start():
        if fails and fails.pop():
            raise CouldNotRun("users-1 did not come back")
        host.children["users-1"].state = "healthy"

    monkeypatch.setattr(rolling_restart.haproxy_fleet, "of", lambda _: Fleet())
    monkeypatch.setattr(rolling_restart.haproxy_fleet, "backends_or_none", backends)
    host.children["users-1"].start = start
    with pytest.raises(CouldNotRun):
        await rolling_restart.run(scaler, "users")
    assert sorted(host.children) == ["users-1", "users-2"]
    with monkeypatch.context() as second:  # the second fails too, before its own spare takes requests
        second.setattr(rolling_restart, "_until_up", refused)
        with pytest.raises(CouldNotRun):
            await rolling_restart.run(scaler, "users")

    assert await rolling_restart.run(scaler, "users") == ["users-1"]
    assert sorted(host.children) == ["users-1"] and scaler.spares == {}


async def test_a_full_disk_does_not_stop_automatic_restarts(tmp_path, monkeypatch):
    """The list of running processes cannot be written: that is logged, and the node is restarted."""
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setenv("TWEETLAB_DATA", str(tmp_path))
    paths = supervisor.Paths(tmp_path / "checkout", 7)
    paths.make()
    host = supervisor.Supervisor(paths, NativeRuntime(paths))
    monkeypatch.setattr(supervisor.orphan_cleanup, "write_children", full)
    child = host.add_child(Node("users-1", "users", "service", 1, module="x", running=Running()))
    restarted = []
    monkeypatch.setattr(child, "restart", lambda: restarted.append(child.node.name))
    child.state, child._wanted = "healthy", True

    child._on_exit()

    assert (child.state, restarted) == ("dead", ["users-1"])


async def test_a_restart_that_fails_is_retried(tmp_path, monkeypatch):
    """A control group file that cannot be written (ENOSPC, EBUSY) is no reason to leave a node dead."""
    monkeypatch.setenv("TWEETLAB_DATA", str(tmp_path))
    monkeypatch.setattr(lifecycle, "RESTART_PAUSE_S", 0.001)
    paths = supervisor.Paths(tmp_path / "checkout", 7)
    host = supervisor.Supervisor(paths, NativeRuntime(paths))
    host.paths.make()
    child = host.add_child(Node("users-1", "users", "service", 1, module="x"))
    attempts = []

    async def start():
        attempts.append(1)
        if len(attempts) < 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        child._wanted = False

    monkeypatch.setattr(child, "start", start)
    child.restart()
    await asyncio.wait_for(child._restarting, 5)

    assert len(attempts) == 3


def test_blueprints_stay_within_the_default_number_of_gateways():
    """No blueprint has more gateways than `max_gateways` by default."""
    assert all(len(row.of_kind("gateway")) <= LimitKnobs().max_gateways for row in blueprint.BLUEPRINTS.values())
    assert haproxy_runtime.Unresponsive.exit_code == CouldNotRun.exit_code
