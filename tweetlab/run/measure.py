"""The measured part of a run: the load, the faults and the samples on one clock, until the queues have drained.

Ctrl-C, a dead generator or a dead server ends the load early or leaves gaps, and what was measured until then is
returned. If anything is raised after the load started, active faults are undone first, and the raw rows of the load
stay in `raw_folder` until the next run.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from chaos import schedule
from chaos.fault_records import FaultRecord
from scenarios import spec, workload
from scenarios.world import seeded_world
from sim import speed
from system.kernel import events
from system.kernel.errors import LabError
from system.kernel.policies import AutoscaleKnobs
from system.platform import native
from system.platform.process import procs
from tweetlab.lab import traces
from tweetlab.lab.session import Session
from tweetlab.load import driver, journal
from tweetlab.run import canaries, foreign, sampler, speed_probe

GROUPS = events.GROUPS
DRAIN_S = 30.0  # longest wait for the queues to drain, which starts after the last fault
RELAY_S = 9.0   # the relay gives a publisher 3 s and scans every 5 s (system/services/relay/policy.py)
TAIL_S = 1.0    # Elasticsearch refreshes once a second; then what was indexed last is visible


@dataclass(frozen=True)
class Inputs:
    """Everything that is drawn from the seed before a run; the same for the system and the twin."""

    world: seeded_world.World
    tape: workload.Tape


@dataclass(frozen=True)
class Measured:
    """What was measured: load, faults and samples. The defaults describe a run whose load never started.

    `start_ns`, `start_wall_ms`: start of the load by both clocks, 0 where it never started. `samples`: None
    where nothing was sampled. `problems`: why the run did not end cleanly, a line each. `sampling_problems`:
    gaps in the samples. `scaling`: decisions of the autoscaler, a line each. `slow_traces`, `trace_file`: the
    slowest traced requests as a summary and as a file. `canary`: the word that no reply may contain, "" where
    none was planted. `foreign`: the programs outside the lab that used most CPU.
    """

    start_ns: int = 0
    start_wall_ms: int = 0
    load: driver.LoadResult | None = None
    faults: tuple[FaultRecord, ...] = ()
    samples: tuple[sampler.Sample, ...] | None = None
    problems: tuple[str, ...] = ()
    sampling_problems: tuple[str, ...] = ()
    interrupted: bool = False
    scaling: tuple[str, ...] = ()
    slow_traces: Mapping[str, Any] = field(default_factory=dict)
    trace_file: str = ""
    canary: str = ""
    foreign: tuple[foreign.Program, ...] = ()
    core_speed: Mapping[str, float] = field(default_factory=dict)


def draw(scenario: spec.Scenario) -> Inputs:
    """Draw the world and the arrivals of `scenario`. Raises WrongInput where they cannot be drawn."""
    world = seeded_world.draw(scenario.population, scenario.seed)
    return Inputs(world, workload.draw_over(scenario, world))


def raw_folder(lab: native.Lab) -> Path:
    """Return the folder with the rows of the last load, as the generator wrote them."""
    return lab.paths.state / "last-load"


async def measure(lab: Session, scenario: spec.Scenario, inputs: Inputs, stop: asyncio.Event, *, probes: bool) -> Measured:
    """Run the load of `scenario` with its faults, wait until the queues have drained, and return what was measured.

    `probes`: also poll delivery by the API and plant a canary. `stop`: set it to end the load early.
    """
    problems: list[str] = []
    done = asyncio.Event()
    redis = lab.redis()
    canary = await canaries.plant(lab, inputs.tape) if probes else ""
    progress = journal.Journal(journal.path_of(lab.lab.paths.state), scenario, driver.progress_display(lab.screen.err))
    target = driver.Target(lab.base_url, lab.jwt_secret, name_servers=lab.name_servers)
    load = driver.Load(scenario, inputs.tape, target, raw_folder(lab.lab), on_second=progress,
                       options=driver.Options(graph=inputs.world.graph, probes=probes, canary=canary))
    since_ms = int(time.time() * 1e3)
    probe = speed_probe.Probe(lab.lab.paths.state / "speed-probe")
    try:
        await lab.lab.set_scaling(scenario.policies, scenario.cpu_quota)
        start_ns, start_wall_ms = await load.begin()
        progress.started(start_wall_ms)
        samples = sampler.Sampler(_sources(lab, load.pid, redis, bool(scenario.policies.autoscale.max), probe), start_ns)
        sampling = asyncio.create_task(samples.run(done))
        watch = foreign.Watch([os.getpid(), *await _supervisor(lab)], lab.lab.paths.lab_id)
        watching = asyncio.create_task(_watch(watch, done))
        injecting = asyncio.create_task(schedule.run(
            scenario.faults_in_load, lab.lab, start_ns, lab.lab.paths.state, stop=stop, load_s=scenario.workload.load_s))
        try:
            result = await load.finish(stop)
            interrupted = stop.is_set()
            faults = tuple(await injecting)
            with lab.screen.step("waiting for the queues to drain"):
                problems += await _drain(lab, any(fault.kind != "cache_loss" for fault in scenario.faults_in_load))
        finally:
            # On any error, active faults are undone and the samples so far are kept.
            stop.set()
            done.set()
            ended = await asyncio.gather(injecting, sampling, watching, return_exceptions=True)
            problems += [repr(problem) for problem in ended if isinstance(problem, BaseException)]
            scaling = await _remove_scaling(lab, scenario, since_ms)
    finally:
        probe.stop()
        await load.close()
        await redis.aclose()
    measured = Measured(start_ns, start_wall_ms, result, faults, tuple(samples.rows), tuple(problems),
                        tuple(samples.problems), interrupted, tuple(scaling), canary=canary, foreign=tuple(watch.busiest()),
                        core_speed=_core_speed(probe))
    return await _with_traces(lab, scenario, measured)


def _core_speed(probe: speed_probe.Probe) -> dict[str, float]:
    rows = probe.rows()
    by_core = [rows[rows[:, 1] == core] for core in np.unique(rows[:, 1])]
    return dataclasses.asdict(speed.core_speed([one[:, 2] for one in by_core], [one[:, 0] / 1e9 for one in by_core]))


async def _watch(watch: foreign.Watch, done: asyncio.Event) -> None:
    """Read the CPU of foreign processes every few seconds until `done` is set."""
    while not done.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(done.wait(), foreign.EVERY_S)
        watch.read()


async def _supervisor(lab: Session) -> list[int]:
    """Return the pid of the lab's supervisor, the parent of its nodes; none if no node runs."""
    parents = {row.parent for node in await lab.lab.status() if node.pid and (row := procs.stat(node.pid)) and row.parent > 1}
    return sorted(parents)


