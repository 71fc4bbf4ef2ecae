"""Several HAProxies as one: commands go to each that answers, counts are summed.

The HAProxies are sockets of this test.
"""

import asyncio
import contextlib
import re

import pytest

from system.kernel.errors import CouldNotRun
from system.platform.scaling import haproxy_fleet, haproxy_runtime
from system.platform.scaling.haproxy_fleet import HaproxyFleet
from system.platform.scaling.haproxy_runtime import HaproxyRuntime
from system.platform.scaling.outlier_ejection import OutlierEjection

HEAD = ("# pxname,svname,status,scur,qcur,econ,eresp,check_status,slim,hrsp_1xx,hrsp_2xx,hrsp_3xx,hrsp_4xx,hrsp_5xx")


class FakeHaproxy:
    """An HAProxy with a backend `users`: name -> [status, in flight, responses, errors].

    `commands`: those that change it.
    """

    def __init__(self, path, **servers):
        self.path, self.servers, self.commands, self._server = str(path), servers, [], None

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
            rows = [f"users,{name},{status},{in_flight},0,0,0,L7OK,256,0,{responses},0,0,{errors}"
                    for name, (status, in_flight, responses, errors) in self.servers.items()]
            return "\n".join([HEAD, *rows, "users,BACKEND,UP,0,3,0,0,,,0,0,0,0,0"]) + "\n"
        self.commands.append(command)
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
    """Two HAProxies with the servers users-1 and users-2."""
    async with contextlib.AsyncExitStack() as stack:
        haproxies = []
        for name in ("one", "two"):
            fake = await FakeHaproxy(tmp_path / name, **{"users-1": ["UP", 2, 10, 1], "users-2": ["UP", 1, 20, 0]}).open()
            stack.push_async_callback(fake.close)
            haproxies.append(fake)
        yield haproxies


def fleet_of(pair):
    return HaproxyFleet([HaproxyRuntime(fake.path) for fake in pair])


async def test_counts_are_summed_over_all_that_answer(pair):
    """Requests in flight and queued, responses, errors; an instance is up if one of them reports it up."""
    pair[1].servers["users-1"][0] = "DOWN"

    backend = (await fleet_of(pair).backends())["users"]

    server = backend.servers["users-1"]
    assert (server.in_flight, server.responses, server.errors, server.checks, backend.queued) == (4, 22, 2, "UP", 6)


async def test_an_instance_is_added_to_all_and_removed_from_all(pair):
    """Added, drained, closed and deleted in each."""
    fleet = fleet_of(pair)

    await fleet.add("users", "users-3", "127.9.101.3:8000")
    assert all("users-3" in fake.servers for fake in pair)
    assert await fleet.is_up("users", "users-3") == ""
    assert await fleet.drain("users", "users-3")
    await fleet.close("users", "users-3")
    await fleet.delete("users", "users-3")

    assert [list(fake.servers) for fake in pair] == [["users-1", "users-2"]] * 2


async def test_a_drain_lasts_until_no_request_is_in_flight_in_any(pair):
    """One is idle immediately, the other has a request in flight for a while."""
    pair[0].servers["users-2"][1] = 0
    draining = asyncio.create_task(fleet_of(pair).drain("users", "users-2"))

    await asyncio.sleep(3 * haproxy_runtime.LOOK_S)
    waited = not draining.done()
    pair[1].servers["users-2"][1] = 0

    assert waited and await draining is True
    assert await fleet_of(pair).drain("users", "users-1", patience_s=0.2) is False


async def test_one_that_restarts_during_a_drain_gets_the_command_again(pair):
    """It restarts with the servers of its configuration, up."""
    draining = asyncio.create_task(fleet_of(pair).drain("users", "users-2"))
    await asyncio.sleep(2 * haproxy_runtime.LOOK_S)

    pair[0].servers["users-2"][0] = "UP"
    pair[0].servers["users-2"][1] = pair[1].servers["users-2"][1] = 0

    assert await draining
    assert [fake.servers["users-2"][0] for fake in pair] == ["DRAIN", "DRAIN"]


