"""Who is protected, and who likes what before the run: functions of the seed, and what each of them lets users do.

    Circle.may_read(reader, author)   whether the system shows the author's tweets to the reader
    likes_of(...)                     the seeded likes, each (tweet, user) once, in number exactly what was asked for
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from scenarios import spec
from scenarios.world import population, seeded_tweets
from system.kernel.errors import WrongInput

Int64s = NDArray[np.int64]
NOBODY: Int64s = np.zeros(0, np.int64)
RECENT = 0.5  # exponent of how much more the newest seeded tweets are liked
FULLEST = 0.2  # of all users, the most mean likes a tweet may have: beyond it, distinct pairs are too rare to draw


@dataclass(frozen=True)
class Circle:
    """The protected users of a graph. `protected`: int64, shape (n,), ascending. All seeded followers are approved."""

    graph: population.Graph
    protected: Int64s = field(default_factory=lambda: NOBODY)

    @cached_property
    def _edges(self) -> Int64s:
        followers, followees = self.graph.pairs()
        return np.sort(followers * (self.graph.users + 1) + followees)

    @cached_property
    def closed(self) -> NDArray[np.bool_]:
        """Whether each user is protected: bool, shape (N + 1,)."""
        found = np.zeros(self.graph.users + 1, np.bool_)
        found[self.protected] = True
        return found

    def may_read(self, readers: Int64s, authors: Int64s) -> NDArray[np.bool_]:
        """Say for each pair whether the reader sees what the author posts: public, his own, or followed from the start."""
        if not len(self.protected):
            return np.ones(len(readers), np.bool_)
        keys = readers * (self.graph.users + 1) + authors
        place = np.minimum(np.searchsorted(self._edges, keys), max(0, len(self._edges) - 1))
        follows = self._edges[place] == keys if len(self._edges) else np.zeros(len(keys), np.bool_)
        seen: NDArray[np.bool_] = ~self.closed[authors] | (readers == authors) | follows
        return seen


@dataclass(frozen=True)
class Likes:
    """Seeded likes, ascending by tweet, then user. `tweets`, `users`: int64, shape (n,), no pair twice."""

    tweets: Int64s = field(default_factory=lambda: NOBODY)
    users: Int64s = field(default_factory=lambda: NOBODY)

    def __len__(self) -> int:
        return len(self.tweets)

    def pairs(self) -> list[tuple[int, int]]:
        """Return all (tweet id, user id)."""
        return list(zip(self.tweets.tolist(), self.users.tolist()))

    def counts(self) -> dict[int, int]:
        """Return tweet id -> how many like it; tweets that nobody likes are left out."""
        tweets, counts = np.unique(self.tweets, return_counts=True)
        return dict(zip(tweets.tolist(), counts.tolist()))

    def sha256(self) -> str:
        """Return the fingerprint of the pairs."""
        return hashlib.sha256(self.tweets.tobytes() + self.users.tobytes()).hexdigest()


def circle_of(graph: population.Graph, wanted: spec.Population, seed: int) -> Circle:
    """Draw who is protected: `wanted.protected` of all users, rounded, each as likely as any other."""
    count = round(graph.users * wanted.protected)
    drawn = np.random.default_rng([seed, 7]).permutation(graph.users)[:count] + 1
    return Circle(graph, np.sort(drawn).astype(np.int64))


def likes_of(circle: Circle, past: seeded_tweets.History, wanted: spec.Population, seed: int) -> Likes:
    """Draw `wanted.likes` likes a seeded tweet: newer tweets more often, only of tweets that their user may read.

    Raises WrongInput where so many distinct pairs are not to be had.
    """
    total, users = round(len(past) * wanted.likes), circle.graph.users
    if wanted.likes > FULLEST * users:
        raise WrongInput(f"population.likes is {wanted.likes:g} a tweet; with {users} users it may be at most "
                         f"{FULLEST * users:g}. Give it less, or population.users more.")
    random = np.random.default_rng([seed, 8])
    bounds = np.cumsum(np.arange(len(past), 0, -1) ** -RECENT)  # the newest stand last
    found = NOBODY
    while len(found) < total:
        short = total - len(found)
        rows = np.searchsorted(bounds, random.random(short) * bounds[-1], side="right")
        who = random.integers(1, users + 1, short)
        seen = circle.may_read(who, past.authors[rows])
        found = np.union1d(found, rows[seen] * (users + 1) + who[seen])
    return Likes(past.tweet_ids[found // (users + 1)], (found % (users + 1)).astype(np.int64))
