"""The autoscaler and what hangs on it, on children and a mesh that are told what to do."""

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
from system.platform.process import children, supervisor
from system.platform.scaling import autoscaler, haproxy_runtime, rolling_restart
from system.platform.scaling.haproxy_runtime import Backend, Mesh, Server, Silent
from system.platform.scaling.outlier_ejection import Healer


class Child:
    """An instance that starts, stops and counts. `starts`: False where it does not come up."""

    def __init__(self, node, state="healthy", starts=True):
        self.node, self.state, self.starts = node, state, starts
        self.ctx = SimpleNamespace(address=f"127.1.1.{node.instance}:8000")
        self.quota_cores, self.pid, self.auto_heal, self.stopped = None, 7, True, False

    async def start(self):
        if not self.starts:
            raise CouldNotRun(f"{self.node.name} did not come up")
        self.state = "healthy"

    async def stop(self, *, kill=False):
        self.state, self.stopped = "stopped", True

    def cpu_ns(self):
        return 0

    def limit(self, cores):
        self.quota_cores = cores

    def is_alive(self):
        return self.state == "healthy"


class House:
    def __init__(self, *made, kind="users", of_blueprint=1):
        self.kind = kind
        nodes = tuple(Node(f"{kind}-{n}", kind, "service", n) for n in range(1, len(made) + 1))
        self.blueprint = Blueprint("toy", nodes[:of_blueprint])
        self.children = {node.name: Child(node, state) for node, state in zip(nodes, made, strict=True)}
        self.all, self.starts = list(self.children.values()), True

    def adopt(self, node):
        child = self.children[node.name] = Child(node, "starting", self.starts)
        self.all.append(child)
        return child

    def refresh(self, child):
        pass

    def release(self, name):
        self.children.pop(name, None)


def scaled(house, **knobs):
    made = autoscaler.Autoscaler(house)
    made.knobs = AutoscaleKnobs(max=4, **knobs)
    return made


@pytest.mark.parametrize(("wanted", "ready", "existing", "now"), [
    (3, 1, 1, 3), (1, 3, 3, 1), (2, 2, 2, None),
    (2, 1, 3, None), (1, 0, 3, None), (3, 1, 3, None), (1, 2, 3, None),  # the others are on their way back
    (4, 1, 3, 4),
])  # fmt: skip
def test_while_some_are_healed_nobody_leaves(wanted, ready, existing, now):
    """A scale out from one ready of three to two would be a scale in; perhaps of the very one that serves."""
    assert scaling.change(wanted, ready, existing) == now


async def test_an_overload_of_the_only_instance_that_serves_stops_none():
    """Two of three are healed while the third has all the load: the autoscaler wants two, and three exist."""
    house = House("dead", "dead", "healthy")
    made = scaled(house, in_flight=1, cool_down_s=0.0)
    busy = Backend({"users-3": Server("users", "users-3", "UP", 50, 0, 0, 0, True, 256)})
    for _ in range(scaling.LOOKS + 2):
        made._scale_one("users", busy)
        await asyncio.sleep(0)

    assert [child.node.name for child in house.all if child.stopped] == []


async def test_who_does_not_serve_leaves_first_and_the_blueprints_own_stay():
    """By hand from four to two: users-1 is the blueprint's, users-2 is dead, users-4 is the youngest."""
    house = House("dead", "dead", "healthy", "healthy")
    await scaled(house).scale("users", 2)

    assert sorted(house.children) == ["users-1", "users-3"]


@pytest.mark.parametrize("asked", [1, 4])
async def test_there_are_no_more_gateways_than_share_the_limits(asked):
    """While the limits are away each admits its share of `max_gateways`: a further one would admit more than the limit."""
    made = scaled(House("healthy", kind="gateway"))
    made.max_gateways = asked
    assert made._limits("gateway").max == asked

    told = f"to have {asked + 1} instances; it may have 1 .* to {asked}, as many as `policies.limits"
    with pytest.raises(WrongInput, match=told):
        await made.scale("gateway", asked + 1)


async def test_the_keeper_takes_the_number_of_gateways_from_the_policies():
    """Together with its other knobs."""
    made = autoscaler.Autoscaler(House("healthy", kind="gateway"))
    await made.configure(dataclasses.replace(Policies(), limits=LimitKnobs(max_gateways=2)), None)

    assert made.max_gateways == 2


async def test_gateways_added_before_leave_where_fewer_share_the_limits():
    """Four stand by hand, and the next scenario lets two share: two more would admit twice the limit in an outage."""
    house = House("healthy", "healthy", "healthy", "healthy", kind="gateway")
    await autoscaler.Autoscaler(house).configure(dataclasses.replace(Policies(), limits=LimitKnobs(max_gateways=2)), None)

    assert sorted(house.children) == ["gateway-1", "gateway-2"]


async def test_a_look_that_breaks_off_does_not_end_the_keeper(monkeypatch):
    """Whatever it met: nobody else heals. How old the last whole look is can be told."""
    monkeypatch.setattr(autoscaler, "EVERY_S", 0.001)
    made, looks = autoscaler.Autoscaler(House("healthy")), []

    async def look():
        looks.append(1)
        if len(looks) < 3:
            raise TypeError("what nobody thought of")

    made._look = look
    before_s = made.looked_s
    task = asyncio.create_task(made.run())
    while len(looks) < 4 and not task.done():
        await asyncio.sleep(0.005)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task

    assert len(looks) >= 4 and made.looked_s > before_s and made.told()["looked_s"] >= 0