async def test_a_dead_haproxy_stops_no_change(pair):
    """Commands reach the other one; if none answers, the error says so."""
    await pair[0].close()
    fleet = fleet_of(pair)

    await fleet.add("users", "users-3", "127.9.101.3:8000")
    assert await fleet.drain("users", "users-3")
    await fleet.eject("users", "users-2")
    assert pair[1].servers["users-2"][0] == "DRAIN" and pair[0].commands == []

    await pair[1].close()
    with pytest.raises(CouldNotRun, match="does not answer"):
        await fleet.add("users", "users-4", "127.9.101.4:8000")
    assert await haproxy_fleet.backends_or_none(fleet) == {}


async def test_a_refusal_by_one_that_answers_is_raised(pair):
    """One without an answer is skipped, a refusal is an error."""
    pair[0]._answer = lambda command: "Backend 'users' is in trouble."

    with pytest.raises(CouldNotRun, match="in trouble"):
        await fleet_of(pair).add("users", "users-3", "127.9.101.3:8000")


async def test_a_command_goes_only_to_those_that_have_the_instance(pair):
    """One that restarted does not have it yet: no reason to fail."""
    del pair[0].servers["users-2"]

    await fleet_of(pair).readmit("users", "users-2")
    await fleet_of(pair).close("users", "users-2")

    assert pair[0].commands == [] and pair[1].servers["users-2"][0] == "MAINT"
    assert await fleet_of(pair).is_up("users", "users-2") == "nothing, MAINT"


class Instance:
    """The attributes of a child that OutlierEjection reads."""

    def __init__(self, name):
        self.node = type("Node", (), {"kind": "users", "role": "service", "name": name})
        self.ctx = type("Context", (), {"address": "127.9.101.3:8000"})
        self.state = "healthy"


async def test_reconciliation_adds_to_each_haproxy_what_it_lacks(pair):
    """An instance that only one of them has is added to the other.

    A server without an instance is deleted.
    """
    pair[1].servers["users-3"] = ["UP", 0, 0, 0]
    pair[0].servers["users-9"] = ["UP", 0, 0, 0]
    children = {name: Instance(name) for name in ("users-1", "users-2", "users-3")}
    outliers = OutlierEjection(lambda *decision: None)

    for runtime, backends in await fleet_of(pair).snapshots():
        await outliers.reconcile(runtime, backends, children, set())

    assert [sorted(fake.servers) for fake in pair] == [["users-1", "users-2", "users-3"]] * 2
    assert not any("add server" in command for command in pair[1].commands)


async def test_an_instance_that_one_haproxy_cannot_reach_is_not_compared(pair):
    """The instance of a cut-off region has no requests and no errors: the survivor must not be ejected."""
    outliers, decisions = OutlierEjection(lambda service, what, why: decisions.append(what)), []
    pair[0].servers["users-2"][0] = pair[1].servers["users-1"][0] = "DOWN"
    for errors in (0, 40, 80, 120, 160):
        pair[1].servers["users-2"][2:] = [10 + errors, errors]
        await outliers.eject(fleet_of(pair), await fleet_of(pair).backends(), set())
    during_cut = list(decisions)
    pair[0].servers["users-2"][0] = pair[1].servers["users-1"][0] = "UP"
    for errors in (200, 240, 280, 320):
        pair[1].servers["users-2"][2:] = [10 + errors, errors]
        await outliers.eject(fleet_of(pair), await fleet_of(pair).backends(), set())

    assert during_cut == []
    assert decisions and decisions[0].startswith("users-2 ejected")


async def test_a_run_starts_with_the_instances_that_the_earlier_run_ejected(pair):
    """An ejection belongs to the run that had the errors; the next run measures something else."""
    outliers, decisions = OutlierEjection(lambda service, what, why: decisions.append(what)), []
    for errors in (0, 40, 80, 120, 160):
        pair[0].servers["users-2"][2:] = [10 + errors, errors]
        await outliers.eject(fleet_of(pair), await fleet_of(pair).backends(), set())
    ejected = pair[0].servers["users-2"][0]

    await outliers.reset(fleet_of(pair))

    assert (ejected, [fake.servers["users-2"][0] for fake in pair]) == ("DRAIN", ["UP", "UP"])
