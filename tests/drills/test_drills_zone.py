"""The loss of a zone on the whole cluster: confirmed, undone even without its runner, and recovered."""

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from chaos import schedule, undo
from chaos.faults import table
from scenarios import spec
from system.kernel import settings
from system.kernel.telemetry import metrics
from system.observe import copies, stores
from system.observe.exporter import Exporter
from system.platform import blueprint, native, paths
from system.platform.process import procs
from tests.helpers.interrupted_runner import striking

pytestmark = [pytest.mark.campaign, pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(400)]
HELD_S = 25.0
ZONE_LOSS = table.FAULTS["zone_loss"]

MUST_HOLD = {"no_acknowledged_tweet_lost", "acknowledged_follows_stand", "idempotency_keys_are_honoured", "no_unauthorised_read",
             "unique_ids", "every_follower_sees_it"}

def series(name):
    lines = [line for line in metrics.text().decode().splitlines() if line.startswith(name)]
    return {line.rpartition(" ")[0].partition("{")[2].rstrip("}"): float(line.rpartition(" ")[2]) for line in lines}


async def exported(lab, monkeypatch):
    """Query every store once, as the exporter of an observed cluster does; return three of its series."""
    nodes = [[node.kind, lab.plan.of(node.kind, node.instance), node.name, node.zone] for node in blueprint.load("cluster").nodes]
    monkeypatch.setenv("TWEETLAB_MEMBERS", json.dumps(nodes))
    monkeypatch.setenv("TWEETLAB_STORES", json.dumps(lab.stores(await lab.blueprint())))
    exporter = Exporter(settings.from_env(), asked=[])
    try:
        await asyncio.gather(*(exporter.ask(*row) for row in stores.addresses(settings.from_env())))
        return series("tweetlab_zone_stores"), series("tweetlab_store_primary"), series("tweetlab_copies_missing")
    finally:
        await exporter.close()


async def test_a_lost_zone_is_reported_with_its_missing_replicas_and_recovers(cluster, monkeypatch):
    """No process of the zone lives during the fault.

    It has recovered when every store has all replicas again.
    """
    before = {row.name: row for row in await cluster.status()}
    drill = asyncio.create_task(schedule.run([spec.Fault(2.0, "zone_loss", "zone-3", for_s=HELD_S)], cluster, time.monotonic_ns(),
                                             cluster.paths.state))
    while True:  # until the others have detected it, which takes longer on a busy machine; the fault's end is the limit
        during = {row.name: row for row in await cluster.status()}
        zones, primaries, missing = await exported(cluster, monkeypatch)
        if drill.done() or ((zones['state="up",zone="3"'], zones['state="away",zone="1"']) == (0.0, 0.0) and sum(
                value for labels, value in primaries.items() if "postgres" in labels) == 1):
            break
        await asyncio.sleep(0.5)
    [record] = await drill
    after = {row.name: row for row in await cluster.status()}
    zone = {node.name for node in blueprint.load("cluster").in_zone(3)}

    assert record.void == ""
    assert record.recovered_ns is not None
    assert {name for name, row in during.items() if row.state == "dead"} == zone
    assert (zones['state="up",zone="3"'], zones['state="away",zone="1"']) == (0.0, 0.0)
    assert max(value for labels, value in missing.items() if "kafka" in labels) > 0
    assert sum(value for labels, value in primaries.items() if "postgres" in labels) == 1
    assert {name for name in zone if procs.is_alive(before[name].pid, before[name].start_ticks)} == set()
    assert {name: row.health for name, row in after.items() if row.health != "healthy"} == {}
    assert await copies.missing(list(after.values())) == []


def test_nothing_acknowledged_is_lost_with_the_zone_of_the_primaries(cluster):
    """The scenario itself, shortened.

    It asserts the guarantees to users, not speed, since other programs share the machine.
    """
    command = [sys.executable, "-m", "tweetlab", "run", "zone_loss", "--on", "system", "--json",
               "--set", "workload.stages=[{for: 50 s, rate: 20/s}]", "--set", "faults.0.at=15 s", "--set", "faults.0.for=20 s",
               "--set", "measure.warm_up=5 s", "--set", "objectives=[errors < 100 % whole]"]
    done = subprocess.run(command, cwd=paths.CODE, capture_output=True, text=True, timeout=390)
    assert done.stdout, done.stderr[-3000:]
    summary = json.loads(done.stdout)[0]
    [fault] = json.loads((Path(summary["run"]) / "faults.json").read_text())

    assert fault["void"] == ""
    assert "redis" in " ".join(fault["facts"]["primaries"])
    assert fault["recovered_ns"] is not None
    assert {row["name"]: (row["verdict"], row["note"]) for row in summary["invariants"] if row["verdict"] == "fail"} == {}
    assert {row["name"] for row in summary["invariants"] if row["verdict"] == "pass"} >= MUST_HOLD


async def test_a_runner_killed_during_the_fault_leaves_no_zone_dead(cluster):
    """Its watchdog switches automatic restart on again for each node of the zone."""
    runner = await striking(cluster.paths, "zone_loss", "zone-3")
    dead = await dead_within(cluster, 10)
    runner.kill()
    await runner.wait()
    ends_s = time.monotonic() + 120
    while await unhealthy(cluster) and time.monotonic() < ends_s:
        await asyncio.sleep(1.0)

    assert dead == {node.name for node in blueprint.load("cluster").in_zone(3)}
    assert await unhealthy(cluster) == []
    assert undo.UndoLog(undo.path_of(cluster.paths.state)).pending() == []


async def dead_within(lab: native.Lab, seconds: float):
    """Return the dead nodes once all of zone-3 are; a JVM takes a moment to release its memory after SIGKILL."""
    ends_s = time.monotonic() + seconds
    while True:
        dead = {row.name for row in await lab.status() if row.state == "dead"}
        if len(dead) >= len(blueprint.load("cluster").in_zone(3)) or time.monotonic() > ends_s:
            return dead
        await asyncio.sleep(0.2)


async def unhealthy(lab: native.Lab):
    return [f"{row.name} {row.health}" for row in await lab.status() if row.health != "healthy" or not row.auto_heal]