async def test_instances_that_come_and_go_during_a_look_do_not_break_it():
    """HAProxy is waited for between two of them."""
    house = House("healthy", "healthy")

    class Slow:
        async def add(self, kind, name, address):
            house.adopt(Node(f"users-{9 + len(house.children)}", "users", "service", 9))

    await Healer(lambda *_: None).reconcile(Slow(), {"users": Backend({})}, house.children, set())

    assert len(house.children) == 4


HEAD = "# pxname,svname,qcur,scur,slim,status,check_status,econ,eresp,hrsp_1xx,hrsp_2xx,hrsp_3xx,hrsp_4xx,hrsp_5xx"
ROW = "users,users-1,0,1,256,UP,L7OK,0,0,0,5,0,0,0"


@pytest.mark.parametrize("cut", ["users,users-1,0", "users", "users,users-1,0,1,256,UP,L7OK,0,0,0,5,x,0,0"])
async def test_an_answer_that_breaks_off_is_silence(monkeypatch, cut):
    """HAProxy died while it told; half of a row is no row."""
    one = Mesh("/nowhere")
    answers = [f"{HEAD}\n{ROW}", f"{HEAD}\n{ROW}\n{cut}"]

    async def ask(command):
        return answers.pop(0)

    monkeypatch.setattr(one, "ask", ask)
    assert (await one.backends())["users"].servers["users-1"].inside == 1
    with pytest.raises(Silent, match="broke off"):
        await one.backends()


async def test_the_spare_of_a_renewal_that_broke_off_leaves_with_the_next(monkeypatch):
    """However often it broke off before: the repeat goes through all and leaves none."""
    house = House("healthy")
    made, fails = autoscaler.Autoscaler(house), [True]

    class Fine:
        async def is_up(self, *_):
            return ""

        async def drain(self, *_):
            return True

        async def close(self, *_):
            pass

        add = readmit = forget = close

    async def seen(_):
        return {"users": Backend(dict.fromkeys(house.children))}

    async def refused(*_):
        raise CouldNotRun("HAProxy did not take it in")

    async def start():
        if fails and fails.pop():
            raise CouldNotRun("users-1 did not come back")
        house.children["users-1"].state = "healthy"

    monkeypatch.setattr(rolling_restart.haproxy_fleet, "of", lambda _: Fine())
    monkeypatch.setattr(rolling_restart.haproxy_fleet, "seen_by", seen)
    house.children["users-1"].start = start
    with pytest.raises(CouldNotRun):
        await rolling_restart.renew(made, "users")
    assert sorted(house.children) == ["users-1", "users-2"]
    with monkeypatch.context() as broken:  # the second breaks off, too, before its own spare takes requests
        broken.setattr(rolling_restart, "_until_up", refused)
        with pytest.raises(CouldNotRun):
            await rolling_restart.renew(made, "users")

    assert await rolling_restart.renew(made, "users") == ["users-1"]
    assert sorted(house.children) == ["users-1"] and made.spares == {}


async def test_a_full_disk_does_not_end_the_healing(tmp_path, monkeypatch):
    """Who runs cannot be written down: it is told in the log, and what runs is healed all the same."""
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setenv("TWEETLAB_DATA", str(tmp_path))
    paths = supervisor.Paths(tmp_path / "checkout", 7)
    paths.make()
    house = supervisor.Supervisor(paths)
    monkeypatch.setattr(supervisor.orphan_cleanup, "write_children", full)
    child = house.adopt(Node("users-1", "users", "service", 1, module="x", running=Running()))
    healed = []
    monkeypatch.setattr(child, "heal", lambda: healed.append(child.node.name))
    child.state, child._wanted = "healthy", True

    child._on_exit()

    assert (child.state, healed) == ("dead", ["users-1"])


async def test_a_node_that_cannot_be_limited_is_tried_again(tmp_path, monkeypatch):
    """A group's file that cannot be written (ENOSPC, EBUSY) is no reason to leave a node dead."""
    monkeypatch.setenv("TWEETLAB_DATA", str(tmp_path))
    monkeypatch.setattr(children, "HEAL_PAUSE_S", 0.001)
    house = supervisor.Supervisor(supervisor.Paths(tmp_path / "checkout", 7))
    house.paths.make()
    child = house.adopt(Node("users-1", "users", "service", 1, module="x"))
    tries = []

    async def start():
        tries.append(1)
        if len(tries) < 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        child._wanted = False

    monkeypatch.setattr(child, "start", start)
    child.heal()
    await asyncio.wait_for(child._healer, 5)

    assert len(tries) == 3


def test_blueprints_leave_room_for_their_gateways():
    """What a blueprint has of them is within the default."""
    assert all(len(each.of_kind("gateway")) <= LimitKnobs().max_gateways for each in blueprint.BLUEPRINTS.values())
    assert haproxy_runtime.Silent.exit_code == CouldNotRun.exit_code
