"""Likes are a set: what stands is what was acknowledged, and a count is its size."""

from __future__ import annotations

from chaos.evidence.bundle import Evidence
from chaos.evidence.history import Change
from chaos.invariants.finding import Finding, Tally
from scenarios import plan

NAME = "likes_exact"


def check(evidence: Evidence) -> Finding:
    """Every acknowledged like stands in PostgreSQL, nothing stands that nobody asked for, and the API counts what stands.

    A like whose answer never came may stand or not. Likes that stood before the run stay: no route of a mix
    takes one back. The API's count is read after the queues were empty.
    """
    tally = Tally(NAME)
    finals = evidence.finals
    if finals is None:
        return tally.finding(evidence.no_finals)
    tally.exercised(evidence.plan, {plan.LIKES: evidence.history.acknowledged("like")})
    asked: dict[int, dict[int, list[Change]]] = {}
    seeded: dict[int, set[int]] = {}
    for tweet, user in evidence.seeded_likes:
        seeded.setdefault(tweet, set()).add(user)
    for (user, tweet), changes in evidence.history.likes.items():
        asked.setdefault(tweet, {})[user] = changes
    for tweet, standing in finals.likers.items():
        by_user = asked.get(tweet, {})
        for user, changes in by_user.items():
            tally.checked += 1
            sure = _stands(changes)
            tally.keep("likes", int(bool(sure)), int(bool(sure) and user not in standing))
            if sure is not None and sure != (user in standing):
                proof = "; ".join(evidence.history.describe(change.row) for change in changes)
                tally.violated(f"the like of {tweet} by {user} {'is lost' if sure else 'stands again'}: {proof}", len(changes))
        before = seeded.get(tweet, set())
        tally.checked += len(before)
        gone = before - standing - set(by_user)
        tally.keep("likes", len(before - set(by_user)), len(gone))
        for user in sorted(gone):
            tally.violated(f"the like of {tweet} by {user}, which stood before the run, is gone")
        for user in sorted(standing - set(by_user) - before):
            tally.violated(f"user {user} likes {tweet} in PostgreSQL, and nobody asked for it")
        _counted(finals.like_counts.get(tweet), tweet, len(standing), tally)
    tally.doubt(sum(count is None for count in finals.like_counts.values()), "counts were not answered by the API.")
    return tally.finding("no like that was acknowledged or may stand")


def _stands(changes: list[Change]) -> bool | None:
    """Say whether the like surely stands; None where it may or may not."""
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
        tally.violated(f"the API counts {count} likes of {tweet}; {size} stand in PostgreSQL")
