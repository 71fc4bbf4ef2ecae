"""One run on the real system: from a scenario to the facts that the report judges.

    reset -> smoke journey -> load, faults and samples on one clock -> quiet -> final reads -> invariants -> facts

Whatever happens after the load began (Ctrl-C, a dead server), what was seen until then becomes a record.
"""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from chaos import invariants, schedule
from chaos.evidence import collect
from chaos.evidence.bundle import Bounds, Canary, RunClock
from chaos.fault_records import FaultRecord
from reports import columns, facts, finish, record
from scenarios import plan, spec, workload
from scenarios.world import population, private_circle
from scenarios.world import seeded_tweets as past_tweets
from system.kernel import events
from system.kernel.errors import CouldNotRun, LabError, StoreUnavailable
from system.kernel.policies import AutoscaleKnobs
from system.platform import native
from tweetlab import home
from tweetlab.lab import host, session, traces
from tweetlab.lab.session import Session
from tweetlab.load import driver, journal, tables
from tweetlab.run import canaries, sampler, seeding, smoke
from tweetlab.run import effect_log_reader as effects

GROUPS = events.GROUPS
SEED_TRIES, SEED_PAUSE_S = 3, 5.0  # a primary that is moved on purpose takes 2 to 4 s
QUIET_S = 30.0  # longest wait for queues to drain; drilled outages are over by then
RELAY_S = 9.0   # the relay gives a publisher 3 s and walks every 5 s (system/services/relay/policy.py)
TAIL_S = 1.0    # Elasticsearch refreshes once a second: what was indexed last becomes visible


@dataclass
class World:
    """What stands before the load: who follows whom, what was tweeted, and the arrivals."""

    graph: population.Graph
    past: past_tweets.History
    tape: workload.Tape


@dataclass
class Seen:
    """What a run has seen so far; grows while it goes."""

    start_ns: int = 0
    start_wall_ms: int = 0
    load: driver.LoadResult | None = None
    faults: list[FaultRecord] = field(default_factory=list)
    sampler: sampler.Sampler | None = None
    journey: list[smoke.Step] = field(default_factory=list)
    findings: list[Any] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    interrupted: bool = False
    edges: tuple[Any, Any] | None = None
    scaling: list[str] = field(default_factory=list)
    traces: dict[str, Any] = field(default_factory=dict)
    trace_file: str = ""
    canary: str = ""


@dataclass(frozen=True)
class Tables:
    """What a load left behind, as tables."""

    history: pd.DataFrame
    probes: pd.DataFrame
    planned: pd.DataFrame
    effects: pd.DataFrame


def world_of(scenario: spec.Scenario) -> World:
    """Draw graph, history and arrivals of `scenario`; the same for system and twin."""
    graph = population.graph_of(scenario.population, scenario.seed)
    past = past_tweets.generate(graph.users, scenario.population.history_tweets, scenario.seed)
    return World(graph, past, workload.draw(scenario, graph, past))


async def run(lab: Session, scenario: spec.Scenario, command: str, *, world: World | None = None, keep_data: bool = False,
              check: bool = True, stop: asyncio.Event | None = None, group: str = "") -> facts.Facts:
    """Run `scenario` once on the lab.

    `check`: poll delivery by the API, make final reads and judge invariants. `stop`: set it to end the load early.
    """
    with session.alone(lab.lab):
        return await _run(lab, scenario, command, world or world_of(scenario), keep_data, check, stop or asyncio.Event(), group)


async def _seeded(lab: Session, scenario: spec.Scenario, world: World) -> dict[str, Any]:
    """Return the manifest of what was seeded. Begins again where a store went away: after a drill a primary may still move."""
    for left in reversed(range(SEED_TRIES)):
        try:
            return await seeding.ensure(lab, scenario, world.graph, world.past)
        except StoreUnavailable as problem:
            if not left:
                raise
            lab.screen.say(f"seeding begins again in {SEED_PAUSE_S:g} s: {problem}")
            await asyncio.sleep(SEED_PAUSE_S)
    raise AssertionError("there is a last try")


