"""The result of a check: pass, unknown, fail or not applicable, with the operations that prove it.

Unknown is not pass: a check that found no relevant operation, or could not read what it needs, is unknown and
says why. A proven violation is a fail, whatever else could not be read. Whether a check is not applicable is
decided from the plan of the run (`table`), never from what was observed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from scenarios.plan import Plan

PASS, UNKNOWN, FAIL, NOT_APPLICABLE = "pass", "unknown", "fail", "not_applicable"
MOST_SHOWN = 20  # violations a finding lists; the rest are counted


@dataclass(frozen=True)
class Finding:
    """The verdict of one invariant.

    `checked`: number of facts compared. `found`: number of violations, listed or not. `kept`: kind of data,
    such as tweets -> how many acknowledged ones were looked for (`acknowledged`) and how many are missing
    (`lost`).
    """

    name: str
    verdict: str
    checked: int
    violations: tuple[str, ...] = ()
    note: str = ""
    found: int = 0
    kept: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the finding as plain JSON values."""
        return asdict(self) | {"violations": list(self.violations)}


@dataclass
class Tally:
    """Collects what one check compares, proves and misses, and returns its finding.

    `checked`: facts compared. `doubts`: reasons why something could not be decided. `remarks`: for the note
    only; they do not affect the verdict.
    """

    name: str
    checked: int = 0
    witnesses: list[tuple[int, int, str]] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    kept: dict[str, dict[str, int]] = field(default_factory=dict)

    def keep(self, kind: str, acknowledged: int, lost: int) -> None:
        """Count `acknowledged` facts of a kind that were looked for, `lost` of them missing; calls add up."""
        counts = self.kept.setdefault(kind, {"acknowledged": 0, "lost": 0})
        counts["acknowledged"] += acknowledged
        counts["lost"] += lost

    def exercised(self, planned: Plan | None, acknowledged: Mapping[str, int]) -> None:
        """Record a doubt for each planned label without an acknowledged operation (label -> count)."""
        for word, count in acknowledged.items():
            if planned is not None and word in planned and not count:
                self.doubts.append(f"The run planned {word}, and none was acknowledged.")

    def violated(self, text: str, operations: int = 1, at_ns: int = 0) -> None:
        """Record a violation that `operations` operations prove; `at_ns`: when it was observed."""
        self.witnesses.append((operations, at_ns, text))

    def doubt(self, count: int, text: str) -> None:
        """Record that `count` facts could not be decided, unless it is 0."""
        if count:
            self.doubts.append(f"{count} {text}")

    def finding(self, nothing: str) -> Finding:
        """Return the finding. `nothing`: the reason for unknown, if the check compared no fact."""
        self.witnesses.sort()
        found = len(self.witnesses)
        shown = tuple(text for _, _, text in self.witnesses[:MOST_SHOWN])
        notes = list(self.doubts)
        if not self.checked:
            notes.append(f"Found no relevant operation: {nothing}.")
        verdict = FAIL if found else UNKNOWN if notes else PASS
        if found > MOST_SHOWN:
            notes.append(f"{found - MOST_SHOWN} more violations are not listed.")
        note = " ".join(notes + self.remarks)
        return Finding(self.name, verdict, self.checked, shown, note, found, self.kept)
