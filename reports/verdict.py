"""Verdicts and how they merge.

A promise has three values, ranked pass < unknown < fail: the worst of its parts decides, and what was not
seen is never a pass. A finding may also be not applicable, by the plan of its run: it has no part in the
verdict. A run has four: VOID (it cannot be trusted, whatever it says) stands above the others.
"""

from __future__ import annotations

from collections.abc import Iterable

PASS, UNKNOWN, FAIL, NOT_APPLICABLE = "pass", "unknown", "fail", "not_applicable"
VALID, OVERLOADED, VOID = "VALID", "OVERLOADED", "VOID"

RANK = {PASS: 0, UNKNOWN: 1, FAIL: 2}
FINDINGS = (*RANK, NOT_APPLICABLE)
"""The words of a finding."""
EXIT_CODES = {"PASS": 0, "FAIL": 1, "UNKNOWN": 2, "VOID": 3}


def merge(verdicts: Iterable[str]) -> str:
    """The worst verdict by rank; of none that applies, unknown. A word that is no verdict is unknown."""
    known = [word if word in RANK else UNKNOWN for word in verdicts if word != NOT_APPLICABLE]
    return max(known, key=RANK.__getitem__) if known else UNKNOWN


def of_run(validity: str, parts: Iterable[str]) -> str:
    """PASS, FAIL, UNKNOWN or VOID: a void run has no other verdict; an overloaded run is judged as any."""
    return VOID if validity == VOID else merge(parts).upper()


def exit_code(run_verdict: str) -> int:
    """0 PASS, 1 FAIL, 2 UNKNOWN, 3 VOID (or anything else)."""
    return EXIT_CODES.get(run_verdict, 3)