async def _run(lab: Session, scenario: spec.Scenario, command: str, world: World, keep_data: bool, check: bool,
               stop: asyncio.Event, group: str) -> facts.Facts:
    seen = Seen()
    manifest: Mapping[str, Any] = {}
    await lab.sample_sparsely()
    if keep_data:
        real: Any = lab.ports
        seen.edges = await real.users.all_edges()
    else:
        manifest = await _seeded(lab, scenario, world)
    with lab.screen.step("smoke journey"):
        seen.journey = await smoke.journey(lab.base_url)
    # Stays until the next run begins: where the record cannot be written (a full disk), nothing that was seen is lost.
    folder = raw_folder(lab.lab)
    shutil.rmtree(folder, ignore_errors=True)
    if all(step.ok for step in seen.journey):
        await _load(lab, scenario, world, seen, folder, stop, check)
        await _trace(lab, scenario, seen)
    history, probes, planned = _tables(seen, world)
    table = effects.read(lab.effects_dir, from_ns=seen.start_ns or time.monotonic_ns())
    if check and seen.load is not None:
        await _judge(lab, scenario, world, seen, history, table)
    return _facts(lab, scenario, seen, Tables(history, probes, planned, table), manifest, command, group)


def raw_folder(lab: native.Lab) -> Path:
    """Return where the rows of the last load lie, as the generator wrote them."""
    return lab.paths.state / "last-load"


def finished(told: facts.Facts, lab: native.Lab, runs: Path = home.RUNS) -> record.Run:
    """Write a run's record and report. Raises CouldNotRun, naming where the raw rows are kept, if the disk refuses."""
    try:
        return finish.finish(runs, told)
    except (CouldNotRun, OSError) as problem:
        raise CouldNotRun(f"{problem} The rows of the load are kept in {raw_folder(lab)} until the next run.") from problem


async def _load(lab: Session, scenario: spec.Scenario, world: World, seen: Seen, folder: Path, stop: asyncio.Event,
                probes: bool) -> None:
    done = asyncio.Event()
    redis = lab.redis()
    seen.canary = await canaries.planted(lab, world.tape) if probes else ""
    diary = journal.Journal(journal.path_of(lab.lab.paths.state), scenario, driver.teller(lab.screen.err))
    load = driver.Load(scenario, world.tape, lab.base_url, lab.jwt_secret, folder, graph=world.graph, probes=probes,
                       on_second=diary, canary=seen.canary, name_servers=lab.name_servers)
    since_ms = int(time.time() * 1e3)
    try:
        await lab.lab.set_scaling(scenario.policies, scenario.cpu_quota)
        seen.start_ns, seen.start_wall_ms = await load.begin()
        diary.started(seen.start_wall_ms)
        seen.sampler = sampler.Sampler(_sources(lab, load.pid, redis, bool(scenario.policies.autoscale.max)), seen.start_ns)
        watching = asyncio.create_task(seen.sampler.run(done))
        state = lab.lab.paths.state
        faults = schedule.run(scenario.faults_in_load, lab.lab, seen.start_ns, state, stop=stop,
                              load_s=scenario.workload.load_s)
        drills = asyncio.create_task(faults)
        try:
            seen.load = await load.finish(stop)
            seen.interrupted = stop.is_set()
            seen.faults = list(await drills)
            with lab.screen.step("waiting for the queues to drain"):
                await _quiet(lab, seen, any(fault.kind != "cache_loss" for fault in scenario.faults_in_load))
        finally:
            # Whatever went wrong: a fault that stands is undone, and the samples so far are kept.
            stop.set()
            done.set()
            told = await asyncio.gather(drills, watching, return_exceptions=True)
            seen.problems += [repr(problem) for problem in told if isinstance(problem, BaseException)]
            seen.scaling = await _unscaled(lab, scenario, since_ms)
    finally:
        await load.close()
        await redis.aclose()


