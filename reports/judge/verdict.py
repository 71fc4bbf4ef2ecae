"""Verdicts and how they merge.

A promise has three values, ranked pass < unknown < fail: the worst of its parts decides, and what was not
seen is never a pass. A finding may also be not applicable, by the plan of its run: it has no part in the
verdict. A run has four: VOID (it cannot be trusted, whatever it says) ranks above the others. An OVERLOADED run
is no pass, since it was not offered what it carries, unless its scenario expects the overload.
"""

from __future__ import annotations

from collections.abc import Iterable

PASS, UNKNOWN, FAIL, NOT_APPLICABLE = "pass", "unknown", "fail", "not_applicable"
VALID, OVERLOADED, VOID = "VALID", "OVERLOADED", "VOID"

RANK = {PASS: 0, UNKNOWN: 1, FAIL: 2}
FINDINGS = (*RANK, NOT_APPLICABLE)
"""The words of a finding."""
EXIT_CODES = {"PASS": 0, "FAIL": 1, "UNKNOWN": 2, "VOID": 3}
RUN_RANK = ("PASS", "UNKNOWN", "FAIL", "VOID")  # from the best to the worst of several runs


def merge(verdicts: Iterable[str]) -> str:
    """The worst verdict by rank; of none that applies, unknown. A word that is no verdict is unknown."""
    known = [word if word in RANK else UNKNOWN for word in verdicts if word != NOT_APPLICABLE]
    return max(known, key=RANK.__getitem__) if known else UNKNOWN


def of_run(validity: str, parts: Iterable[str], expects_overload: bool = False) -> str:
    """PASS, FAIL, UNKNOWN or VOID: a void run has no other verdict; an overload that nobody expects counts as
    unknown.
    """
    if validity == VOID:
        return VOID
    surprised = [UNKNOWN] if validity == OVERLOADED and not expects_overload else []
    return merge([*parts, *surprised]).upper()


def exit_code(run_verdict: str) -> int:
    """0 PASS, 1 FAIL, 2 UNKNOWN, 3 VOID (or anything else)."""
    return EXIT_CODES.get(run_verdict, 3)


def worst(run_verdicts: Iterable[str]) -> str:
    """The worst verdict of several runs by RUN_RANK; of none, and of a word that is no verdict, VOID."""
    known = [word if word in RUN_RANK else VOID for word in run_verdicts]
    return max(known, key=RUN_RANK.index) if known else VOID
