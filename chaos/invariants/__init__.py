"""Invariants of the system, judged on the evidence of a run: `INVARIANTS` by name, `judge(evidence)`."""

from chaos.invariants.finding import FAIL, NOT_APPLICABLE, PASS, UNKNOWN, Finding
from chaos.invariants.table import INVARIANTS, Invariant, judge, verdict

__all__ = [
    "FAIL", "INVARIANTS", "NOT_APPLICABLE", "PASS", "UNKNOWN", "Finding", "Invariant", "judge", "verdict",
]  # fmt: skip
