"""Read-your-writes: authors see their own acknowledged tweets."""

from __future__ import annotations

import bisect

from chaos.evidence.bundle import Evidence
from chaos.evidence.history import Post, Read
from chaos.invariants.finding import Finding, Tally
from chaos.invariants.pages import describe_read

NAME = "read_your_writes"


def check(evidence: Evidence) -> Finding:
    """After the acknowledgement of a tweet, every read of the author's own home or profile timeline shows it.

    Judged on pages that cover the id, except for tweets that may have been deleted before the read ended.
    There is no time bound: the guarantee holds immediately, and through every fault.
    """
    tally = Tally(NAME)
    own: dict[int, list[tuple[int, Post]]] = {}
    for tweet_id, post in evidence.history.acked.items():
        own.setdefault(post.user, []).append((tweet_id, post))
    for tweets in own.values():
        tweets.sort(key=lambda item: item[0])
    for read in evidence.all_reads:
        if read.user == read.subject and read.user in own:
            _judge(evidence, read, own[read.user], tally)
    return tally.finding("no author read their own home or profile after one of their posts was acknowledged")


def _judge(evidence: Evidence, read: Read, tweets: list[tuple[int, Post]], tally: Tally) -> None:
    first = bisect.bisect_left(tweets, read.low, key=lambda item: item[0])
    last = bisect.bisect_left(tweets, read.high, key=lambda item: item[0])
    for tweet_id, post in tweets[first:last]:
        if post.acked_ns >= read.sent_ns or evidence.history.maybe_deleted(tweet_id, read.done_ns):
            continue
        tally.checked += 1
        if tweet_id not in read.ids:
            tally.violated(f"own tweet {tweet_id} is missing; {evidence.history.describe(post.rows[-1])}; "
                           f"{describe_read(evidence, read)}", 2, read.sent_ns)
