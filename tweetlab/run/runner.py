"""One run on the real system: from a scenario to the facts that the report judges.

    prepare (reset, smoke journey) -> measure (load, faults, samples, drain) -> judge (final reads, invariants) -> facts

Each step returns a value: `Prepared`, `Measured`, `Judged`. If something ends the run after the load has
started (Ctrl-C, a dead server), what was measured so far becomes a record.
"""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from chaos import invariants
from chaos.evidence import collect
from chaos.evidence.bundle import Bounds, Canary, RunClock
from reports import columns, facts, finish, record
from scenarios import plan, spec
from system.kernel.errors import CouldNotRun, LabError, StoreUnavailable
from system.platform import blueprint, native
from tweetlab import home
from tweetlab.lab import host, session
from tweetlab.lab.session import Session
from tweetlab.load import driver, tables
from tweetlab.run import effect_log_reader, measure, sampler, seeding, smoke
from tweetlab.run.inputs import Inputs, draw
from tweetlab.run.measure import Measured

SEED_TRIES, SEED_PAUSE_S = 3, 5.0  # a planned switchover of a primary takes 2 to 4 s


@dataclass(frozen=True)
class Prepared:
    """A lab that is ready for load.

    `manifest`: what was seeded; empty where the data of the previous run was kept. `kept_follows`: the
    follows that are then read from the stores (followers, followees); None where the lab was seeded.
    `journey`: steps of the smoke journey, a failed one last.
    """

    inputs: Inputs
    manifest: Mapping[str, Any]
    kept_follows: tuple[Any, Any] | None
    journey: tuple[smoke.Step, ...]

    @property
    def failed_step(self) -> smoke.Step | None:
        """The step of the smoke journey that failed; None where the lab may be measured."""
        return next((step for step in self.journey if not step.ok), None)


@dataclass(frozen=True)
class Judged:
    """The tables of a run and the verdicts of its invariants; `findings` is empty where they were not checked."""

    history: pd.DataFrame
    probes: pd.DataFrame
    planned: pd.DataFrame
    effects: pd.DataFrame
    findings: tuple[Any, ...] = ()


async def run(lab: Session, scenario: spec.Scenario, command: str, *, inputs: Inputs | None = None, keep_data: bool = False,
              check: bool = True, stop: asyncio.Event | None = None, group: str = "") -> facts.Facts:
    """Run `scenario` once on the lab, whose services then run with its policies.

    `inputs`: its world and arrivals; None draws them. `check`: poll delivery by the API, make final reads and
    judge invariants. `stop`: set it to end the load early.
    """
    with session.alone(lab.lab):
        if keep_data:
            await lab.apply(scenario.policies)
        lab.wanted = scenario.policies  # the reset starts the services with them
        prepared = await _prepare(lab, scenario, inputs or draw(scenario), keep_data)
        measured = Measured()
        if prepared.failed_step is None:
            measured = await measure.measure(lab, scenario, prepared.inputs, stop or asyncio.Event(), probes=check)
        judged = await _judge(lab, scenario, prepared, measured, check)
        return _facts(lab, scenario, prepared, measured, judged, command, group)


def finished(result: facts.Facts, lab: native.Lab, runs: Path = home.RUNS) -> record.Run:
    """Write a run's record and report.

    Raises CouldNotRun, naming the folder of the raw rows, if writing fails.
    """
    try:
        return finish.finish(runs, result)
    except (CouldNotRun, OSError) as problem:
        folder = measure.raw_folder(lab)
        raise CouldNotRun(f"{problem} The rows of the load are kept in {folder} until the next run.") from problem


async def _prepare(lab: Session, scenario: spec.Scenario, inputs: Inputs, keep_data: bool) -> Prepared:
    manifest: Mapping[str, Any] = {}
    kept_follows = None
    await lab.sample_sparsely()
    if keep_data:
        adapters: Any = lab.ports
        kept_follows = await adapters.users.all_edges()
    else:
        manifest = await _seed(lab, scenario, inputs)
    with lab.screen.step("smoke journey"):
        journey = await smoke.journey(lab.base_url)
    measure.forget_last_load(lab.lab)
    return Prepared(inputs, manifest, kept_follows, tuple(journey))


async def _seed(lab: Session, scenario: spec.Scenario, inputs: Inputs) -> dict[str, Any]:
    """Seed the lab and return the manifest.

    Retries while a store is unavailable: after a drill, a switchover of a primary may still be in progress.
    """
    for tries_left in reversed(range(SEED_TRIES)):
        try:
            return await seeding.ensure(lab, scenario, inputs.world)
        except StoreUnavailable as problem:
            if not tries_left:
                raise
            lab.screen.say(f"seeding again in {SEED_PAUSE_S:g} s: {problem}")
            await asyncio.sleep(SEED_PAUSE_S)
    raise AssertionError("unreachable: the last try returns or raises")


