"""Protected users and seeded likes, functions of the seed.

    Circle.may_read(reader, author)   whether the system shows the author's tweets to the reader
    likes_of(...)                     the seeded likes, each (tweet, user) once, in exactly the planned number
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
RECENT = 0.5  # exponent of the preference for the newest seeded tweets
FULLEST = 0.2  # maximum mean likes per tweet, as a share of the users: above it, new pairs get rare


@dataclass(frozen=True)
class Circle:
    """The protected users of a graph. `protected`: int64, shape (n,), ascending.

    All seeded followers of a protected user are approved.
    """

    graph: population.Graph
    protected: Int64s = field(default_factory=lambda: NOBODY)

    @cached_property
    def _edges(self) -> Int64s:
        followers, followees = self.graph.pairs()
        return np.sort(followers * (self.graph.users + 1) + followees)

    @cached_property
    def closed(self) -> NDArray[np.bool_]:
        """Whether each user is protected: bool, shape (N + 1,)."""
        closed = np.zeros(self.graph.users + 1, np.bool_)
        closed[self.protected] = True
        return closed

    def may_read(self, readers: Int64s, authors: Int64s) -> NDArray[np.bool_]:
        """Return for each pair whether the reader may read the author.

        They may if the author is public, is the reader, or was followed by the reader before the run.
        """
        if not len(self.protected):
            return np.ones(len(readers), np.bool_)
        keys = readers * (self.graph.users + 1) + authors
        place = np.minimum(np.searchsorted(self._edges, keys), max(0, len(self._edges) - 1))
        follows = self._edges[place] == keys if len(self._edges) else np.zeros(len(keys), np.bool_)
        readable: NDArray[np.bool_] = ~self.closed[authors] | (readers == authors) | follows
        return readable


@dataclass(frozen=True)
class Likes:
    """Seeded likes, ascending by tweet, then user. `tweets`, `users`: int64, shape (n,), no pair twice."""

    tweets: Int64s = field(default_factory=lambda: NOBODY)
    users: Int64s = field(default_factory=lambda: NOBODY)

    def __len__(self) -> int:
        return len(self.tweets)

    def pairs(self) -> list[tuple[int, int]]:
        """Return all (tweet id, user id) pairs."""
        return list(zip(self.tweets.tolist(), self.users.tolist()))

    def counts(self) -> dict[int, int]:
        """Return tweet id -> number of likes; tweets without a like are left out."""
        tweets, counts = np.unique(self.tweets, return_counts=True)
        return dict(zip(tweets.tolist(), counts.tolist()))

    def sha256(self) -> str:
        """Return the SHA-256 of the pairs."""
        return hashlib.sha256(self.tweets.tobytes() + self.users.tobytes()).hexdigest()


def protected_users_of(graph: population.Graph, wanted: spec.Population, seed: int) -> Circle:
    """Draw the protected users: the share `wanted.protected` of all users, rounded, uniformly."""
    count = round(graph.users * wanted.protected)
    drawn = np.random.default_rng([seed, 7]).permutation(graph.users)[:count] + 1
    return Circle(graph, np.sort(drawn).astype(np.int64))


def likes_of(circle: Circle, past: seeded_tweets.History, wanted: spec.Population, seed: int) -> Likes:
    """Draw `wanted.likes` likes per seeded tweet, newer tweets more often.

    Users like only tweets that they may read. Raises WrongInput above FULLEST times the number of users.
    """
    total, users = round(len(past) * wanted.likes), circle.graph.users
    if wanted.likes > FULLEST * users:
        raise WrongInput(f"population.likes is {wanted.likes:g} per tweet; with {users} users it must be at most "
                         f"{FULLEST * users:g}. Lower it, or raise population.users.")
    random = np.random.default_rng([seed, 8])
    bounds = np.cumsum(np.arange(len(past), 0, -1) ** -RECENT)  # the newest are last
    keys = NOBODY
    while len(keys) < total:
        missing = total - len(keys)
        rows = np.searchsorted(bounds, random.random(missing) * bounds[-1], side="right")
        likers = random.integers(1, users + 1, missing)
        readable = circle.may_read(likers, past.authors[rows])
        keys = np.union1d(keys, rows[readable] * (users + 1) + likers[readable])
    return Likes(past.tweet_ids[keys // (users + 1)], (keys % (users + 1)).astype(np.int64))
