"""Two load balancers behind two DNS servers: one dies, hangs, recovers; instances are added and removed in
both.

A lab of load balancers only: HAProxy and PowerDNS of two zones, a stand-in for the gateway and a keep-alive
service in each. The load comes from the generator, in its own process, by DNS name.
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
BALANCERS = Blueprint("balancers", (
    *CLUSTER.of_kind("haproxy"), *CLUSTER.of_kind("pdns"),
    *(Node(f"{kind}-{zone}", kind, "service", zone, zone=zone, module=module)
      for kind, module in MODULES.items() for zone in (1, 2))))
MOST_S = 3.0  # 1 s between checks, 1 s for a check that hangs, 1 s of TTL
RATE_PER_S = 50.0


@pytest.fixture
async def lab(tmp_path):
    """The load balancers of two zones; removed with their data."""
    native_lab = native.Lab(tmp_path, RANGE)
    await native_lab.up(BALANCERS)
    yield native_lab
    await native_lab.down(purge=True)


def servers(lab):
    return [lab.plan.of("pdns", instance) for instance in (1, 2)]


def resolved(server):
    """Return the addresses that a DNS server returns now; None if it does not answer."""
    with contextlib.suppress(CouldNotRun):
        return set(dns.ask(server, dns.API, 0.5))
    return None


async def until(condition, what, timeout_s=15.0):
    """Wait for `condition`; return how long it took, in seconds."""
    began = time.monotonic()
    while time.monotonic() - began < timeout_s:
        result = condition()
        if await result if asyncio.iscoroutine(result) else result:
            return time.monotonic() - began
        await asyncio.sleep(0.02)
    pytest.fail(f"{what} did not happen within {timeout_s} s")


async def until_dns_lists(lab, balancers, of=None, timeout_s=15.0):
    """Wait until every DNS server in `of` (None: all) lists exactly these load balancers.

    Return the seconds it took.
    """
    wanted = {lab.plan.host("haproxy", instance) for instance in balancers}
    return await until(lambda: all(resolved(each) == wanted for each in of or servers(lab)), f"an answer of {wanted}", timeout_s)


async def kill(lab, *nodes):
    """Kill nodes and switch their automatic restart off."""
    for node in nodes:
        await lab.auto_heal(node, False)
    await asyncio.gather(*(lab.kill(node) for node in nodes))


async def restart(lab, *nodes):
    for node in nodes:
        await lab.auto_heal(node, True)


async def is_healthy(lab):
    return all(row.health == "healthy" and row.state == "healthy" for row in await lab.status())


@contextlib.asynccontextmanager
async def load(lab, folder, for_s):
    """Run the generator against the DNS name during the block.

    Afterwards the dict has its `result` and its `rows`.
    """
    outcome, url = {}, f"http://{dns.API}:8080"
    mix = {"home": 0.7, "post": 0.3}
    generator = asyncio.create_task(load_selfcheck.play(url, folder, "poisson", for_s, mix=mix, rate_per_s=RATE_PER_S,
                                                      null_route=False, name_servers=servers(lab), probes=False))
    try:
        invokes = folder / "invokes.jsonl"
        await until(lambda: invokes.exists() and invokes.stat().st_size > 0, "the load", 30.0)
        yield outcome
        outcome["result"] = (await generator)[1]
        outcome["rows"] = driver.history(outcome["result"])
    finally:
        generator.cancel()


def lost(rows):
    """Return the operations without a successful attempt."""
    best = rows.assign(ok=rows["outcome"] == "ok").groupby("op").agg(ok=("ok", "max"), due_ns=("due_ns", "min"))
    return best[~best["ok"]]


def hosts(rows):
    return {address.partition(":")[0] for address in rows["address"]}


async def test_when_a_zones_load_balancer_dies_traffic_moves_to_the_other_zone(lab, tmp_path):
    """Load balancer, DNS server and gateway of zone 1 die together: requests fail only while DNS lists it."""
    one, two = (lab.plan.host("haproxy", zone) for zone in (1, 2))
    async with load(lab, tmp_path / "load", 16.0) as outcome:
        await asyncio.sleep(3.0)
        killed_ns = time.monotonic_ns()
        await kill(lab, "haproxy-1", "pdns-1", "gateway-1")
        took_s = await until_dns_lists(lab, [2], of=[lab.plan.of("pdns", 2)])
        await asyncio.sleep(4.0)
        restarted_ns = time.monotonic_ns()
        await restart(lab, "haproxy-1", "pdns-1", "gateway-1")
        back_s = await until_dns_lists(lab, [1, 2])
    rows = outcome["rows"]
    bad = rows[rows["outcome"] != "ok"]
    after = rows[(rows["sent_ns"] > killed_ns + MOST_S * 1e9) & (rows["sent_ns"] < restarted_ns)]
    print(f"\nwithout it in DNS after {took_s:.2f} s, back after {back_s:.2f} s; {len(rows)} attempts, {len(bad)} not ok, "
          f"{len(lost(rows))} operations lost")

    assert took_s < MOST_S
    assert hosts(rows[rows["sent_ns"] < killed_ns]) == {one, two}
    assert len(after) > 30 and hosts(after) == {two}
    assert set(after["outcome"]) == {"ok"}
    assert (bad["due_ns"] < killed_ns + MOST_S * 1e9).all()
    assert len(lost(rows)) == 0, "requests in flight are retried with their idempotency key"
    assert hosts(rows[rows["sent_ns"] > restarted_ns + (back_s + 2.0) * 1e9]) == {one, two}
    assert outcome["result"].generator.lost == 0


async def test_dns_removes_a_load_balancer_that_hangs(lab):
    """Its port still accepts connections; its page does not answer."""
    hung = next(row.pid for row in await lab.status() if row.name == "haproxy-1")
    os.kill(hung, signal.SIGSTOP)
    try:
        took_s = await until_dns_lists(lab, [2])
    finally:
        os.kill(hung, signal.SIGCONT)
    back_s = await until_dns_lists(lab, [1, 2])

    print(f"\na hung load balancer is out of DNS after {took_s:.2f} s and back {back_s:.2f} s after it resumes")
    assert took_s < MOST_S + 0.5 and back_s < MOST_S


async def test_dns_lists_all_load_balancers_if_none_answers_and_is_unhealthy(lab):
    """Failed checks must not make the lab unreachable; `status` reports them."""
    await kill(lab, "haproxy-1", "haproxy-2")

    async def reported():
        return {row.name: row.health for row in await lab.status() if row.kind == "pdns"}

    async def noticed():
        return set((await reported()).values()) == {"no load balancer has passed its check"}

    await until(noticed, "the DNS servers' report")
    assert [resolved(each) for each in servers(lab)] == [{lab.plan.host("haproxy", zone) for zone in (1, 2)}] * 2
    await restart(lab, "haproxy-1", "haproxy-2")
    await until(lambda: is_healthy(lab), "the lab's health")


def runtime(lab, instance):
    return haproxy_runtime.HaproxyRuntime(str(lab.paths.data_dir / f"haproxy-{instance}.sock"))


async def known(lab, name, instances=(1, 2)):
    """Return in how many of these load balancers a users instance is up."""
    rows = [(await runtime(lab, instance).backends())["users"].servers.get(name) for instance in instances]
    return sum(server is not None and server.checks.startswith("UP") for server in rows)


@contextlib.asynccontextmanager
async def crowd(lab, instances=(1, 2), clients=3):
    """Let clients call a service through these load balancers.

    The list collects (load balancer, instance or error).
    """
    results, stop = [], asyncio.Event()

    async def call(session, instance):
        url = f"http://{lab.plan.host('haproxy', instance)}:8101/work?ms=1"
        while not stop.is_set():
            try:
                async with session.get(url) as answer:
                    body = await answer.json(content_type=None)
                    results.append((instance, body["instance"] if answer.status == 200 else f"HTTP {answer.status}"))
            except (aiohttp.ClientError, TimeoutError) as problem:
                results.append((instance, repr(problem)))
            await asyncio.sleep(0.01)

    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
        tasks = [asyncio.create_task(call(session, instance)) for instance in instances for _ in range(clients)]
        try:
            yield results
        finally:
            stop.set()
            await asyncio.gather(*tasks)


async def test_scaling_changes_both_load_balancers_without_a_failed_request(lab):
    """2 -> 4 -> 2 while clients call through both; the two added instances are in one zone each."""
    async with crowd(lab) as results:
        await lab.scale("users", 4)
        assert [await known(lab, name) for name in ("users-3", "users-4")] == [2, 2]
        zones = {row.zone for row in await lab.status() if row.name in ("users-3", "users-4")}
        results.clear()
        await asyncio.sleep(1.5)
        spread = set(results)
        await lab.scale("users", 2)
        results.clear()
        await asyncio.sleep(0.5)
        rest = set(results)

    assert zones == {1, 2}
    assert spread == {(at, f"users-{number}") for at in (1, 2) for number in (1, 2, 3, 4)}
    assert rest == {(at, f"users-{number}") for at in (1, 2) for number in (1, 2)}
    assert [name for name in ("users-3", "users-4") if await known(lab, name)] == []
    assert {row.name for row in await lab.status() if row.kind == "users"} == {"users-1", "users-2"}


async def test_a_rolling_restart_behind_both_load_balancers_fails_no_request(lab):
    """As when signing keys change: each instance is drained in both load balancers before it stops."""
    before = {row.name: row.pid for row in await lab.status() if row.kind == "users"}
    async with crowd(lab) as results:
        restarted = await lab.rolling_restart("users", {"TWEETLAB_BUSY_FAILS": "nobody"})

    after = {row.name: row.pid for row in await lab.status() if row.kind == "users"}
    assert sorted(restarted) == sorted(after) == ["users-1", "users-2"]
    assert not set(before.values()) & set(after.values())
    assert {what for _, what in results} == {"users-1", "users-2", "users-3"} and {at for at, _ in results} == {1, 2}


async def test_a_dead_load_balancer_blocks_no_change_and_catches_up_when_it_is_back(lab):
    """Scaled out, ejected and replaced through the running one.

    The other gets the third instance after its restart.
    """
    await lab.set_scaling(policies.Policies(mesh=policies.MeshKnobs(heal_s=2.0)))
    await kill(lab, "haproxy-1")
    async with crowd(lab, instances=(2,)) as results:
        await lab.scale("users", 3)
        in_running = await known(lab, "users-3", (2,))
    hung = next(row for row in await lab.status() if row.name == "users-2")
    os.kill(hung.pid, signal.SIGSTOP)
    await until(lambda: not procs.is_alive(hung.pid, hung.start_ticks), "the replacement of the hung instance", 20.0)
    await restart(lab, "haproxy-1")

    async def caught_up():
        with contextlib.suppress(CouldNotRun, KeyError):
            return [await known(lab, f"users-{number}") for number in (1, 2, 3)] == [2, 2, 2]
        return False

    took_s = await until(caught_up, "the third instance in both")
    async with crowd(lab) as after:
        await lab.scale("users", 2)

    print(f"\nthe restarted load balancer has all instances after {took_s:.1f} s")
    assert in_running == 1 and {what for _, what in results} <= {"users-1", "users-2", "users-3"}
    assert {what for _, what in after} <= {"users-1", "users-2", "users-3"} and {at for at, _ in after} == {1, 2}
