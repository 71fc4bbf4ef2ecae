"""Several HAProxies as one: orders go to each that answers, counts are added. The HAProxies here are sockets of this test."""

import asyncio
import contextlib
import re

import pytest

from system.kernel.errors import CouldNotRun
from system.platform.scaling import haproxy_fleet, haproxy_runtime
from system.platform.scaling.haproxy_fleet import HaproxyFleet
from system.platform.scaling.haproxy_runtime import Mesh
from system.platform.scaling.outlier_ejection import Healer

HEAD = ("# pxname,svname,status,scur,qcur,econ,eresp,check_status,slim,hrsp_1xx,hrsp_2xx,hrsp_3xx,hrsp_4xx,hrsp_5xx")


class Door:
    """A HAProxy with a backend `users`: name -> [status, inside, answers, errors]. `said`: commands that change something."""

    def __init__(self, path, **servers):
        self.path, self.servers, self.said, self._server = str(path), servers, [], None

    async def open(self):
        self._server = await asyncio.start_unix_server(self._serve, self.path)
        return self

    async def close(self):
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader, writer):
        writer.write(self._answer((await reader.readline()).decode().strip()).encode())
        writer.close()

    def _answer(self, command):
        if command.startswith("show stat"):
            rows = [f"users,{name},{status},{inside},0,0,0,L7OK,256,0,{answers},0,0,{errors}"
                    for name, (status, inside, answers, errors) in self.servers.items()]
            return "\n".join([HEAD, *rows, "users,BACKEND,UP,0,3,0,0,,,0,0,0,0,0"]) + "\n"
        self.said.append(command)
        name = re.search(r"users/(\S+)", command).group(1)
        if command.startswith("add server"):
            self.servers[name] = ["UP", 0, 0, 0]
            return "New server registered."
        if name not in self.servers:
            return "No such server."
        for word, status in (("drain", "DRAIN"), ("maint", "MAINT"), ("ready", "UP")):
            if command.endswith(f"state {word}"):
                self.servers[name][0] = status
        if command.startswith("del server"):
            del self.servers[name]
            return "Server deleted."
        return ""


@pytest.fixture
async def pair(tmp_path):
    """Two HAProxies that know users-1 and users-2."""
    async with contextlib.AsyncExitStack() as stack:
        made = []
        for name in ("one", "two"):
            door = await Door(tmp_path / name, **{"users-1": ["UP", 2, 10, 1], "users-2": ["UP", 1, 20, 0]}).open()
            stack.push_async_callback(door.close)
            made.append(door)
        yield made


def both(pair):
    return HaproxyFleet([Mesh(each.path) for each in pair])


async def test_what_is_seen_is_summed_over_all_that_answer(pair):
    """Requests inside, waiting, answers, errors; an instance is up where one of them finds it up."""
    pair[1].servers["users-1"][0] = "DOWN"

    seen = (await both(pair).backends())["users"]

    one = seen.servers["users-1"]
    assert (one.inside, one.answers, one.errors, one.checks, seen.waiting) == (4, 22, 2, "UP", 6)


async def test_an_instance_goes_into_all_and_out_of_all(pair):
    """Added, drained, closed and forgotten in each."""
    told = both(pair)

    await told.add("users", "users-3", "127.9.101.3:8000")
    assert all("users-3" in door.servers for door in pair)
    assert await told.is_up("users", "users-3") == ""
    assert await told.drain("users", "users-3")
    await told.close("users", "users-3")
    await told.forget("users", "users-3")

    assert [list(door.servers) for door in pair] == [["users-1", "users-2"]] * 2


async def test_a_drain_lasts_until_no_request_is_inside_in_any(pair):
    """One is empty at once, the other holds a request for a while."""
    pair[0].servers["users-2"][1] = 0
    draining = asyncio.create_task(both(pair).drain("users", "users-2"))

    await asyncio.sleep(3 * haproxy_runtime.LOOK_S)
    held = not draining.done()
    pair[1].servers["users-2"][1] = 0

    assert held and await draining is True
    assert await both(pair).drain("users", "users-1", patience_s=0.2) is False


