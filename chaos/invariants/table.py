"""The invariants of a run, by name. To add one: write a function from Evidence to Finding and add a row.

A row also states what the plan of a run (`scenarios.plan`) must contain for its invariant to apply.
"""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from chaos.evidence.bundle import Evidence
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
    search_convergence,
)
from chaos.invariants.finding import FAIL, NOT_APPLICABLE, PASS, UNKNOWN, Finding
from scenarios import plan


@dataclass(frozen=True)
class Invariant:
    """One invariant.

    `needs`: groups of words of `plan.WORDS`; it applies where the plan contains at least one word of each
    group. Without a group it applies to every run.
    """

    name: str
    check: Callable[[Evidence], Finding]
    needs: tuple[tuple[str, ...], ...] = ()

    @property
    def docs(self) -> str:
        """Its description for the reference: the docstring of its check."""
        return inspect.getdoc(self.check) or ""

    @property
    def applies_to(self) -> str:
        """Which runs it applies to, in words, for the reference."""
        if not self.needs:
            return "every run."
        return f"runs that plan {', and '.join(' or '.join(group) for group in self.needs)}."

    def not_applicable(self, planned: plan.Plan | None) -> str:
        """Return why it does not apply to a run with this plan; "" where it does, or the plan is unknown."""
        if planned is None:
            return ""
        absent = next((group for group in self.needs if not planned.intersection(group)), None)
        return f"Not applicable: this run plans no {' and no '.join(absent)}." if absent else ""


FOLLOWS = (plan.SEEDED_FOLLOWS, plan.FOLLOWS, plan.APPROVALS)

INVARIANTS: dict[str, Invariant] = {row.name: row for row in (
    Invariant(graph.NAME, graph.check, (FOLLOWS,)),
    Invariant(cached.NAME, cached.check, ((plan.CACHED_LISTS,),)),
    Invariant(delivery.NAME, delivery.check, ((plan.POSTS,), FOLLOWS)),
    Invariant(exercised.NAME, exercised.check, ((plan.FAULTS,),)),
    Invariant(identity.KEYS, identity.check_keys, ((plan.POSTS,),)),
    Invariant(liking.NAME, liking.check, ((plan.LIKES, plan.SEEDED_LIKES),)),
    Invariant(limits.NAME, limits.check, ((plan.LIMITED_REQUESTS,),)),
    Invariant(lost.NAME, lost.check, ((plan.POSTS, plan.SEEDED_TWEETS),)),
    Invariant(ghosts.NAME, ghosts.check, ((plan.DELETES, plan.UNFOLLOWS),)),
    Invariant(pages.NAME, pages.check, ((plan.POSTS, plan.SEEDED_TWEETS),)),
    Invariant(intact.NAME, intact.check, ((plan.PICTURES,),)),
    Invariant(intact.POSITIONS, intact.check_positions, ((plan.PICTURES,),)),
    Invariant(privacy.NAME, privacy.check),  # plants canaries of its own before and after every load
    Invariant(own_writes.NAME, own_writes.check, ((plan.POSTS,),)),
    Invariant(search_convergence.NAME, search_convergence.check, ((plan.POSTS,),)),
    Invariant(identity.UNIQUE, identity.check_unique, ((plan.POSTS,),)),
)}


def judge(evidence: Evidence, invariants: dict[str, Invariant] | None = None) -> list[Finding]:
    """Return the finding of every invariant, in the order of the table.

    One that does not apply to the plan is *not applicable*, unless it found a violation all the same. A check
    that raises is unknown and carries its traceback; the others still run.
    """
    rows = INVARIANTS if invariants is None else invariants
    return [_run(row, evidence) for row in rows.values()]


def _run(row: Invariant, evidence: Evidence) -> Finding:
    try:
        finding = row.check(evidence)
    except Exception:  # a defect of one check must not void the other verdicts of the run
        return Finding(row.name, UNKNOWN, 0, note=f"The check crashed: {traceback.format_exc()}")
    reason = row.not_applicable(evidence.plan)
    if reason and finding.verdict != FAIL:
        return Finding(row.name, NOT_APPLICABLE, 0, note=reason)
    return finding


def verdict(findings: list[Finding]) -> str:
    """Return the worst verdict (pass < unknown < fail) of those that apply; unknown where none does."""
    verdicts = {finding.verdict for finding in findings} - {NOT_APPLICABLE}
    return FAIL if FAIL in verdicts else PASS if verdicts == {PASS} else UNKNOWN
