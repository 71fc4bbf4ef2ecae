"""Runs a sweep on the twin: plan, replications on all cores, knees, bottleneck, record.

    definition = define(...)            checked, nothing has run yet
    folder = run(definition, ...)       resumes the newest unfinished folder of the same definition

Every replication is kept as it ends. A point whose replication fails is reported as missing with the reason; the others
go on. Ctrl-C ends the sweep with what it has; the same command resumes it.
"""

from __future__ import annotations

import contextlib
import math
import queue
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from scenarios import loader, spec
from sim.validation import draw as model
from system.kernel.errors import WrongInput
from tweetlab import home
from tweetlab.calibrate import store
from tweetlab.run import prediction
from tweetlab.sweep import asked, bottleneck, folder, grid, knee, replicate, statistics
from tweetlab.sweep.replicate import Task
from tweetlab.sweep.rows import Row
from tweetlab.sweep.workers import Failed, Workers, all_cores

LEAST, MOST = 5, 50  # replications of a point
WITHIN = 0.1  # half of the interval, as a share of the figure
BEYOND_BOUND = 1.5  # times the bound of the utilization law: a point above is not played, since it only measures its length
PILOT_OPERATIONS, PILOT_PER_S, PILOT_SHARE = 800.0, 20.0, 0.7
SHOW_EVERY_S = 0.5  # between two reports of progress

OK, MISSING, UNSERVED = "ok", "missing", "cannot be served"
"""States of a point: played; failed or not played; offered load far above what the machine can do."""


@dataclass(frozen=True)
class Definition:
    """A sweep, checked.

    `figure`: what its intervals are about. `within`: bound of the half interval, a share. `replications`: fixed number of
    each point; 0 for as many as the bound needs, LEAST to `most`. `search`: find the knee where the grid has rates, in
    trials of `trial_s` measured seconds. `unit`: operations and highest rate of the shared unit tape; None if points cannot
    share one.
    """

    scenario: spec.Scenario
    over: tuple[grid.Axis, ...]
    points: tuple[grid.Point, ...]
    chosen: store.Chosen
    figure: str
    within: float = WITHIN
    replications: int = 0
    most: int = MOST
    search: bool = True
    trial_s: float = knee.TRIAL_S
    unit: tuple[float, float] | None = None
    command: str = ""
    on: str = "twin"

    @property
    def fixed(self) -> int:
        """Replications of each point; 0: as many as the bound needs. On the system each is a run, so their number is fixed."""
        return self.replications or (self.scenario.measure.repeats if self.on == "system" else 0)

    @property
    def identity(self) -> str:
        """Hash of everything that decides the results."""
        return folder.identity({
            "scenario": self.scenario.resolved(), "points": [[dict(one.values), one.scenario.resolved()] for one in self.points],
            "figure": self.figure, "within": self.within, "replications": self.replications, "most": self.most,
            "search": self.search, "trial_s": self.trial_s, "on": self.on, "model": model.identity(self.chosen.calibration),
        })


@dataclass
class Progress:
    """What a sweep reports while it runs. `left_s`: expected seconds until its end, None while unknown."""

    points: int
    points_done: int = 0
    replications: int = 0
    left_s: float | None = None
    step: str = "replications"


Report = Callable[[Progress], None]