def _sources(lab: Session, generator_pid: int, redis: Any, scaled: bool) -> sampler.Sources:
    async def cpu() -> dict[str, float]:
        return {node: float(ns) for node, ns in (await lab.lab.cpu_ns()).items()}

    async def memory() -> dict[str, float]:
        return {node: float(rss) for node, rss in (await lab.lab.rss_bytes()).items()}

    async def lag() -> dict[str, float]:
        return {group: float(sum((await lab.ports.log.lag(group, topics)).values())) for group, topics in GROUPS.items()}

    async def counters() -> dict[str, float]:
        info = await redis.info("stats")
        return {"redis_hits": float(info["keyspace_hits"]), "redis_misses": float(info["keyspace_misses"])}

    import os

    async def instances() -> dict[str, float]:
        return {service: float(count) for service, count in (await lab.lab.scaling())["instances"].items()}

    pids = {"load-generator": generator_pid, "runner": os.getpid()}
    return sampler.Sources(cpu, memory, lag, counters, pids, instances if scaled else None)


async def _unscaled(lab: Session, scenario: spec.Scenario, since_ms: int) -> list[str]:
    """Lift quotas and scaling, and return what the autoscaler did since wall time `since_ms`, a line each."""
    if not scenario.policies.autoscale.max and scenario.cpu_quota is None:
        return []
    with lab.screen.step("taking the added instances down"):
        decisions = (await lab.lab.scaling())["decisions"]
        await lab.lab.set_scaling(dataclasses.replace(scenario.policies, autoscale=AutoscaleKnobs()), None)
    return [f"{row['at_ms']} {row['service']}: {row['what']}: {row['why']}" for row in decisions
            if row["at_ms"] >= since_ms]


async def _quiet(lab: Session, seen: Seen, relayed: bool) -> None:
    """Wait until no consumer lags, then let the index refresh. What still lags after QUIET_S is a problem of the run.

    `relayed`: a process died, so events may be left that only the relay will publish; they are not in any lag yet.
    """
    if relayed:
        await asyncio.sleep(RELAY_S)
    ends = time.monotonic() + QUIET_S
    while True:
        try:
            lags = {g: sum((await lab.ports.log.lag(g, topics)).values()) for g, topics in GROUPS.items()}
        except LabError as problem:
            lags = {str(problem): 1}
        if not any(lags.values()):
            break
        if time.monotonic() > ends:
            seen.problems.append(f"queues not empty after {QUIET_S:.0f} s: {lags}")
            return
        await asyncio.sleep(0.25)
    await asyncio.sleep(TAIL_S)


async def _trace(lab: Session, scenario: spec.Scenario, seen: Seen) -> None:
    """Keep the slowest traced requests of the load, where the lab is observed."""
    if not (await lab.lab.blueprint()).of_kind("jaeger"):
        return
    ends_ms = seen.start_wall_ms + scenario.workload.load_s * 1000
    try:
        seen.traces, seen.trace_file = await traces.of_run(f"http://{lab.lab.address('jaeger')}", (seen.start_wall_ms, ends_ms))
    except LabError as problem:
        seen.problems.append(f"no traces: {problem.detail}")


def _tables(seen: Seen, world: World) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """History, probes and plan; where the load never began, nothing was seen of what was planned."""
    if seen.load is None:
        nothing = columns.conform("history", None)
        return nothing, columns.conform("probes", None), tables.planned(world.tape, seen.start_ns, nothing)
    return driver.history(seen.load), driver.probes(seen.load), driver.planned(seen.load)


async def _judge(lab: Session, scenario: spec.Scenario, world: World, seen: Seen, history: pd.DataFrame,
                 table: pd.DataFrame) -> None:
    with lab.screen.step("final reads and invariants"):
        planned = plan.plan_of(scenario, world.tape.planned(), world.graph.users, kept_data=seen.edges is not None)
        circle = private_circle.Circle(world.graph, world.tape.protected)
        likes = private_circle.likes_of(circle, world.past, scenario.population, scenario.seed).pairs()
        load = collect.Load(history, table, RunClock(seen.start_ns, seen.start_wall_ms),
                            not seen.problems, seen.faults, bounds=Bounds(limits=scenario.policies.limits), plan=planned)
        seeded = collect.Seeded(seen.edges or world.graph.pairs(), world.past.tweet_ids,
                                authors=world.past.authors if seen.edges is None else None,
                                protected=world.tape.protected, likes=likes)
        system = collect.System(lab.ports, lab.base_url, lab.token)
        evidence = await collect.collect(load, seeded, system, scenario.seed)
        if seen.canary and seen.load is not None:
            evidence = dataclasses.replace(evidence, load_canary=Canary(seen.load.scanned, seen.load.leaks, True))
        seen.findings = list(invariants.judge(evidence))


