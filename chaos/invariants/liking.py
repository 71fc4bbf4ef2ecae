"""Likes form a set: it contains exactly the acknowledged likes, and the like count is its size."""

from __future__ import annotations

from chaos.evidence.bundle import Evidence
from chaos.evidence.history import Change
from chaos.invariants.finding import Finding, Tally
from scenarios import plan

NAME = "likes_exact"


def check(evidence: Evidence) -> Finding:
    """PostgreSQL holds every acknowledged like and none that was never requested, and the API's counts match.

    A like without a response may exist or not. Seeded likes remain: no route of a mix removes them. The API's
    count is read after the queues have drained.
    """
    tally = Tally(NAME)
    finals = evidence.finals
    if finals is None:
        return tally.finding(evidence.no_finals)
    tally.exercised(evidence.plan, {plan.LIKES: evidence.history.acknowledged("like")})
    requested: dict[int, dict[int, list[Change]]] = {}
    seeded: dict[int, set[int]] = {}
    for tweet, user in evidence.seeded_likes:
        seeded.setdefault(tweet, set()).add(user)
    for (user, tweet), changes in evidence.history.likes.items():
        requested.setdefault(tweet, {})[user] = changes
    for tweet, likers in finals.likers.items():
        by_user = requested.get(tweet, {})
        for user, changes in by_user.items():
            tally.checked += 1
            sure = _certainly_exists(changes)
            tally.keep("likes", int(bool(sure)), int(bool(sure) and user not in likers))
            if sure is not None and sure != (user in likers):
                proof = "; ".join(evidence.history.describe(change.row) for change in changes)
                tally.violated(f"the like of {tweet} by {user} {'is lost' if sure else 'exists again'}: {proof}", len(changes))
        before = seeded.get(tweet, set())
        tally.checked += len(before)
        lost = before - likers - set(by_user)
        tally.keep("likes", len(before - set(by_user)), len(lost))
        for user in sorted(lost):
            tally.violated(f"the like of {tweet} by {user}, which was seeded, is lost")
        for user in sorted(likers - set(by_user) - before):
            tally.violated(f"user {user} likes {tweet} in PostgreSQL, and no request asked for it")
        _counted(finals.like_counts.get(tweet), tweet, len(likers), tally)
    tally.doubt(sum(count is None for count in finals.like_counts.values()), "like counts had no answer from the API.")
    return tally.finding("no like was acknowledged or may exist")


def _certainly_exists(changes: list[Change]) -> bool | None:
    """Return whether the like certainly exists or certainly does not; None where either is possible."""
    if len({change.on for change in changes}) == 1:
        return changes[0].on if any(change.ok for change in changes) else None
    last = max(changes, key=lambda change: change.sent_ns)
    alone = all(change.ok and change.done_ns < last.sent_ns for change in changes if change is not last)
    return last.on if alone and last.ok else None


def _counted(count: int | None, tweet: int, size: int, tally: Tally) -> None:
    if count is None:
        return
    tally.checked += 1
    if count != size:
        tally.violated(f"the API counts {count} likes of {tweet}; PostgreSQL holds {size}")
