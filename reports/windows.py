"""The timeline of a run: warm-up, load, stages and faults."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FaultWindow:
    """The times of a fault, in seconds from the start of the run. None = not known to have happened.

    `held`: the fault lasts until it is undone (at `end_s`); an instant fault lasts until `recovered_s`.
    `granted_s`: the recovery time that the objectives allow (`after fault within N s`), from the same moment
    as `within_s` of an objective; it is excluded from steady time. `planned_end_s`: when the scenario ends
    the fault (an instant one: its planned injection). `recovers_within_s`: the longest allowed recovery after
    that, None for the default of its kind. `observed_until_s`: when the recovery probe stopped, None for the
    end of the load. `void`: why the fault proves nothing, "" if it took effect.
    """

    kind: str
    target: str
    start_s: float
    end_s: float | None = None
    recovered_s: float | None = None
    held: bool = False
    granted_s: float = 0.0
    planned_end_s: float | None = None
    recovers_within_s: float | None = None
    observed_until_s: float | None = None
    void: str = ""


@dataclass(frozen=True)
class Stage:
    """A stage of the workload: seconds from the start of the run, rates in 1/s."""

    start_s: float
    end_s: float
    rate_from_per_s: float
    rate_to_per_s: float


@dataclass(frozen=True)
class Windows:
    """The timeline of a run: warm-up, end of load, faults and stages; seconds from `start_ns`."""

    start_ns: int
    warm_up_s: float
    load_s: float
    faults: tuple[FaultWindow, ...] = ()
    stages: tuple[Stage, ...] = ()
