"""What users were promised, checked on what a run left behind: `INVARIANTS` by name, `judge(evidence)` for all."""

from chaos.invariants.finding import FAIL, NOT_APPLICABLE, PASS, UNKNOWN, Finding
from chaos.invariants.table import INVARIANTS, Invariant, judge, verdict

__all__ = [
    "FAIL", "INVARIANTS", "NOT_APPLICABLE", "PASS", "UNKNOWN", "Finding", "Invariant", "judge", "verdict",
]  # fmt: skip