async def test_one_that_starts_anew_during_a_drain_is_told_again(pair):
    """It came back with the servers of its configuration, up."""
    draining = asyncio.create_task(both(pair).drain("users", "users-2"))
    await asyncio.sleep(2 * haproxy_runtime.LOOK_S)

    pair[0].servers["users-2"][0] = "UP"
    pair[0].servers["users-2"][1] = pair[1].servers["users-2"][1] = 0

    assert await draining
    assert [door.servers["users-2"][0] for door in pair] == ["DRAIN", "DRAIN"]


async def test_one_that_is_dead_stops_nothing(pair):
    """Orders reach the other; where none answers, that is told."""
    await pair[0].close()
    told = both(pair)

    await told.add("users", "users-3", "127.9.101.3:8000")
    assert await told.drain("users", "users-3")
    await told.eject("users", "users-2")
    assert pair[1].servers["users-2"][0] == "DRAIN" and pair[0].said == []

    await pair[1].close()
    with pytest.raises(CouldNotRun, match="does not answer"):
        await told.add("users", "users-4", "127.9.101.4:8000")
    assert await haproxy_fleet.seen_by(told) == {}


async def test_a_refusal_of_one_that_answers_is_told(pair):
    """Silence is forgiven, a no is not."""
    pair[0]._answer = lambda command: "Backend 'users' is in trouble."

    with pytest.raises(CouldNotRun, match="in trouble"):
        await both(pair).add("users", "users-3", "127.9.101.3:8000")


async def test_an_order_goes_only_to_those_who_know_the_instance(pair):
    """One that started again has not got it yet: no reason to fail."""
    del pair[0].servers["users-2"]

    await both(pair).readmit("users", "users-2")
    await both(pair).close("users", "users-2")

    assert pair[0].said == [] and pair[1].servers["users-2"][0] == "MAINT"
    assert await both(pair).is_up("users", "users-2") == "nothing, MAINT"


class Instance:
    """What the healer needs of a child."""

    def __init__(self, name):
        self.node = type("Node", (), {"kind": "users", "role": "service", "name": name})
        self.ctx = type("Context", (), {"address": "127.9.101.3:8000"})
        self.state = "healthy"


async def test_the_keeper_gives_each_what_it_lacks(pair):
    """An added instance that only one of them knows goes into the other; one that nobody owns leaves where it is."""
    pair[1].servers["users-3"] = ["UP", 0, 0, 0]
    pair[0].servers["users-9"] = ["UP", 0, 0, 0]
    children = {name: Instance(name) for name in ("users-1", "users-2", "users-3")}
    healer = Healer(lambda *told: None)

    for one, seen in await both(pair).looks():
        await healer.reconcile(one, seen, children, set())

    assert [sorted(door.servers) for door in pair] == [["users-1", "users-2", "users-3"]] * 2
    assert not any("add server" in command for command in pair[1].said)


async def test_an_instance_that_one_of_them_cannot_reach_is_no_sibling_to_be_worse_than(pair):
    """A region that is cut off keeps its own, which serves nobody and so fails nobody: the survivor must not go for that."""
    healer, out = Healer(lambda service, what, why: out.append(what)), []
    pair[0].servers["users-2"][0] = pair[1].servers["users-1"][0] = "DOWN"
    for errors in (0, 40, 80, 120, 160):
        pair[1].servers["users-2"][2:] = [10 + errors, errors]
        await healer.eject(both(pair), await both(pair).backends(), set())
    apart = list(out)
    pair[0].servers["users-2"][0] = pair[1].servers["users-1"][0] = "UP"
    for errors in (200, 240, 280, 320):
        pair[1].servers["users-2"][2:] = [10 + errors, errors]
        await healer.eject(both(pair), await both(pair).backends(), set())

    assert apart == []
    assert out and out[0].startswith("users-2 ejected")


async def test_a_run_starts_with_every_instance_that_the_run_before_ejected(pair):
    """An ejection lasts for seconds of the run that saw the errors; the next one is asked a question of its
    own."""
    healer, out = Healer(lambda service, what, why: out.append(what)), []
    for errors in (0, 40, 80, 120, 160):
        pair[0].servers["users-2"][2:] = [10 + errors, errors]
        await healer.eject(both(pair), await both(pair).backends(), set())
    ejected = pair[0].servers["users-2"][0]

    await healer.begin(both(pair))

    assert (ejected, [door.servers["users-2"][0] for door in pair]) == ("DRAIN", ["UP", "UP"])
