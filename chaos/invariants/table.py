"""The invariants of a run, by name. To add a check: one function from Evidence to Finding, one row here."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from chaos.evidence import Evidence
from chaos.history import MEDIA
from chaos.invariants import (
    cached,
    delivery,
    exercised,
    ghosts,
    graph,
    identity,
    intact,
    liking,
    limits,
    lost,
    own_writes,
    pages,
    privacy,
    searching,
)
from chaos.invariants.finding import FAIL, PASS, UNKNOWN, Finding


@dataclass(frozen=True)
class Invariant:
    """One promise. `needs_faults`: left out of runs without faults. `route`: left out of runs that sent nothing to it."""

    name: str
    check: Callable[[Evidence], Finding]
    needs_faults: bool = False
    route: str = ""

    @property
    def docs(self) -> str:
        """The promise in words, for the reference: the docstring of its check."""
        return inspect.getdoc(self.check) or ""


INVARIANTS: dict[str, Invariant] = {row.name: row for row in (
    Invariant(graph.NAME, graph.check),
    Invariant(cached.NAME, cached.check),
    Invariant(delivery.NAME, delivery.check),
    Invariant(exercised.NAME, exercised.check, needs_faults=True),
    Invariant(identity.KEYS, identity.check_keys),
    Invariant(liking.NAME, liking.check, route="like"),
    Invariant(limits.NAME, limits.check),
    Invariant(lost.NAME, lost.check),
    Invariant(ghosts.NAME, ghosts.check),
    Invariant(pages.NAME, pages.check),
    Invariant(intact.NAME, intact.check, route=MEDIA),
    Invariant(privacy.NAME, privacy.check),
    Invariant(own_writes.NAME, own_writes.check),
    Invariant(searching.NAME, searching.check),
    Invariant(identity.UNIQUE, identity.check_unique),
)}


def judge(evidence: Evidence, invariants: dict[str, Invariant] | None = None) -> list[Finding]:
    """Return the finding of every invariant that applies, in the table's order.

    A check that crashes is unknown and carries its traceback; the others still run.
    """
    rows = INVARIANTS if invariants is None else invariants
    return [_run(row, evidence) for row in rows.values() if _applies(row, evidence)]


def _applies(row: Invariant, evidence: Evidence) -> bool:
    if row.needs_faults and not evidence.faults:
        return False
    return not row.route or "route" not in evidence.rows or bool((evidence.rows["route"] == row.route).any())


def _run(row: Invariant, evidence: Evidence) -> Finding:
    try:
        return row.check(evidence)
    except Exception:  # whatever a checker stumbles over, the other verdicts of the run must stand
        return Finding(row.name, UNKNOWN, 0, note=f"The check crashed: {traceback.format_exc()}")


def verdict(findings: list[Finding]) -> str:
    """Return the worst verdict: pass < unknown < fail; unknown where there is none."""
    found = {finding.verdict for finding in findings}
    return FAIL if FAIL in found else PASS if found == {PASS} else UNKNOWN
