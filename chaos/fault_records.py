"""The faults of a run, as in faults.json: when each was due, injected, effective, undone and recovered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class FaultRecord:
    """One fault of a run. Times are CLOCK_MONOTONIC in ns; None if the fault never reached that step.

    `start_ns`: when the scenario schedules it. `injected_ns`: injection started. `effect_ns`: the effect
    probe first succeeded. `undone_ns`: the undo returned. `recovered_ns`: the recovery probe first succeeded.
    `held`: it lasts until it is undone. `void`: why the drill proves nothing (the fault had no effect, or
    could not be injected); empty where it counts. `facts`: what injection and probes reported. `for_s`: how
    long the scenario holds it, None for an instant fault. `recovers_within_s`: longest allowed recovery in
    seconds. `observed_until_ns`: when the recovery probe stopped; None where it never ran.
    """

    kind: str
    target: str
    start_ns: int
    injected_ns: int | None = None
    effect_ns: int | None = None
    undone_ns: int | None = None
    recovered_ns: int | None = None
    held: bool = False
    void: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    for_s: float | None = None
    recovers_within_s: float | None = None
    observed_until_ns: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the record as plain JSON values."""
        return asdict(self) | {"facts": dict(self.facts)}


def from_dict(raw: Mapping[str, Any]) -> FaultRecord:
    """Return the record of one entry of faults.json; unknown keys are ignored."""
    return FaultRecord(**{key: value for key, value in raw.items() if key in FaultRecord.__dataclass_fields__})


def load(raw: Iterable[Mapping[str, Any]]) -> tuple[FaultRecord, ...]:
    """Return the records of faults.json."""
    return tuple(from_dict(entry) for entry in raw)
