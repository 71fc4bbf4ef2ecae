"""The follow graph of a population: a function of the seed, so a manifest can identify it by its hash.

The graph is directed and simple (no self follow, no duplicate edge). Follower counts have a lognormal body
with a Pareto tail; the mean is exact, and the most followed user has exactly `max` followers. Users have the
ids 1 to N, and user 1 is the most followed: id and rank are the same. Followers are drawn at random, active
users more often. A duplicate edge is drawn again, so every follower count is exact.

    Graph.follower_start[u] .. follower_start[u + 1]   slice of `followers`: those of user u, ascending
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scenarios import spec
from system.kernel.errors import WrongInput

if TYPE_CHECKING:
    from scenarios.world import graph_files

Int64s = NDArray[np.int64]
BODY_SIGMA = 1.0  # spread of the lognormal body; heavy enough that the median is 0.6 of the mean
TAIL_SHARE = 0.02  # share of the users, the most followed, whose counts come from the Pareto tail
TAIL_ALPHA = 1.6  # exponent of the tail; real follower graphs have 1.3 to 2.3
SPREAD_OF_FOLLOWING = 0.7  # sigma of the number of followees, which varies less than that of followers


@dataclass(frozen=True)
class Graph:
    """A directed graph of users 1..N, indexed by follower and by followee.

    `follower_start`, `following_start`: int64, shape (N + 2,); index 0 is unused. `followers`, `following`:
    int64, shape (edges,), ascending per user. `labels`: shape (N + 1,), the id of each user in a graph file
    (int64, or str where there are names); empty for a drawn graph. `summary`: the contents of the file; None
    for a drawn graph.
    """

    follower_start: Int64s
    followers: Int64s
    following_start: Int64s
    following: Int64s
    labels: NDArray[Any] = field(default_factory=lambda: np.empty(0, np.int64))
    summary: graph_files.Summary | None = None

    @property
    def users(self) -> int:
        """Number of users."""
        return len(self.follower_start) - 2

    @property
    def edges(self) -> int:
        """Number of follows."""
        return len(self.followers)

    def followers_of(self, user: int) -> Int64s:
        """Return the followers of `user`, ascending."""
        return self.followers[self.follower_start[user]:self.follower_start[user + 1]]

    def following_of(self, user: int) -> Int64s:
        """Return the users that `user` follows, ascending."""
        return self.following[self.following_start[user]:self.following_start[user + 1]]

    def follower_counts(self) -> Int64s:
        """Return the number of followers by user: int64, shape (N + 1,), index 0 is 0."""
        return np.diff(self.follower_start)

    def following_counts(self) -> Int64s:
        """Return the number of followed users by user: int64, shape (N + 1,), index 0 is 0."""
        return np.diff(self.following_start)

    def follows(self, follower: int, followee: int) -> bool:
        """Return whether the edge exists."""
        row = self.following_of(follower)
        place = int(np.searchsorted(row, followee))
        return place < len(row) and int(row[place]) == followee

    def pairs(self) -> tuple[Int64s, Int64s]:
        """Return all edges as (follower, followee), ordered by follower."""
        return np.repeat(np.arange(self.users + 1), self.following_counts()), self.following

    def sha256(self) -> str:
        """Return the SHA-256 of the edges."""
        digest = hashlib.sha256(np.ascontiguousarray(self.following_start).tobytes())
        digest.update(np.ascontiguousarray(self.following).tobytes())
        return digest.hexdigest()


def graph_of(population: spec.Population, seed: int) -> Graph:
    """Return the graph of a population: read from its file, or drawn from `seed`."""
    if population.graph is None:
        return generate(population, seed)
    from scenarios.world import graph_files  # imports pandas and Arrow, which break under gevent in the load generator

    return of_file(graph_files.read(population.graph, population.undirected, population.direction))


def generate(population: spec.Population, seed: int) -> Graph:
    """Draw the graph of `population.users` and `population.follows`. The same seed gives the same graph."""
    users, follows = population.users, population.follows
    if not 0 <= follows.mean <= follows.max <= users - 1:
        raise WrongInput(f"{users} users cannot have {follows.mean:g} followers on average and {follows.max} at most; "
                         f"the mean must be at most the maximum, and the maximum at most {users - 1}.")
    random = np.random.default_rng([seed, 1])
    edges = round(users * follows.mean)
    weights = np.sort(_follower_weights(follows.shape, users, random))[::-1]
    in_degrees = _fit(weights, edges, follows.max, pin_first=follows.shape == "pareto")
    activity = np.minimum(random.lognormal(0, SPREAD_OF_FOLLOWING, users), 20.0)
    source, target = _draw_followers(np.sort(in_degrees)[::-1].copy(), activity, random)
    return from_edges(source, target, users=users)


def _follower_weights(shape: str, users: int, random: np.random.Generator) -> NDArray[np.float64]:
    if shape == "even":
        return np.ones(users)
    weights = random.lognormal(0, BODY_SIGMA, users)
    if shape == "pareto":
        tail = max(1, round(users * TAIL_SHARE))
        order = np.argsort(weights)[-tail:]
        weights[order] = weights[order[0]] * (1 + random.pareto(TAIL_ALPHA, tail))
    return weights


def _fit(weights: NDArray[np.float64], total: int, highest: int, pin_first: bool = False) -> Int64s:
    """Return whole degrees in proportion to `weights` that sum to `total` and do not exceed `highest`.

    `pin_first`: the first is exactly `highest` (where the total allows it).
    """
    if pin_first and total >= highest:
        rest = _fit(weights[1:], total - highest, highest) if len(weights) > 1 else np.empty(0, np.int64)
        return np.concatenate([np.array([highest], np.int64), rest])
    scale = total / weights.sum()
    for _ in range(60):  # the cap removes part of the sum; scale the others up to make up for it
        capped = weights * scale >= highest
        free = weights[~capped].sum()
        if free <= 0:
            break
        new_scale = (total - highest * capped.sum()) / free
        if abs(new_scale - scale) <= 1e-12 * scale:
            break
        scale = new_scale
    exact: NDArray[np.float64] = np.minimum(weights * scale, highest)
    degrees: Int64s = np.floor(exact).astype(np.int64)
    missing = total - int(degrees.sum())
    order = np.argsort(degrees - exact, kind="stable")  # largest remainders first
    while missing > 0:
        below = order[degrees[order] < highest][:missing]
        degrees[below] += 1
        missing -= len(below)
    return degrees


def _draw_followers(in_degrees: Int64s, weights: NDArray[np.float64], random: np.random.Generator) -> tuple[Int64s, Int64s]:
    """Return edges (follower, followee) with exactly `in_degrees` distinct followers per user.

    No user follows themselves. Followers are drawn in proportion to `weights`. Duplicates are drawn again.
    For a user followed by more than a quarter of all users there would be too many, so those followers are
    drawn without replacement.
    """
    users = len(in_degrees)
    all_users = np.arange(1, users + 1)
    dense = np.flatnonzero(in_degrees > users // 4) + 1
    sparse_degrees = in_degrees.copy()
    sparse_degrees[dense - 1] = 0
    sources = [_without_replacement(int(user), int(in_degrees[user - 1]), weights, random) for user in dense]
    targets = [np.full(len(drawn), user, np.int64) for user, drawn in zip(dense, sources)]
    cumulative = np.cumsum(weights)
    target = np.repeat(all_users, sparse_degrees)
    keys = np.empty(0, np.int64)
    while len(target):
        source = np.searchsorted(cumulative, random.random(len(target)) * cumulative[-1], side="right") + 1
        key = target * (users + 1) + source
        order = np.argsort(key, kind="stable")
        rejected = np.zeros(len(key), bool)
        rejected[order[1:]] = key[order[1:]] == key[order[:-1]]
        if len(keys):
            place = np.minimum(np.searchsorted(keys, key), len(keys) - 1)
            rejected |= keys[place] == key
        rejected |= source == target
        keys = np.sort(np.concatenate([keys, key[~rejected]]))
        target = target[rejected]
    sources.append(keys % (users + 1))
    targets.append(keys // (users + 1))
    return np.concatenate(sources), np.concatenate(targets)


def _without_replacement(user: int, count: int, weights: NDArray[np.float64], random: np.random.Generator) -> Int64s:
    """Return `count` distinct followers of `user`, drawn in proportion to `weights`.

    Each user gets an exponential key with rate `weights`; the smallest keys win.
    """
    keys = random.exponential(1, len(weights)) / weights
    keys[user - 1] = np.inf
    return (np.argpartition(keys, count - 1)[:count] + 1).astype(np.int64) if count < len(weights) else np.empty(0, np.int64)


def of_file(edge_list: graph_files.EdgeList) -> Graph:
    """Return the graph of the follows in a file."""
    graph = from_edges(edge_list.follower, edge_list.followee, users=edge_list.users)
    return dataclasses.replace(graph, labels=edge_list.labels, summary=edge_list.summary)


def from_edges(source: Int64s, target: Int64s, users: int) -> Graph:
    """Return the graph of edges (follower, followee) over users 1..`users`. Edges must be unique."""
    followers = np.sort(target * (users + 1) + source) % (users + 1)
    following = np.sort(source * (users + 1) + target) % (users + 1)
    return Graph(_starts(target, users), followers, _starts(source, users), following)


def _starts(owner: Int64s, users: int) -> Int64s:
    counts = np.bincount(owner, minlength=users + 1)
    starts = np.zeros(users + 2, np.int64)
    np.cumsum(counts, out=starts[1:])
    return starts
