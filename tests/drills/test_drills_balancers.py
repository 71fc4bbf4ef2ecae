"""Two balancers behind two DNS servers: one dies, hangs, comes back; instances come and go in both.

A lab of doors alone: HAProxy and PowerDNS of two zones, a stand-in for the gateway and a service of ours with keep-alive in each.
The load is the generator's, in its own process, by the name.
"""

import asyncio
import contextlib
import os
import signal
import time

import aiohttp
import pytest

from bench.selfchecks import load_selfcheck
from system.kernel import dns, policies
from system.kernel.errors import CouldNotRun
from system.platform import blueprint, native
from system.platform.blueprint import Blueprint, Node
from system.platform.install import packages
from system.platform.process import procs
from system.platform.scaling import haproxy_runtime
from tests.helpers.requirements import requires
from tweetlab.load import driver

pytestmark = [
    pytest.mark.campaign,
    pytest.mark.real, pytest.mark.slow,
    requires(packages.HAPROXY, packages.PDNS, packages.PDNS_BIND),
]
RANGE = 219
CLUSTER = blueprint.load("cluster")
MODULES = {"gateway": "tests.helpers.gateway_stand_in", "users": "tests.helpers.busy_service"}
DOORS = Blueprint("doors", (
    *CLUSTER.of_kind("haproxy"), *CLUSTER.of_kind("pdns"),
    *(Node(f"{kind}-{zone}", kind, "service", zone, zone=zone, module=module)
      for kind, module in MODULES.items() for zone in (1, 2))))
MOST_S = 3.0  # a second between checks, one for a check that hangs, one of TTL
RATE_PER_S = 50.0


@pytest.fixture
async def lab(tmp_path):
    """The doors of two zones; nothing of them stays."""
    made = native.Lab(tmp_path, RANGE)
    await made.up(DOORS)
    yield made
    await made.down(purge=True)


def servers(lab):
    return [lab.plan.of("pdns", instance) for instance in (1, 2)]


def said(server):
    """Return what a DNS server says now; None where it is away."""
    with contextlib.suppress(CouldNotRun):
        return set(dns.ask(server, dns.API, 0.5))
    return None


async def until(condition, what, timeout_s=15.0):
    """Wait for `condition`; return how long it took, in seconds."""
    began = time.monotonic()
    while time.monotonic() - began < timeout_s:
        found = condition()
        if await found if asyncio.iscoroutine(found) else found:
            return time.monotonic() - began
        await asyncio.sleep(0.02)
    pytest.fail(f"{what} did not happen within {timeout_s} s")


async def till_dns_says(lab, balancers, of=None, timeout_s=15.0):
    """Return after how many seconds every DNS server in `of` names exactly these balancers."""
    wanted = {lab.plan.host("haproxy", each) for each in balancers}
    return await until(lambda: all(said(each) == wanted for each in of or servers(lab)), f"an answer of {wanted}", timeout_s)


async def kill(lab, *nodes):
    """Kill nodes for good: nothing heals them."""
    for node in nodes:
        await lab.auto_heal(node, False)
    await asyncio.gather(*(lab.kill(node) for node in nodes))


async def heal(lab, *nodes):
    for node in nodes:
        await lab.auto_heal(node, True)


async def well(lab):
    return all(row.health == "healthy" and row.state == "healthy" for row in await lab.status())


@contextlib.asynccontextmanager
async def load(lab, folder, for_s):
    """Let the generator play by the name while the block runs; `told["rows"]` holds its rows and `told["start"]` after it."""
    told, url = {}, f"http://{dns.API}:8080"
    mix = {"home": 0.7, "post": 0.3}
    playing = asyncio.create_task(load_selfcheck.play(url, folder, "poisson", for_s, mix=mix, rate_per_s=RATE_PER_S,
                                                      null_route=False, name_servers=servers(lab), probes=False))
    try:
        invokes = folder / "invokes.jsonl"
        await until(lambda: invokes.exists() and invokes.stat().st_size > 0, "the load", 30.0)
        yield told
        told["result"] = (await playing)[1]
        told["rows"] = driver.history(told["result"])
    finally:
        playing.cancel()