def _facts(lab: Session, scenario: spec.Scenario, seen: Seen, tables: Tables, manifest: Mapping[str, Any], command: str,
           group: str) -> facts.Facts:
    watch = seen.sampler
    generator = seen.load.generator if seen.load else None
    failed = next((step for step in seen.journey if not step.ok), None)
    steal = _steal(watch, scenario.workload.load_s)
    started = datetime.datetime.fromtimestamp((seen.start_wall_ms or time.time() * 1e3) / 1e3, datetime.UTC)
    entries = [record.as_dict() for record in seen.faults]
    return facts.Facts(
        kind="system", scenario=scenario.name, windows=windows_of(scenario, seen.start_ns, entries), history=tables.history,
        series=pd.DataFrame([dataclasses.asdict(row) for row in watch.rows]) if watch else None,
        effects=tables.effects, probes=tables.probes, planned=tables.planned, objectives=scenario.objectives,
        invariants=seen.findings,
        generator=facts.Generator(
            cpu_share=generator.cpu_share if generator else None, lost=generator.lost if generator else None,
            smoke_ok=failed is None, smoke_note=f"{failed.name}: {failed.detail}" if failed else ""),
        scenario_doc=scenario_doc(scenario), seed=scenario.seed, commit=home.commit(), command=command,
        started_at=started.strftime("%Y-%m-%dT%H:%M:%SZ"), host=host.describe() | {"steal": steal},
        versions=lab.lab.versions(), platform=_platform(lab, scenario, seen), population=dict(manifest),
        start_wall_ms=seen.start_wall_ms, faults=entries, logs=_logs(lab, seen), group=group, interrupted=seen.interrupted)


def _steal(watch: sampler.Sampler | None, load_s: float) -> float:
    """Return the share of the machine's time that was stolen while the load ran; the calm after it does not dilute it."""
    told = [row.value for row in watch.rows if row.name == "steal_cores" and 0 <= row.t_s < load_s] if watch else []
    return sum(told) / len(told) / int(host.describe()["cores"]) if told else 0.0


def windows_of(scenario: spec.Scenario, start_ns: int, entries: list[dict[str, Any]]) -> facts.Windows:
    """The clock of a run of `scenario`; `entries` as in faults.json."""
    windows = facts.fault_windows(entries, start_ns, scenario.objectives)
    return facts.Windows(start_ns, scenario.measure.warm_up_s, scenario.workload.load_s, windows,
                         facts.stages(scenario.workload.stages))


def scenario_doc(scenario: spec.Scenario) -> dict[str, Any]:
    """What the record keeps of the question."""
    return {"question": scenario.question, "expect": scenario.expect, "source": scenario.source, "resolved": scenario.resolved()}


def _platform(lab: Session, scenario: spec.Scenario, seen: Seen) -> dict[str, Any]:
    from system.platform import blueprint

    return {"blueprint": blueprint.load(scenario.platform).to_json(), "control_groups": lab.lab.accounting(),
            "generator": dataclasses.asdict(seen.load.generator) if seen.load else {},
            **({"traces": seen.traces} if seen.traces else {})}


def _logs(lab: Session, seen: Seen) -> dict[str, str]:
    from system.platform import blueprint

    told = {"scaling.log": "\n".join(seen.scaling)} if seen.scaling else {}
    told |= {"traces.json": seen.trace_file} if seen.trace_file else {}
    told |= {"runner.log": "\n".join(seen.problems + (seen.sampler.problems if seen.sampler else []))}
    for node in blueprint.load("small").nodes:
        try:
            told[f"{node.name}.log"] = lab.lab.logs(node.name, 60)
        except LabError:
            continue
    return told
