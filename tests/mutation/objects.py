"""Mutations of pictures, likes, seeded data and private data."""

from __future__ import annotations

import random
from collections.abc import Callable

from chaos.evidence.bundle import Canary, Evidence, StoredPicture
from chaos.evidence.history import MEDIA, TWEET
from scenarios.world import pictures as drawn
from tests.mutation import edits

Mutate = Callable[[Evidence, random.Random], Evidence | None]


def tear_a_picture(change: Callable[[StoredPicture], StoredPicture | None]) -> Mutate:
    """Return the mutation in which storage holds what `change` makes of a picture; None for nothing."""
    def mutate(evidence: Evidence, rng: random.Random) -> Evidence | None:
        pictures = dict(edits.finals_of(evidence).pictures or {})
        if not pictures:
            return None
        key = rng.choice(sorted(pictures))
        stored = pictures[key]
        assert stored is not None
        return edits.with_finals(evidence, pictures={**pictures, key: change(stored)})
    return mutate


def tell_a_position(evidence: Evidence, rng: random.Random) -> Evidence | None:
    """The edge returns a picture with the position in its metadata."""
    rows = evidence.history.rows_of((MEDIA,))
    return edits.with_rows(evidence, {rng.choice(rows): {"outcome": "info", "error": f"get: {drawn.LEAKED}"}}) if rows else None


def lose_a_like(evidence: Evidence, rng: random.Random) -> Evidence | None:
    """PostgreSQL loses an acknowledged like, and the count matches the loss."""
    likers = dict(edits.finals_of(evidence).likers)
    sure = sorted((tweet, user) for (user, tweet), changes in evidence.history.likes.items() if changes[0].ok)
    if not sure:
        return None
    tweet, user = rng.choice(sure)
    likers[tweet] -= {user}
    return edits.with_finals(evidence, likers=likers, like_counts={tweet_id: len(users) for tweet_id, users in likers.items()})


def drift_a_count(evidence: Evidence, rng: random.Random) -> Evidence | None:
    """The API counts one like too many: a counter that was incremented twice."""
    counts = dict(edits.finals_of(evidence).like_counts)
    tweet = rng.choice(sorted(counts))
    return edits.with_finals(evidence, like_counts={**counts, tweet: (counts[tweet] or 0) + 1})


def leak_the_canary(evidence: Evidence, rng: random.Random) -> Evidence | None:
    """A stranger finds the tweet of a protected user by search."""
    return edits.with_finals(evidence, canary=Canary(8, ("/2/tweets/search/recent?query=canary",), True))


def show_to_a_former_follower(evidence: Evidence, rng: random.Random) -> Evidence | None:
    """GET shows a protected user's tweet to a seeded follower who unfollowed before the request."""
    history = evidence.history
    for (follower, author), changes in history.edges.items():
        left_ns = min((change.done_ns for change in changes if not change.on and change.ok), default=None)
        if author not in evidence.protected or left_ns is None or any(change.on for change in changes):
            continue
        rows = [row for row in history.rows_of((TWEET,))
                if history.column("user")[row] == follower and history.column("sent_ns")[row] > left_ns]
        tweets = sorted(edits.finals_of(evidence).by_author[author])
        if rows and tweets and evidence.seeded_edge(follower, author):
            shown = {"outcome": "ok", "status": 200, "page_ids": [tweets[0]], "page_authors": [author]}
            return edits.with_rows(evidence, {rng.choice(rows): shown})
    return None


def lose_a_seeded_tweet(evidence: Evidence, rng: random.Random) -> Evidence | None:
    """A seeded tweet is missing from its author's partition."""
    by_author = dict(edits.finals_of(evidence).by_author)
    seeded = zip(evidence.seeded_ids.tolist(), evidence.seeded_authors.tolist(), strict=True)
    existing = [(tweet, author) for tweet, author in seeded if not evidence.history.maybe_deleted(tweet)]
    if not existing:
        return None
    tweet_id, author = rng.choice(existing)
    by_author[author] = {tweet: deleted for tweet, deleted in by_author[author].items() if tweet != tweet_id}
    return edits.with_finals(evidence, by_author=by_author)


def lose_an_account(evidence: Evidence, rng: random.Random) -> Evidence | None:
    """PostgreSQL loses a seeded account."""
    accounts = edits.finals_of(evidence).accounts
    return edits.with_finals(evidence, accounts={**accounts, rng.choice(sorted(accounts)): False})
