"""Verdicts and how they are merged.

An objective or invariant has one of three verdicts, ranked pass < unknown < fail: the worst part decides, and what
was not observed is never a pass. A finding can also be not applicable, given the plan of its run; it is then
ignored. A run has one of four verdicts: VOID (the measurement cannot be trusted) ranks above PASS, UNKNOWN and
FAIL. An OVERLOADED run does not pass, since its offered load exceeded capacity, unless its scenario expects the
overload.
"""

from __future__ import annotations

from collections.abc import Iterable

PASS, UNKNOWN, FAIL, NOT_APPLICABLE = "pass", "unknown", "fail", "not_applicable"
VALID, OVERLOADED, VOID = "VALID", "OVERLOADED", "VOID"

RANK = {PASS: 0, UNKNOWN: 1, FAIL: 2}
FINDINGS = (*RANK, NOT_APPLICABLE)
"""The verdicts of a finding."""
EXIT_CODES = {"PASS": 0, "FAIL": 1, "UNKNOWN": 2, "VOID": 3}
RUN_RANK = ("PASS", "UNKNOWN", "FAIL", "VOID")  # from best to worst, for several runs


def merge(verdicts: Iterable[str]) -> str:
    """Return the worst verdict by rank; unknown if none applies. An invalid verdict counts as unknown."""
    known = [word if word in RANK else UNKNOWN for word in verdicts if word != NOT_APPLICABLE]
    return max(known, key=RANK.__getitem__) if known else UNKNOWN


def of_run(validity: str, parts: Iterable[str], expects_overload: bool = False) -> str:
    """Return PASS, FAIL, UNKNOWN or VOID. A void run is VOID; an unexpected overload counts as an unknown part."""
    if validity == VOID:
        return VOID
    overload = [UNKNOWN] if validity == OVERLOADED and not expects_overload else []
    return merge([*parts, *overload]).upper()


def exit_code(run_verdict: str) -> int:
    """Return 0 for PASS, 1 for FAIL, 2 for UNKNOWN, 3 for VOID or anything else."""
    return EXIT_CODES.get(run_verdict, 3)


def worst(run_verdicts: Iterable[str]) -> str:
    """Return the worst verdict of several runs by RUN_RANK; VOID for no runs and for an invalid verdict."""
    known = [word if word in RUN_RANK else VOID for word in run_verdicts]
    return max(known, key=RUN_RANK.index) if known else VOID
