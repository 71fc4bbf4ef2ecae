"""The facts of a finished run, as the runner or the twin reports them: values without verdicts."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Protocol

import pandas as pd

from reports import columns, operations
from reports.judge import refusals
from reports.windows import FaultWindow as FaultWindow
from reports.windows import Stage as Stage
from reports.windows import Windows as Windows


class ObjectiveLike(Protocol):
    """An objective of the scenario: `route metric op bound window`, for example home p99 <= 0.25 s steady.

    `bound`: in SI units (s for latencies, a fraction for shares); a float is taken as its shortest decimal.
    `within_s`: used by the window 'after fault': the objective must hold again from `within_s` seconds after the
    fault (after the end of a held one, after the start of an instant one); None means 0 s.
    """

    @property
    def route(self) -> str: ...
    @property
    def metric(self) -> str: ...
    @property
    def op(self) -> str: ...
    @property
    def bound(self) -> float | Fraction: ...
    @property
    def window(self) -> str: ...
    @property
    def within_s(self) -> float | None: ...


@dataclass(frozen=True)
class Objective:
    """A plain `ObjectiveLike` that needs no scenario file."""

    route: str
    metric: str
    op: str
    bound: float | Fraction
    window: str = "steady"
    within_s: float | None = None


def granted_s(objectives: Iterable[ObjectiveLike]) -> float:
    """Return the longest recovery time that an `after fault within N s` objective allows, in s; 0 without one."""
    return max((one.within_s or 0.0 for one in objectives if one.window == "after fault"), default=0.0)


def fault_windows(
    entries: Iterable[Mapping[str, Any]], start_ns: int, objectives: Iterable[ObjectiveLike] = ()
) -> tuple[FaultWindow, ...]:
    """Return one window per entry of faults.json.

    Each entry has kind, target, start_ns, injected_ns, undone_ns, recovered_ns, held and void. A fault that
    was never injected has no window.
    """
    granted = granted_s(objectives)
    return tuple(
        FaultWindow(
            granted_s=granted,
            kind=str(entry["kind"]),
            target=str(entry["target"]),
            start_s=(entry["injected_ns"] - start_ns) / 1e9,
            end_s=_seconds(entry.get("undone_ns"), start_ns),
            recovered_s=_seconds(entry.get("recovered_ns"), start_ns),
            held=bool(entry.get("held", False)),
            planned_end_s=_planned_end_s(entry, start_ns),
            recovers_within_s=entry.get("recovers_within_s"),
            observed_until_s=_seconds(entry.get("observed_until_ns"), start_ns),
            void=str(entry.get("void") or ""),
        )
        for entry in entries
        if entry.get("injected_ns") is not None
    )


def _planned_end_s(entry: Mapping[str, Any], start_ns: int) -> float | None:
    """Return when the scenario ends the fault; None if its planned start or length is unknown."""
    planned_s, for_s = _seconds(entry.get("start_ns"), start_ns), entry.get("for_s")
    if planned_s is None or (entry.get("held") and for_s is None):
        return None
    return planned_s + float(for_s or 0.0)


def _seconds(moment_ns: int | None, start_ns: int) -> float | None:
    return None if moment_ns is None else (moment_ns - start_ns) / 1e9


def stages(planned: Iterable[Any]) -> tuple[Stage, ...]:
    """Return the stages of a scenario's workload (for_s, rate_from, rate_to) one after the other from 0 s."""
    timed: list[Stage] = []
    for stage in planned:
        start_s = timed[-1].end_s if timed else 0.0
        timed.append(Stage(start_s, start_s + stage.for_s, stage.rate_from, stage.rate_to))
    return tuple(timed)


@dataclass(frozen=True)
class Generator:
    """The load generator's report on itself. None = not measured (the run is then VOID)."""

    cpu_share: float | None = None  # of one core, over the whole load
    lost: int | None = None  # planned operations without a row in the history
    smoke_ok: bool | None = None  # sign-up, post, read and search worked before the load started
    smoke_note: str = ""


@dataclass(frozen=True)
class Facts:
    """All facts about one finished run.

    `planned`: the tape of arrivals, columns route (str) and due_ns (int64), one row per planned operation; None =
    the history has all of them. `host['steal']`: a fraction of the machine's time. `invariants`: objects or
    mappings with name, verdict, checked, violations, note, and `kept` if they looked for acknowledged data.
    `group`: the set of repeats that the run belongs to.
    """

    kind: str  # 'system' or 'twin'
    scenario: str
    windows: Windows
    history: pd.DataFrame
    series: pd.DataFrame | None = None
    effects: pd.DataFrame | None = None
    probes: pd.DataFrame | None = None
    planned: pd.DataFrame | None = None
    objectives: Sequence[ObjectiveLike] = ()
    invariants: Sequence[Any] = ()
    generator: Generator = field(default_factory=Generator)
    scenario_doc: Mapping[str, Any] = field(default_factory=dict)  # question, expect, source, resolved
    seed: int = 0
    commit: str = ""
    command: str = ""
    started_at: str = ""  # UTC, 2026-11-22T18:09:00Z; empty = now
    host: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    platform: Mapping[str, Any] = field(default_factory=dict)
    population: Mapping[str, Any] = field(default_factory=dict)
    start_wall_ms: int = 0
    faults: Sequence[Mapping[str, Any]] = ()  # faults.json: the entries of the undo log, probes included
    logs: Mapping[str, str] = field(default_factory=dict)  # name -> last lines
    group: str = ""
    interrupted: bool = False

    @functools.cached_property
    def tables(self) -> Mapping[str, pd.DataFrame]:
        """`history`, `series`, `effects` and `probes` with exactly the columns of `reports.columns`."""
        return {name: columns.conform(name, getattr(self, name)) for name in columns.TABLES}

    @functools.cached_property
    def operations(self) -> pd.DataFrame:
        """One row per operation (`reports.operations`), with `refused`: whether it was refused as the scenario asks."""
        done = operations.operations(self.tables["history"], self.windows.start_ns)
        return done.assign(refused=refusals.mask(done, self.scenario_doc))
