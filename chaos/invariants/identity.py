"""Tweet ids are unique and ordered by time; an idempotency key identifies one tweet."""

from __future__ import annotations

from chaos.evidence.bundle import Evidence
from chaos.evidence.history import NEVER_NS, Post
from chaos.invariants.finding import Finding, Tally
from system.kernel import ids

UNIQUE, KEYS = "unique_ids", "idempotency_keys_are_honoured"


def check_unique(evidence: Evidence) -> Finding:
    """No id is issued twice, none belongs to two authors, and ids follow time.

    The ids of one worker number are strictly monotonic: a tweet that is requested after another was
    acknowledged has the larger id. Between workers, and against the wall clock of the request, the time in an
    id differs by at most `Bounds.id_skew_ms`.
    """
    tally = Tally(UNIQUE)
    issued: dict[int, Post] = {}
    for post in evidence.history.posts:
        for tweet_id in post.tweet_ids:
            tally.checked += 1
            if tweet_id in issued:
                tally.violated(f"tweet id {tweet_id} was issued twice; {evidence.history.describe(issued[tweet_id].rows[-1])}; "
                               f"{evidence.history.describe(post.rows[-1])}", 2, post.acked_ns)
            elif evidence.is_seeded(tweet_id):
                tally.violated(f"tweet id {tweet_id} was seeded; {evidence.history.describe(post.rows[-1])}", 1, post.acked_ns)
            issued.setdefault(tweet_id, post)
    _one_author(evidence, issued, tally)
    _growing(evidence, issued, tally)
    return tally.finding("no post was acknowledged")


def _one_author(evidence: Evidence, issued: dict[int, Post], tally: Tally) -> None:
    owner = {tweet_id: post.user for tweet_id, post in issued.items()}
    for read in evidence.all_reads:
        for tweet_id, author in zip(read.ids, read.authors, strict=False):
            if owner.setdefault(tweet_id, author) != author:
                tally.violated(f"tweet id {tweet_id} belongs to author {owner[tweet_id]} and, in a page, to {author}",
                               2, read.sent_ns)
                owner[tweet_id] = author


def _growing(evidence: Evidence, issued: dict[int, Post], tally: Tally) -> None:
    """Compare the ids in order of time, over sends and acknowledgements.

    An id must be above every id of its worker that was acknowledged when it was requested.
    """
    by_send = sorted(issued.items(), key=lambda item: item[1].sent_ns)
    by_ack = sorted(issued.items(), key=lambda item: item[1].acked_ns)
    skew_ms = evidence.bounds.id_skew_ms
    top: dict[int, int] = {}
    newest_ms = at = 0
    for tweet_id, post in by_send:
        while by_ack[at][1].acked_ns < post.sent_ns:
            older = by_ack[at][0]
            worker = ids.worker_of(older)
            top[worker] = max(top.get(worker, 0), older)
            newest_ms = max(newest_ms, ids.ms_of(older))
            at += 1
        made_ms = ids.ms_of(tweet_id)
        highest = top.get(ids.worker_of(tweet_id), -1)
        proof = evidence.history.describe(post.rows[-1])
        if tweet_id < highest:
            tally.violated(f"tweet id {tweet_id} is below {highest}, which its worker had already issued; {proof}",
                           2, post.sent_ns)
        elif made_ms < newest_ms - skew_ms:
            tally.violated(f"tweet id {tweet_id} is {newest_ms - made_ms} ms older than an id acknowledged before its "
                           f"request (bound {skew_ms} ms); {proof}", 2, post.sent_ns)
        _wall(evidence, tweet_id, post, proof, tally)


def _wall(evidence: Evidence, tweet_id: int, post: Post, proof: str, tally: Tally) -> None:
    skew_ms = evidence.bounds.id_skew_ms
    low_ms = evidence.clock.wall_ms_at(post.sent_ns) - skew_ms
    high_ms = evidence.clock.wall_ms_at(post.acked_ns) + skew_ms if post.acked_ns < NEVER_NS else NEVER_NS
    if not low_ms <= ids.ms_of(tweet_id) <= high_ms:
        tally.violated(f"tweet id {tweet_id} carries the time {ids.ms_of(tweet_id)} ms, outside its request "
                       f"({low_ms} to {high_ms} ms); {proof}", 1, post.sent_ns)


def check_keys(evidence: Evidence) -> Finding:
    """All attempts with one idempotency key yield one tweet, and no key covers two request bodies.

    Judged on the responses. That Cassandra holds exactly one tweet for each is part of
    no_acknowledged_tweet_lost, which reports a second tweet as a phantom.
    """
    tally = Tally(KEYS)
    retried = 0
    for post in evidence.history.posts:
        if not post.key:
            continue
        tally.checked += 1
        retried += len(post.rows) > 1
        proof = "; ".join(evidence.history.describe(row) for row in post.rows)
        if len(post.tweet_ids) > 1:
            tally.violated(f"key {post.key!r} of user {post.user} made tweets {list(post.tweet_ids)}; {proof}",
                           len(post.rows), post.acked_ns)
        if len(post.bodies) > 1:
            tally.violated(f"key {post.key!r} of user {post.user} was accepted with {len(post.bodies)} bodies; {proof}",
                           len(post.rows), post.acked_ns)
    tally.remarks.append(f"{retried} of {tally.checked} keys were sent more than once.")
    return tally.finding("no post carried an idempotency key")
