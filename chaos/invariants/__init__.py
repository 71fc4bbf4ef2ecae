"""What users were promised, checked on what a run left behind: `INVARIANTS` by name, `judge(evidence)` for all."""

from chaos.invariants.finding import FAIL, PASS, UNKNOWN, Finding
from chaos.invariants.table import INVARIANTS, Invariant, judge, verdict

__all__ = ["FAIL", "INVARIANTS", "PASS", "UNKNOWN", "Finding", "Invariant", "judge", "verdict"]