def lost(rows):
    """Return the operations none of whose attempts was answered with ok."""
    best = rows.assign(ok=rows["outcome"] == "ok").groupby("op").agg(ok=("ok", "max"), due_ns=("due_ns", "min"))
    return best[~best["ok"]]


def hosts(rows):
    return {address.partition(":")[0] for address in rows["address"]}


async def test_a_zones_doors_die_and_the_load_goes_through_the_other_zone(lab, tmp_path):
    """Balancer, DNS server and gateway of zone 1 at once: requests fail for no longer than DNS names it; then all is back."""
    one, two = (lab.plan.host("haproxy", zone) for zone in (1, 2))
    async with load(lab, tmp_path / "load", 16.0) as told:
        await asyncio.sleep(3.0)
        killed_ns = time.monotonic_ns()
        await kill(lab, "haproxy-1", "pdns-1", "gateway-1")
        took_s = await till_dns_says(lab, [2], of=[lab.plan.of("pdns", 2)])
        await asyncio.sleep(4.0)
        healed_ns = time.monotonic_ns()
        await heal(lab, "haproxy-1", "pdns-1", "gateway-1")
        back_s = await till_dns_says(lab, [1, 2])
    rows = told["rows"]
    bad = rows[rows["outcome"] != "ok"]
    after = rows[(rows["sent_ns"] > killed_ns + MOST_S * 1e9) & (rows["sent_ns"] < healed_ns)]
    print(f"\nwithout it in DNS after {took_s:.2f} s, back after {back_s:.2f} s; {len(rows)} attempts, {len(bad)} not ok, "
          f"{len(lost(rows))} operations lost")

    assert took_s < MOST_S
    assert hosts(rows[rows["sent_ns"] < killed_ns]) == {one, two}
    assert len(after) > 30 and hosts(after) == {two}
    assert set(after["outcome"]) == {"ok"}
    assert (bad["due_ns"] < killed_ns + MOST_S * 1e9).all()
    assert len(lost(rows)) == 0, "what was inside is tried again under its key"
    assert hosts(rows[rows["sent_ns"] > healed_ns + (back_s + 2.0) * 1e9]) == {one, two}
    assert told["result"].generator.lost == 0


async def test_dns_leaves_out_a_balancer_that_hangs(lab):
    """Its port still takes connections; its page does not answer."""
    hung = next(row.pid for row in await lab.status() if row.name == "haproxy-1")
    os.kill(hung, signal.SIGSTOP)
    try:
        took_s = await till_dns_says(lab, [2])
    finally:
        os.kill(hung, signal.SIGCONT)
    back_s = await till_dns_says(lab, [1, 2])

    print(f"\na hung balancer is out of DNS after {took_s:.2f} s and back {back_s:.2f} s after it goes on")
    assert took_s < MOST_S + 0.5 and back_s < MOST_S


async def test_dns_names_all_where_no_balancer_answers_and_is_not_called_well(lab):
    """A check that fails must not close the door; who looks at the lab is told."""
    await kill(lab, "haproxy-1", "haproxy-2")

    async def told():
        return {row.name: row.health for row in await lab.status() if row.kind == "pdns"}

    async def noticed():
        return set((await told()).values()) == {"no balancer has passed its check"}

    await until(noticed, "the DNS servers' word")
    assert [said(each) for each in servers(lab)] == [{lab.plan.host("haproxy", zone) for zone in (1, 2)}] * 2
    await heal(lab, "haproxy-1", "haproxy-2")
    await until(lambda: well(lab), "the lab's health")


def door(lab, instance):
    return haproxy_runtime.Mesh(str(lab.paths.data_dir / f"haproxy-{instance}.sock"))


async def known(lab, name, instances=(1, 2)):
    """Return in how many of these balancers a users instance stands and is up."""
    looks = [(await door(lab, instance).backends())["users"].servers.get(name) for instance in instances]
    return sum(server is not None and server.checks.startswith("UP") for server in looks)


