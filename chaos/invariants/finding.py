"""What a check says: pass, unknown or fail, with the operations that prove it.

Unknown is not pass: a check that saw no relevant operation, or could not read what it needed, is unknown and
says why. A proven violation is a fail, whatever else could not be read.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

PASS, UNKNOWN, FAIL = "pass", "unknown", "fail"
MOST_SHOWN = 20  # violations a finding lists; the rest are counted


@dataclass(frozen=True)
class Finding:
    """The verdict of one invariant. `checked`: facts it compared. `found`: all violations, also those not listed."""

    name: str
    verdict: str
    checked: int
    violations: tuple[str, ...] = ()
    note: str = ""
    found: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return the finding as plain JSON values."""
        return asdict(self) | {"violations": list(self.violations)}


@dataclass
class Tally:
    """Collects what one check compares, proves and misses, and makes its finding.

    `checked`: facts compared. `doubts`: reasons why something could not be decided. `remarks`: for the note only.
    """

    name: str
    checked: int = 0
    witnesses: list[tuple[int, int, str]] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def violated(self, text: str, operations: int = 1, at_ns: int = 0) -> None:
        """Note a violation that `operations` operations prove; `at_ns`: when it was seen."""
        self.witnesses.append((operations, at_ns, text))

    def doubt(self, count: int, text: str) -> None:
        """Note that `count` facts could not be decided, unless it is 0."""
        if count:
            self.doubts.append(f"{count} {text}")

    def finding(self, nothing: str) -> Finding:
        """Return the verdict. `nothing`: what the history did not hold, where no fact was compared."""
        self.witnesses.sort()
        found = len(self.witnesses)
        shown = tuple(text for _, _, text in self.witnesses[:MOST_SHOWN])
        notes = list(self.doubts)
        if not self.checked:
            notes.append(f"Saw no relevant operation: {nothing}.")
        verdict = FAIL if found else UNKNOWN if notes else PASS
        if found > MOST_SHOWN:
            notes.append(f"{found - MOST_SHOWN} more violations are not listed.")
        return Finding(self.name, verdict, self.checked, shown, " ".join(notes + self.remarks), found)
