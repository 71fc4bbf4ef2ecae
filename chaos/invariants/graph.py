"""Acknowledged follows are durable: the follow graph in PostgreSQL matches the responses to clients."""

from __future__ import annotations

from chaos.evidence.bundle import Evidence
from chaos.invariants.finding import Finding, Tally
from scenarios import plan

NAME = "acknowledged_follows_stand"


def check(evidence: Evidence) -> Finding:
    """Every edge that certainly exists is in PostgreSQL, from both ends, and so is every seeded account.

    Seeded edges that no request may have removed count too. Edges that may or may not exist are left out;
    edges that certainly do not exist are judged by no_ghost_after_delete_or_unfollow.
    """
    tally = Tally(NAME)
    finals = evidence.finals
    if finals is None:
        return tally.finding(evidence.no_finals)
    tally.exercised(evidence.plan, {plan.FOLLOWS: evidence.history.acknowledged("follow"),
                                    plan.APPROVALS: evidence.history.acknowledged("follow_approve")})
    for follower, author in evidence.history.edges:
        if evidence.edge_exists(follower, author, finals.at_ns, finals.at_ns):
            _both_ends(evidence, follower, author, tally)
    for author, followers in finals.followers.items():
        for follower in evidence.seeded_followers(author).tolist():
            if (follower, author) in evidence.history.edges:
                continue
            tally.checked += 1
            tally.keep("follows", 1, int(follower not in followers))
            if follower not in followers:
                tally.violated(f"the seeded edge {follower} -> {author}, which no request removed, is not in PostgreSQL")
    for user, exists in finals.accounts.items():
        tally.keep("accounts", 1, int(not exists))
        if not exists:
            tally.violated(f"the account of user {user}, which was seeded, is not in PostgreSQL")
    return tally.finding("no edge was read back")


def _both_ends(evidence: Evidence, follower: int, author: int, tally: Tally) -> None:
    finals = evidence.finals
    assert finals is not None
    proof = "; ".join(evidence.history.describe(change.row) for change in evidence.history.edges[follower, author])
    ends = (("following", finals.following.get(follower), author),
            ("followers", finals.followers.get(author), follower))
    sides = [(name, side, other) for name, side, other in ends if side is not None]
    tally.keep("follows", int(bool(sides)), int(any(other not in side for _, side, other in sides)))
    for name, side, other in sides:
        tally.checked += 1
        if other not in side:
            tally.violated(f"the edge {follower} -> {author} exists by the answers and is not in {name}; {proof}", 2)