def define(scenario: str | Path, over: Sequence[grid.Axis], *, overrides: Sequence[str] = (), sample: int = 0,
           figure: str = "", within: float = WITHIN, replications: int = 0, most: int = MOST, operations: int = 0,
           calibration: str = "", search: bool = True, yes: bool = False, command: str = "", on: str = "twin",
           trial_s: float = knee.TRIAL_S) -> Definition:
    """Check everything and return the definition. Raises WrongInput or CouldNotRun, before anything runs."""
    if not 0.0 < within < 1.0:
        raise WrongInput(f"The bound of the interval is {within:g}; it must be above 0 and below 1, such as 0.05.")
    if not trial_s > 0:
        raise WrongInput(f"A trial of the search for the knee lasts {trial_s:g} s; it must be above 0, such as 60.")
    if not 0 <= replications <= 1000 or not LEAST <= most <= 1000:
        raise WrongInput(f"Replications are {replications} (at most {most}); they must be from 1 to 1,000, or at least {LEAST} "
                         "with a bound.")
    loaded = loader.load(scenario, list(overrides))
    points = grid.points(scenario, over, overrides=overrides, sample=sample, seed=loaded.seed, operations=operations, yes=yes)
    chosen = prediction.calibration_of(calibration)
    name = asked.check(figure) if figure else asked.default(points[0].scenario if points else loaded)
    for point in points if on == "twin" else ():
        replicate.on_machine(chosen.calibration, point.machine)
        prediction.refuse_unmodelled(_routes(point.scenario), point.scenario)
    return Definition(loaded, tuple(over), tuple(points), chosen, name, within, replications, most, search,
                      trial_s, _unit(points), command, on)


def _routes(scenario: spec.Scenario) -> set[str]:
    mixes = [scenario.workload.mix, *(stage.mix for stage in scenario.workload.stages if stage.mix)]
    return {route for mix in mixes for route, share in mix.items() if share}


def _unit(points: Sequence[grid.Point]) -> tuple[float, float] | None:
    works = [point.scenario.workload for point in points]
    if not works or any(stage.mix for work in works for stage in work.stages):
        return None
    return max(work.planned for work in works), max(work.peak_per_s for work in works)


# ---- running ---------------------------------------------------------------------------------------------

def opened(definition: Definition, root: Path | None = None, fresh: bool = False) -> folder.Folder:
    """Return the folder of the sweep: the newest unfinished one of the same definition, or a new one."""
    base, identity = root or folder.sweeps(), definition.identity
    target = None if fresh else folder.unfinished(base, definition.scenario.name, identity)
    return target or folder.create(base, definition.scenario.name, _document(definition, identity))


def run(definition: Definition, *, workers: int | None = None, report: Report = lambda _: None, root: Path | None = None,
        fresh: bool = False) -> folder.Folder:
    """Run or resume the sweep; return its folder with results. After Ctrl-C too: its state is then `interrupted`.

    `workers`: processes, None for one per core. `fresh`: do not resume.
    """
    target = opened(definition, root, fresh)
    count = _worker_count(definition, workers)
    sweep = Running(definition, target, report, count)
    state = folder.COMPLETE
    with Workers(definition.chosen.calibration, count) as pool:
        try:
            sweep.pilot(pool)
            sweep.play(pool)
            sweep.search(pool)
        except KeyboardInterrupt:
            state = folder.INTERRUPTED
    sweep.finish(state)
    return target


def _worker_count(definition: Definition, workers: int | None) -> int:
    if workers is not None:
        return workers
    tasks = len(definition.points) * (definition.replications or LEAST)
    return min(all_cores(), tasks)


@dataclass
class PointState:
    """One point while the sweep runs. `waits`: replications in flight. `problem`: why it failed, "" if it did not."""

    point: grid.Point
    rows: list[Row] = field(default_factory=list)
    waits: int = 0
    problem: str = ""
    state: str = MISSING
    why: str = ""