def forget_last_load(lab: native.Lab) -> None:
    """Remove the raw rows of the previous run.

    They are kept until now so that a full disk does not lose a measurement.
    """
    shutil.rmtree(raw_folder(lab), ignore_errors=True)


def _sources(lab: Session, generator_pid: int, redis: Any, scaled: bool, probe: speed_probe.Probe) -> sampler.Sources:
    kernel = foreign.kernel_threads()

    async def cpu() -> dict[str, float]:
        used = {node: float(ns) for node, ns in (await lab.lab.cpu_ns()).items()}
        return used | ({foreign.KERNEL: foreign.cpu_ns(kernel)} if kernel else {})

    async def memory() -> dict[str, float]:
        return {node: float(rss) for node, rss in (await lab.lab.rss_bytes()).items()}

    async def lag() -> dict[str, float]:
        return {group: float(count) for group, count in (await _lags(lab)).items()}

    async def counters() -> dict[str, float]:
        info = await redis.info("stats")
        hits = {"redis_hits": float(info["keyspace_hits"]), "redis_misses": float(info["keyspace_misses"])}
        return hits | await probe.counters()

    async def instances() -> dict[str, float]:
        return {service: float(count) for service, count in (await lab.lab.scaling())["instances"].items()}

    pids = {"load-generator": generator_pid, "runner": os.getpid(), speed_probe.NAME: probe.pid}
    return sampler.Sources(cpu, memory, lag, counters, pids, instances if scaled else None)


async def _lags(lab: Session) -> dict[str, int]:
    """Return the lag of each consumer group, in records."""
    return {group: sum((await lab.ports.log.lag(group, topics)).values()) for group, topics in GROUPS.items()}


async def _remove_scaling(lab: Session, scenario: spec.Scenario, since_ms: int) -> list[str]:
    """Remove quotas and autoscaling; return the autoscaler's decisions since `since_ms` (wall time)."""
    if not scenario.policies.autoscale.max and scenario.cpu_quota is None:
        return []
    with lab.screen.step("removing the added instances"):
        decisions = (await lab.lab.scaling())["decisions"]
        await lab.lab.set_scaling(dataclasses.replace(scenario.policies, autoscale=AutoscaleKnobs()), None)
    return [f"{row['at_ms']} {row['service']}: {row['what']}: {row['why']}" for row in decisions
            if row["at_ms"] >= since_ms]


async def _drain(lab: Session, relayed: bool) -> list[str]:
    """Wait until no consumer lags, then let the index refresh.

    Return the problem if some consumers still lag after DRAIN_S.

    `relayed`: a process died, so there may be events that only the relay will publish; no consumer lag
    includes them yet.
    """
    if relayed:
        await asyncio.sleep(RELAY_S)
    deadline = time.monotonic() + DRAIN_S
    while True:
        try:
            lags = await _lags(lab)
        except LabError as problem:
            lags = {str(problem): 1}
        if not any(lags.values()):
            break
        if time.monotonic() > deadline:
            return [f"queues not empty after {DRAIN_S:.0f} s: {lags}"]
        await asyncio.sleep(0.25)
    await asyncio.sleep(TAIL_S)
    return []


async def _with_traces(lab: Session, scenario: spec.Scenario, measured: Measured) -> Measured:
    """Add the slowest traced requests of the load if the lab runs the observability stack."""
    if not (await lab.lab.blueprint()).of_kind("jaeger"):
        return measured
    ends_ms = measured.start_wall_ms + scenario.workload.load_s * 1000
    try:
        summary, file = await traces.of_run(f"http://{lab.lab.address('jaeger')}", (measured.start_wall_ms, ends_ms))
    except LabError as problem:
        return dataclasses.replace(measured, problems=(*measured.problems, f"no traces: {problem.detail}"))
    return dataclasses.replace(measured, slow_traces=summary, trace_file=file)
