"""The follow graph in PostgreSQL is what the clients were told."""

from __future__ import annotations

from chaos.evidence import Evidence
from chaos.invariants.finding import Finding, Tally

NAME = "acknowledged_follows_stand"


def check(evidence: Evidence) -> Finding:
    """Every edge that surely stands by the answers is in PostgreSQL, from both of its ends.

    Seeded edges that nobody may have cut count too. Edges that may or may not stand are left out; edges that
    surely do not stand are judged by no_ghost_after_delete_or_unfollow.
    """
    tally = Tally(NAME)
    finals = evidence.finals
    if finals is None:
        return tally.finding(evidence.no_finals)
    for follower, author in evidence.history.edges:
        if evidence.edge_stands(follower, author, finals.at_ns, finals.at_ns):
            _both_ends(evidence, follower, author, tally)
    for author, followers in finals.followers.items():
        for follower in evidence.seeded_followers(author).tolist():
            if (follower, author) in evidence.history.edges:
                continue
            tally.checked += 1
            if follower not in followers:
                tally.violated(f"the seeded edge {follower} -> {author}, which nobody cut, is not in PostgreSQL")
    return tally.finding("no edge was read back")


def _both_ends(evidence: Evidence, follower: int, author: int, tally: Tally) -> None:
    finals = evidence.finals
    assert finals is not None
    proof = "; ".join(evidence.history.tell(change.row) for change in evidence.history.edges[follower, author])
    for name, side, other in (("following", finals.following.get(follower), author),
                              ("followers", finals.followers.get(author), follower)):
        if side is None:
            continue
        tally.checked += 1
        if other not in side:
            tally.violated(f"the edge {follower} -> {author} stands by the answers and is not in {name}; {proof}", 2)