class Running:
    """A sweep while it runs: what it has so far, and where it keeps it."""

    def __init__(self, definition: Definition, target: folder.Folder, report: Report, workers: int) -> None:
        self.definition, self.folder, self.report = definition, target, report
        self.points = [PointState(point) for point in definition.points]
        self.bounds: dict[str, dict[str, Any] | None] = {}
        self.knees: list[dict[str, Any]] = list(target.document.get("knees", ()))
        for row in target.rows():
            if 0 <= row["point"] < len(self.points):
                self.points[row["point"]].rows.append(row)
        for one in self.points:
            one.rows.sort(key=lambda row: row["replication"])
        self._start_s = time.monotonic()
        self._workers = workers
        self._flights: dict[Future[Row], tuple[PointState, int]] = {}
        self._ended: queue.SimpleQueue[Future[Row]] = queue.SimpleQueue()
        self._shown_s = 0.0
        self._played_operations = 0
        self._work_s = 0.0

    # ---- the bound of the machine --------------------------------------------------------------------------

    def pilot(self, pool: Workers) -> None:
        """Estimate the service demands of each group at a low rate: what the machine cannot serve is not played."""
        groups: dict[str, grid.Point] = {}
        for point in self.definition.points:
            if point.rate_per_s is not None:
                groups.setdefault(point.group, point)
        if not groups:
            return
        self._tell("pilot: service demands")
        rates = dict.fromkeys(groups, PILOT_PER_S)
        for _ in range(2):  # costs fall with load, so the second one is near the bound of the first
            futures = {}
            for group, point in groups.items():
                for_s = point.scenario.measure.warm_up_s + PILOT_OPERATIONS / rates[group]
                at = grid.steady(point.scenario, rates[group], for_s)
                futures[group] = pool.submit(Task(-1, 0, at, point.machine))
            for group, future in futures.items():
                with contextlib.suppress(Failed):  # the points of the group fail with their own message
                    row = self._result(future)
                    calibrated = replicate.on_machine(self.definition.chosen.calibration, groups[group].machine)
                    self.bounds[group] = found = bottleneck.document(row, groups[group].scenario, calibrated)
                    rates[group] = PILOT_SHARE * found["bound_per_s"] if found else PILOT_PER_S

    def _unserved(self, point: grid.Point) -> str:
        """Return why the point is not played; "" if it is."""
        bound = self.bounds.get(point.group)
        if bound is None or point.rate_per_s is None or point.rate_per_s <= BEYOND_BOUND * bound["bound_per_s"]:
            return ""
        machine = bound["stations"][0]
        return (f"{point.text} cannot be served: {machine['name']} needs {machine['demand_ms']:.2f} ms of CPU per operation and "
                f"is fully used at about {bound['bound_per_s']:.0f}/s. To fix: rates below that, a cheaper mix, or more cores "
                "(--over cores=4).")

    # ---- replications --------------------------------------------------------------------------------------

    def play(self, pool: Workers) -> None:
        """Play replications until every point has enough of them. What has ended is kept, also after Ctrl-C."""
        try:
            for one in self.points:
                one.why = self._unserved(one.point)
                if one.why:
                    one.state = UNSERVED
                else:
                    self._launch(one, pool)
            self._show()
            while self._flights:
                with contextlib.suppress(queue.Empty):
                    one = self._land(self._ended.get(timeout=1.0))
                    if not one.waits and not one.problem:
                        self._launch(one, pool)
                    self._show()
        except KeyboardInterrupt:
            while not self._ended.empty():
                self._land(self._ended.get())
            raise

    def _launch(self, one: PointState, pool: Workers) -> None:
        known = {row["replication"] for row in one.rows}
        for replication in range(self._wanted(one)):
            if replication not in known:
                task = Task(one.point.number, replication, one.point.scenario, one.point.machine, self.definition.unit)
                future = pool.submit(task)
                self._flights[future] = one, replication
                one.waits += 1
                future.add_done_callback(self._ended.put)

    def _land(self, future: Future[Row]) -> PointState:
        one, replication = self._flights.pop(future)
        one.waits -= 1
        self._keep(one, replication, future)
        return one

    def _wanted(self, one: PointState) -> int:
        plan = self.definition
        if plan.fixed:
            return plan.fixed
        values = statistics.values_of(one.rows, plan.figure)
        if len(one.rows) >= LEAST and len(values) < len(one.rows):
            return len(one.rows)  # the figure has no value in some replication: more would not narrow it
        if len(one.rows) >= LEAST and not any(row["carried"] for row in one.rows):
            return len(one.rows)  # overloaded: the figure depends on the duration of the load, so a narrow interval says nothing
        return statistics.wanted(values, plan.within, LEAST, plan.most)

    def _keep(self, one: PointState, replication: int, future: Future[Row]) -> None:
        try:
            row = {"point": one.point.number, "replication": replication, **future.result()}
        except Failed as problem:
            one.problem = one.problem or str(problem)
            return
        self.keep(one, row)
        self._played_operations += row["operations"]
        self._work_s += row["took_s"]

    def keep(self, one: PointState, row: Row) -> None:
        """Keep one replication, in memory and on disk."""
        one.rows.append(row)
        one.rows.sort(key=lambda each: each["replication"])
        self.folder.append(row)

    def _result(self, future: Future[Row]) -> Row:
        while True:  # short waits, so that Ctrl-C is noticed
            with contextlib.suppress(TimeoutError):
                return future.result(1.0)

    # ---- knee ----------------------------------------------------------------------------------------------

    def search(self, pool: Workers) -> None:
        """Find the knee of each group of points that differ in their rate."""
        if not self.definition.search or not any(point.rate_per_s for point in self.definition.points):
            return
        known = {one["group"] for one in self.knees}
        groups = list(dict.fromkeys(point.group for point in self.definition.points if point.rate_per_s))
        for number, group in enumerate(groups):
            if group in known:
                continue
            members = [one for one in self.points if one.point.group == group and one.rows]
            if not members:
                continue
            self._tell(f"knee {number + 1} of {len(groups)}{f' ({group})' if group else ''}")
            try:
                self.knees.append(self._knee(group, members, pool))
            except Failed as problem:
                self.knees.append({"group": group, "rate_per_s": None, "problem": str(problem)})
            self.folder.write({**self.folder.document, "knees": self.knees})

    def _knee(self, group: str, members: Sequence[PointState], pool: Workers) -> dict[str, Any]:
        point = members[0].point
        carried = [one.point.rate_per_s or 0.0 for one in members if _is_carried(one.rows)]
        start = max(carried) if carried else min(one.point.rate_per_s or 1.0 for one in members)

        def show(trial: Any) -> None:
            word = "carried" if trial.carried else f"not carried: {trial.broken}"
            self._tell(f"knee{f' ({group})' if group else ''}: {trial.rate_per_s:.0f}/s {word}")

        found, row = knee.find(point.scenario, point.machine, pool, start, trial_s=self.definition.trial_s, on_trial=show)
        limit = next((trial.broken for trial in reversed(found.trials) if trial.rate_per_s == found.refused_per_s), "")
        calibrated = replicate.on_machine(self.definition.chosen.calibration, point.machine)
        analysis = bottleneck.document(row, point.scenario, calibrated) if row else None
        return {"group": group, "rate_per_s": round(found.rate_per_s, 2), "refused_per_s": found.refused_per_s, "limit": limit,
                "trials": len(found.trials), "bottleneck": analysis, "remarks": row["remarks"] if row else []}

    # ---- results -------------------------------------------------------------------------------------------

    def finish(self, state: str) -> None:
        """Write the results of every point, played or missing."""
        results = [self._result_of(one, state) for one in self.points]
        if state == folder.COMPLETE and any(result["state"] == MISSING for result in results):
            state = folder.INCOMPLETE
        calibrated = self.definition.chosen.calibration
        best = [one for one in self.points if one.rows and _is_carried(one.rows)]
        top = max(best, key=lambda one: statistics.figures(one.rows)["throughput"].mean, default=None)
        analysis = None
        if top is not None:
            changed = replicate.on_machine(calibrated, top.point.machine)
            analysis = bottleneck.document(_mean_row(top.rows), top.point.scenario, changed)
        document = {
            **self.folder.document, "state": state, "points": results, "knees": self.knees, "bottleneck": analysis,
            "finished_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "took_s": round(self.folder.document.get("took_s", 0.0) + time.monotonic() - self._start_s, 2),
            "work_s": round(sum(row["took_s"] for one in self.points for row in one.rows), 2),
        }
        self.folder.write(document)

    def _result_of(self, one: PointState, state: str) -> dict[str, Any]:
        plan = self.definition
        values = statistics.values_of(one.rows, plan.figure)
        done = len(one.rows) >= self._wanted(one) and not one.problem
        # Of what several replications say about a process, what the last in order says: its load differs in digits only.
        labels = sorted({remark.partition(" ")[0]: remark for row in one.rows for remark in sorted(row["remarks"])}.values())
        if one.rows and sum(not row["carried"] for row in one.rows) * 2 > len(one.rows):
            labels.insert(0, f"not carried: {next(row['broken'] for row in one.rows if row['broken'])}")
        unjudged = sorted({text for row in one.rows for text in row["unjudged"]})
        if unjudged:
            labels.append(f"too few operations to judge {', '.join(unjudged)}")
        word = one.state if one.state == UNSERVED else OK if done else MISSING
        why = one.why or one.problem or ("" if done else "the sweep was interrupted" if state != folder.COMPLETE else "")
        return {
            "number": one.point.number, "values": dict(one.point.values), "state": word, "why": why,
            "replications": len(one.rows), "carried": sum(bool(row["carried"]) for row in one.rows),
            "reached": statistics.is_reached(values, plan.within, 2) if values else None,
            "figures": {name: found.as_json() for name, found in statistics.figures(one.rows).items()},
            "labels": labels, "laws_hold": all(row["laws_hold"] for row in one.rows),
        }

    # ---- progress ------------------------------------------------------------------------------------------

    def _show(self) -> None:
        if time.monotonic() - self._shown_s < SHOW_EVERY_S:  # counting ten thousand points takes a while
            return
        self._shown_s = time.monotonic()
        done = sum(1 for one in self.points if one.state == UNSERVED or one.problem
                   or (not one.waits and len(one.rows) >= self._wanted(one)))
        left_s = None
        if self._played_operations:
            ahead = sum(one.point.scenario.workload.planned for one, _ in self._flights.values())
            left_s = ahead * self._work_s / self._played_operations / max(self._workers, 1)
        self.report(Progress(len(self.points), done, sum(len(one.rows) for one in self.points), left_s))

    def _tell(self, step: str) -> None:
        done = sum(1 for one in self.points if not one.waits and one.rows)
        self.report(Progress(len(self.points), done, sum(len(one.rows) for one in self.points), None, step))


