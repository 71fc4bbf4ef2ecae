"""Private stays private: the canary's words reach nobody who was not approved."""

from __future__ import annotations

from chaos.evidence import Evidence
from chaos.invariants.finding import Finding, Tally

NAME = "no_unauthorised_read"


def check(evidence: Evidence) -> Finding:
    """No answer of the final reads to a stranger holds words of a protected user's tweet.

    After the load a canary is planted: a new user, protected, whose tweet holds a word that nobody else has. Then strangers ask
    for it on every way (id, lists, search, likes, home of one who asked to follow), and every answer to them is scanned. A
    follower who was approved must see it: otherwise the silence would prove nothing.
    """
    tally = Tally(NAME)
    found = evidence.finals.canary if evidence.finals else None
    if found is None:
        return tally.finding("no canary was planted" if evidence.finals else evidence.no_finals)
    tally.checked = found.scanned
    for path in found.leaks:
        tally.violated(f"the canary of a protected user was read by a stranger: GET {path}")
    blind = "approved follower did not see the canary, so its absence elsewhere tells nothing."
    tally.doubt(int(not found.seen_by_follower), blind)
    return tally.finding("no answer was scanned")
