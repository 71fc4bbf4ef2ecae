"""Pagination by id: pages are ordered, disjoint and without gaps."""

from __future__ import annotations

import bisect
from collections.abc import Iterable

from chaos.evidence.bundle import Evidence
from chaos.evidence.history import HOME, Read
from chaos.invariants.finding import Finding, Tally

NAME = "pages_have_no_duplicates_or_disorder"


def check(evidence: Evidence) -> Finding:
    """Ids strictly descend within a page, pages of a walk are disjoint, and later reads lose nothing.

    A walk is one pagination: successive pages, read by cursor. Reads of one session that do not overlap in
    time are compared on the ids that both cover, except for tweets that may have been deleted and authors
    that may have been unfollowed in the meantime.
    """
    tally = Tally(NAME)
    sessions: dict[tuple[str, int, int, str], list[Read]] = {}
    for read in evidence.all_reads:
        tally.checked += bool(read.ids)
        _order(evidence, read, tally)
        sessions.setdefault((read.route, read.user, read.subject, read.session), []).append(read)
    for reads in sessions.values():
        _gaps(evidence, reads, tally)
    return tally.finding("no page with tweets was read")


def _order(evidence: Evidence, read: Read, tally: Tally) -> None:
    for newer, older in zip(read.ids, read.ids[1:], strict=False):
        if newer == older or (newer < older and older in read.ids[:read.ids.index(newer)]):
            tally.violated(f"tweet {older} is twice in one page; {describe_read(evidence, read)}", 1, read.sent_ns)
        elif newer < older:
            tally.violated(f"tweet {older} is below the older {newer}; {describe_read(evidence, read)}", 1, read.sent_ns)
    if read.continues:
        for tweet_id in read.ids:
            if tweet_id >= read.high:
                tally.violated(f"tweet {tweet_id} is in a page whose walk had already passed {read.high}; "
                               f"{describe_read(evidence, read)}", 2, read.sent_ns)


def _gaps(evidence: Evidence, reads: Iterable[Read], tally: Tally) -> None:
    """Compare each read with what earlier, finished reads of the session showed in the range it covers."""
    known: list[int] = []
    first: dict[int, tuple[Read, int]] = {}
    waiting: list[Read] = []
    for read in reads:
        _learn([r for r in waiting if r.done_ns < read.sent_ns], known, first)
        waiting = [r for r in waiting if r.done_ns >= read.sent_ns]
        shown = frozenset(read.ids)
        for tweet_id in known[bisect.bisect_left(known, read.low):bisect.bisect_left(known, read.high)]:
            if tweet_id not in shown and not _explained(evidence, read, tweet_id, first[tweet_id][1]):
                tally.violated(f"tweet {tweet_id} was shown and is then missing from a page that covers it; "
                               f"{describe_read(evidence, first[tweet_id][0])}; {describe_read(evidence, read)}", 2, read.sent_ns)
        waiting.append(read)


def _learn(reads: list[Read], known: list[int], first: dict[int, tuple[Read, int]]) -> None:
    for read in reads:
        for at, tweet_id in enumerate(read.ids):
            if tweet_id not in first:
                bisect.insort(known, tweet_id)
                first[tweet_id] = (read, read.authors[at] if at < len(read.authors) else -1)


def _explained(evidence: Evidence, read: Read, tweet_id: int, author: int) -> bool:
    """Return whether a delete or an unfollow may have removed the tweet before the read ended."""
    if evidence.history.maybe_deleted(tweet_id, read.done_ns):
        return True
    if read.route != HOME:
        return False
    edges = evidence.history.edges
    authors = [author] if author >= 0 else [followee for follower, followee in edges if follower == read.user]
    return any(not change.on and change.sent_ns < read.done_ns
               for followee in authors for change in edges.get((read.user, followee), ()))


def describe_read(evidence: Evidence, read: Read) -> str:
    """Return a read as evidence of a violation, final reads included."""
    if read.row >= 0:
        return evidence.history.describe(read.row)
    return f"final {read.route} of {read.subject} @{evidence.history.seconds(read.sent_ns):.3f} s"