def _bound(definition: Definition) -> dict[str, Any] | None:
    """Return the objective on the asked figure, in its unit; None if there is none."""
    for one in definition.scenario.objectives:
        if f"{one.route} {one.metric}" == definition.figure:
            return {"text": one.text, "value": float(one.bound) * (1000.0 if asked.unit(definition.figure) == "ms" else 1.0)}
    return None


def _is_carried(rows: Sequence[Row]) -> bool:
    return bool(rows) and sum(bool(row["carried"]) for row in rows) * 2 > len(rows)


def _mean_row(rows: Sequence[Row]) -> Row:
    """Return the means that the utilization law needs."""
    nodes = sorted({node for row in rows for node in row["cores"]})
    return {"ok_per_s": math.fsum(row["ok_per_s"] for row in rows) / len(rows),
            "cores": {node: math.fsum(row["cores"].get(node, 0.0) for row in rows) / len(rows) for node in nodes}}


def _document(definition: Definition, identity: str) -> dict[str, Any]:
    calibrated = definition.chosen.calibration
    return {
        "schema_version": folder.SCHEMA_VERSION, "kind": "sweep", "identity": identity, "state": "running", "on": definition.on,
        "scenario": {"name": definition.scenario.name, "question": definition.scenario.question,
                     "expect": definition.scenario.expect, "source": definition.scenario.source},
        "over": [{"key": one.key, "path": one.path, "values": list(one.values), "span": one.span} for one in definition.over],
        "figure": definition.figure, "unit": asked.unit(definition.figure), "within": definition.within,
        "most": definition.replications or definition.most, "seed": definition.scenario.seed,
        "common_random_numbers": definition.unit is not None,
        "calibration": {"label": calibrated.label, "spread": round(calibrated.spread, 4), "cores": calibrated.cores,
                        "foreign": list(definition.chosen.foreign)},
        "bound": _bound(definition),
        "planned": [{"number": one.number, "values": dict(one.values)} for one in definition.points],
        "points": [], "knees": [], "bottleneck": None, "command": definition.command, "commit": home.commit(),
        "started_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), "took_s": 0.0,
    }
