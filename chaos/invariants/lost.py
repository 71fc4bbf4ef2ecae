"""Acknowledged writes are durable: afterwards, every acknowledged tweet can be read by every read path."""

from __future__ import annotations

from collections import Counter

import numpy as np

from chaos.evidence.bundle import Evidence, Finals
from chaos.evidence.history import NEVER_NS, PROFILE, Post
from chaos.invariants.finding import Finding, Tally
from scenarios import plan

NAME = "no_acknowledged_tweet_lost"


def check(evidence: Evidence) -> Finding:
    """Every acknowledged tweet that was not deleted exists at the end, and no unexplained tweet does.

    Lost = acknowledged - possibly deleted - final. The final state is read in three ways: from Cassandra by
    id and by author, by GET of the id, and from the author's page; all must agree. The tweet of a post that
    ended `info` may exist (recovered) or not. A tweet of the run that neither an acknowledged nor an `info`
    post explains is a phantom. Seeded tweets, which no route deletes, must exist in every author partition
    that was read.
    """
    tally = Tally(NAME)
    finals = evidence.finals
    if finals is None:
        return tally.finding(evidence.no_finals)
    tally.exercised(evidence.plan, {plan.POSTS: len(evidence.history.acked)})
    shown = _shown(finals)
    unread = unanswered = 0
    for tweet_id, post in evidence.history.acked.items():
        if evidence.history.maybe_deleted(tweet_id):
            continue
        tally.checked += 1
        absent, was_read = _absent(finals, shown, tweet_id, post)
        unread += not was_read
        unanswered += finals.api_tweets.get(tweet_id, True) is None
        tally.keep("tweets", 1, int(bool(absent)))
        if absent:
            proof = evidence.history.describe(post.rows[-1])
            tally.violated(f"tweet {tweet_id} was acknowledged and is absent from {', '.join(absent)}; {proof}",
                           len(post.rows), post.acked_ns)
    without_id = sum(post.acked_ns < NEVER_NS and not post.tweet_ids for post in evidence.history.posts)
    tally.doubt(without_id, "posts were acknowledged without a tweet id.")
    tally.doubt(unread, "acknowledged tweets were not read back from Cassandra.")
    tally.doubt(unanswered, "final GETs had no answer.")
    tally.doubt(finals.unread, "final pages had no answer.")
    _phantoms(evidence, finals, tally)
    _seeded(evidence, finals, tally)
    if finals.sample:
        tally.remarks.append(f"Sample: {finals.sample}.")
    return tally.finding("no post was acknowledged and no seeded tweet was looked for")


def _shown(finals: Finals) -> dict[int, list[tuple[int, int, frozenset[int]]]]:
    """Return author -> the final profile pages as (low, high, ids)."""
    pages: dict[int, list[tuple[int, int, frozenset[int]]]] = {}
    for page in finals.pages:
        if page.route == PROFILE:
            pages.setdefault(page.subject, []).append((page.low, page.high, frozenset(page.ids)))
    return pages


def _absent(finals: Finals, shown: dict[int, list[tuple[int, int, frozenset[int]]]], tweet_id: int,
            post: Post) -> tuple[list[str], bool]:
    """Return the places that lack the tweet, and whether Cassandra was read for it at all."""
    absent = []
    stored = finals.by_id.get(tweet_id)
    if tweet_id in finals.looked_up and stored is None:
        absent.append("Cassandra by id")
    if stored is not None and stored.deleted:
        absent.append("Cassandra by id (marked deleted without a request)")
    of_author = finals.by_author.get(post.user)
    if of_author is not None and tweet_id >= finals.author_floors.get(post.user, 0) and of_author.get(tweet_id, True):
        absent.append("Cassandra by author")
    if finals.api_tweets.get(tweet_id) is False:
        absent.append("GET by id")
    if any(low <= tweet_id < high and tweet_id not in ids for low, high, ids in shown.get(post.user, ())):
        absent.append("the author's page")
    return absent, tweet_id in finals.looked_up or of_author is not None


def _seeded(evidence: Evidence, finals: Finals, tally: Tally) -> None:
    """Look for every seeded tweet of the authors that were read; one violation per author."""
    order = np.argsort(evidence.seeded_authors, kind="stable")
    authors, tweet_ids = evidence.seeded_authors[order], evidence.seeded_ids[order] if len(order) else order
    for author, stored in finals.by_author.items():
        first, last = np.searchsorted(authors, (author, author + 1))
        floor = finals.author_floors.get(author, 0)
        expected = [tweet_id for tweet_id in tweet_ids[first:last].tolist()
                    if tweet_id >= floor and not evidence.history.maybe_deleted(tweet_id)]
        absent = [tweet_id for tweet_id in expected if stored.get(tweet_id, True)]
        tally.checked += len(expected)
        tally.keep("seeded tweets", len(expected), len(absent))
        if absent:
            tally.violated(f"author {author} lacks {len(absent)} of {len(expected)} seeded tweets in "
                           f"Cassandra that no request deleted ({', '.join(map(str, absent[:5]))})", len(absent))


def _phantoms(evidence: Evidence, finals: Finals, tally: Tally) -> None:
    acked = evidence.history.acked
    open_posts = Counter(post.user for post in evidence.history.posts if not post.tweet_ids)
    recovered = 0
    for author, tweets in finals.by_author.items():
        extra = [tweet_id for tweet_id in tweets
                 if tweet_id >= evidence.run_floor_id and tweet_id not in acked and not evidence.is_seeded(tweet_id)]
        recovered += min(len(extra), open_posts[author])
        if len(extra) > open_posts[author]:
            tally.violated(f"author {author} has {len(extra)} tweets of this run that no acknowledged post explains "
                           f"({', '.join(map(str, sorted(extra)[:5]))}) and only {open_posts[author]} posts that may have "
                           "happened: phantoms")
    if open_posts:
        tally.remarks.append(f"Of {open_posts.total()} posts that may have happened, {recovered} did.")
