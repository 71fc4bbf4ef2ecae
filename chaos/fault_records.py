"""What a run keeps of its faults (faults.json): when each was due, injected, seen to bite, undone and gone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class FaultRecord:
    """One injected fault on the run's clock; all times are CLOCK_MONOTONIC in ns, None where it never came to that.

    `start_ns`: when the scenario wanted it. `injected_ns`: injection began. `effect_ns`: the effect probe
    first held. `undone_ns`: the undo returned. `recovered_ns`: the recovery probe first held. `void`: why the
    drill proves nothing (the fault had no effect, or could not be injected); empty where it counts. `facts`:
    what the probes saw. `for_s`: how long the scenario holds it, None for an instant one.
    `recovers_within_s`: seconds that its recovery may take. `observed_until_ns`: until when the recovery
    probe ran; None where it never did.
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
    """Return the record in one entry of faults.json; unknown keys are left out."""
    return FaultRecord(**{key: value for key, value in raw.items() if key in FaultRecord.__dataclass_fields__})


def load(raw: Iterable[Mapping[str, Any]]) -> tuple[FaultRecord, ...]:
    """Return the records of faults.json."""
    return tuple(from_dict(entry) for entry in raw)