@contextlib.asynccontextmanager
async def crowd(lab, instances=(1, 2), clients=3):
    """Let clients ask for a service through these balancers' mesh; the list holds (balancer, what came back)."""
    told, stop = [], asyncio.Event()

    async def one(session, instance):
        url = f"http://{lab.plan.host('haproxy', instance)}:8101/work?ms=1"
        while not stop.is_set():
            try:
                async with session.get(url) as answer:
                    body = await answer.json(content_type=None)
                    told.append((instance, body["instance"] if answer.status == 200 else f"HTTP {answer.status}"))
            except (aiohttp.ClientError, TimeoutError) as problem:
                told.append((instance, repr(problem)))
            await asyncio.sleep(0.01)

    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
        tasks = [asyncio.create_task(one(session, instance)) for instance in instances for _ in range(clients)]
        try:
            yield told
        finally:
            stop.set()
            await asyncio.gather(*tasks)


async def test_instances_come_and_go_in_both_balancers_without_a_failed_request(lab):
    """2 -> 4 -> 2 while clients ask through both; the further two stand in a zone each."""
    async with crowd(lab) as told:
        await lab.scale("users", 4)
        assert [await known(lab, name) for name in ("users-3", "users-4")] == [2, 2]
        zones = {row.zone for row in await lab.status() if row.name in ("users-3", "users-4")}
        told.clear()
        await asyncio.sleep(1.5)
        spread = set(told)
        await lab.scale("users", 2)
        told.clear()
        await asyncio.sleep(0.5)
        rest = set(told)

    assert zones == {1, 2}
    assert spread == {(at, f"users-{number}") for at in (1, 2) for number in (1, 2, 3, 4)}
    assert rest == {(at, f"users-{number}") for at in (1, 2) for number in (1, 2)}
    assert [name for name in ("users-3", "users-4") if await known(lab, name)] == []
    assert {row.name for row in await lab.status() if row.kind == "users"} == {"users-1", "users-2"}


async def test_instances_are_renewed_one_by_one_behind_both_without_a_failed_request(lab):
    """As when signing keys change: each is drained in both balancers before it stops."""
    before = {row.name: row.pid for row in await lab.status() if row.kind == "users"}
    async with crowd(lab) as told:
        renewed = await lab.renew("users", {"TWEETLAB_BUSY_FAILS": "nobody"})

    after = {row.name: row.pid for row in await lab.status() if row.kind == "users"}
    assert sorted(renewed) == sorted(after) == ["users-1", "users-2"]
    assert not set(before.values()) & set(after.values())
    assert {what for _, what in told} == {"users-1", "users-2", "users-3"} and {at for at, _ in told} == {1, 2}


async def test_one_dead_balancer_stops_no_change_and_no_healing_and_learns_it_all_when_it_is_back(lab):
    """Scaled out, ejected and replaced through the one that stands; the other gets the third instance after its start."""
    await lab.set_scaling(policies.Policies(mesh=policies.MeshKnobs(heal_s=2.0)))
    await kill(lab, "haproxy-1")
    async with crowd(lab, instances=(2,)) as told:
        await lab.scale("users", 3)
        alone = await known(lab, "users-3", (2,))
    hung = next(row for row in await lab.status() if row.name == "users-2")
    os.kill(hung.pid, signal.SIGSTOP)
    await until(lambda: not procs.is_alive(hung.pid, hung.start_ticks), "the replacement of what hangs", 20.0)
    await heal(lab, "haproxy-1")

    async def learned():
        with contextlib.suppress(CouldNotRun, KeyError):
            return [await known(lab, f"users-{number}") for number in (1, 2, 3)] == [2, 2, 2]
        return False

    took_s = await until(learned, "the third instance in both")
    async with crowd(lab) as after:
        await lab.scale("users", 2)

    print(f"\nthe balancer that came back has all instances after {took_s:.1f} s")
    assert alone == 1 and {what for _, what in told} <= {"users-1", "users-2", "users-3"}
    assert {what for _, what in after} <= {"users-1", "users-2", "users-3"} and {at for at, _ in after} == {1, 2}