async def _judge(lab: Session, scenario: spec.Scenario, prepared: Prepared, measured: Measured, check: bool) -> Judged:
    """Read the tables of the run and, with `check`, collect the evidence and judge every invariant."""
    history, probes, planned = _tables(prepared.inputs, measured)
    effects = effect_log_reader.read(lab.effects_dir, from_ns=measured.start_ns or time.monotonic_ns())
    judged = Judged(history, probes, planned, effects)
    if not check or measured.load is None:
        return judged
    world, tape, kept = prepared.inputs.world, prepared.inputs.tape, prepared.kept_follows
    with lab.screen.step("final reads and invariants"):
        load = collect.Load(
            history, effects, RunClock(measured.start_ns, measured.start_wall_ms), not measured.problems, measured.faults,
            bounds=Bounds(limits=scenario.policies.limits),
            plan=plan.plan_of(scenario, tape.planned(), world.graph.users, kept_data=kept is not None))
        seeded = collect.Seeded(kept or world.graph.pairs(), world.past.tweet_ids,
                                authors=world.past.authors if kept is None else None,
                                protected=tape.protected, likes=world.likes.pairs())
        system = collect.System(lab.ports, lab.base_url, lab.token)
        evidence = await collect.collect(load, seeded, system, scenario.seed)
        if measured.canary:
            evidence = dataclasses.replace(evidence, load_canary=Canary(measured.load.scanned, measured.load.leaks, True))
        return dataclasses.replace(judged, findings=tuple(invariants.judge(evidence)))


def _tables(inputs: Inputs, measured: Measured) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return history, probes and planned operations; without a load the first two are empty."""
    if measured.load is None:
        empty = columns.conform("history", None)
        return empty, columns.conform("probes", None), tables.planned(inputs.tape, measured.start_ns, empty)
    return driver.history(measured.load), driver.probes(measured.load), driver.planned(measured.load)


def _facts(lab: Session, scenario: spec.Scenario, prepared: Prepared, measured: Measured, judged: Judged,
           command: str, group: str) -> facts.Facts:
    generator = measured.load.generator if measured.load else None
    failed, samples = prepared.failed_step, measured.samples
    started = datetime.datetime.fromtimestamp((measured.start_wall_ms or time.time() * 1e3) / 1e3, datetime.UTC)
    entries = [fault.as_dict() for fault in measured.faults]
    return facts.Facts(
        kind="system", scenario=scenario.name, windows=_windows(scenario, measured.start_ns, entries),
        history=judged.history,
        series=None if samples is None else pd.DataFrame([dataclasses.asdict(row) for row in samples]),
        effects=judged.effects, probes=judged.probes, planned=judged.planned, objectives=scenario.objectives,
        invariants=judged.findings,
        generator=facts.Generator(
            cpu_share=generator.cpu_share if generator else None, lost=generator.lost if generator else None,
            smoke_ok=failed is None, smoke_note=f"{failed.name}: {failed.detail}" if failed else ""),
        scenario_doc=_scenario_doc(scenario), seed=scenario.seed, commit=home.commit(), command=command,
        started_at=started.strftime("%Y-%m-%dT%H:%M:%SZ"),
        host=host.describe() | {"steal": _steal(samples or (), scenario.workload.load_s)},
        versions=lab.lab.versions(), platform=_platform(lab, scenario, measured), population=dict(prepared.manifest),
        start_wall_ms=measured.start_wall_ms, faults=entries, logs=_logs(lab, measured), group=group,
        interrupted=measured.interrupted)


def _steal(samples: tuple[sampler.Sample, ...], load_s: float) -> float:
    """Return the share of the machine's CPU time that was stolen during the load, not after it."""
    cores = [row.value for row in samples if row.name == "steal_cores" and 0 <= row.t_s < load_s]
    return sum(cores) / len(cores) / int(host.describe()["cores"]) if cores else 0.0


def _windows(scenario: spec.Scenario, start_ns: int, entries: list[dict[str, Any]]) -> facts.Windows:
    """Return the time windows of a run of `scenario`; `entries` as in faults.json."""
    windows = facts.fault_windows(entries, start_ns, scenario.objectives)
    return facts.Windows(start_ns, scenario.measure.warm_up_s, scenario.workload.load_s, windows,
                         facts.stages(scenario.workload.stages))


def _scenario_doc(scenario: spec.Scenario) -> dict[str, Any]:
    """Return what the record keeps of the scenario."""
    return {"question": scenario.question, "expect": scenario.expect, "source": scenario.source, "resolved": scenario.resolved()}


def _platform(lab: Session, scenario: spec.Scenario, measured: Measured) -> dict[str, Any]:
    nodes = blueprint.load(scenario.platform)
    images = lab.lab.images()
    return {"blueprint": nodes.to_json(), "control_groups": lab.lab.accounting(),
            "provider": lab.lab.provider, **({"images": images} if images else {}),
            "generator": dataclasses.asdict(measured.load.generator) if measured.load else {},
            "foreign_programs": [dataclasses.asdict(one) for one in measured.foreign],
            "core_speed": dict(measured.core_speed),
            **({"traces": measured.slow_traces} if measured.slow_traces else {})}


def _logs(lab: Session, measured: Measured) -> dict[str, str]:
    """Return file name -> text of the logs that the record keeps; a node without a log is left out."""
    logs = {"scaling.log": "\n".join(measured.scaling)} if measured.scaling else {}
    logs |= {"traces.json": measured.trace_file} if measured.trace_file else {}
    logs |= {"runner.log": "\n".join((*measured.problems, *measured.sampling_problems))}
    for node in blueprint.load("small").nodes:
        try:
            logs[f"{node.name}.log"] = lab.lab.logs(node.name, 60)
        except LabError:
            continue
    return logs
