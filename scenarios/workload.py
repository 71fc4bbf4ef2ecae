"""The tape: the schedule of arrivals, drawn before the run, which the load driver and the twin both replay.

It holds every operation of a run, drawn from the seed: its due time, route, user and target.

Arrivals form an open workload: an operation starts when it is due, whether or not earlier ones have ended.
`poisson` is an inhomogeneous Poisson process: it maps unit exponentials through the cumulative planned rate,
so a ramp is followed exactly. `even` spaces arrivals evenly along the same rate. Users are drawn by Zipf's
law. Users who write tweets or upload pictures, and users who are read or followed, rank by number of
followers (user 1, 2, ...); all other users rank in a random order. A follow adds an edge that does not exist,
an unfollow removes one that does, and no edge is used twice, so the final state of every edge is known. No
user reads, likes or replies to a tweet that its protected author hides from them: the correct refusal would
count as an error.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scenarios import spec, vocabulary
from scenarios.world import population, private_circle, seeded_tweets, seeded_world

Int64s = NDArray[np.int64]
ROUTES = tuple(vocabulary.ROUTES)
SECOND_PAGE_SHARE = 0.2  # share of home reads that continue to the next page
APPROVE_AFTER_NS = 3_000_000_000  # from the due time of a follow request to its earliest approval
DELETE_AFTER_NS = 3_000_000_000  # from the due time of a post to its earliest delete
LIKE_TRIES = 8  # tweets drawn for one like
TRIES = 50  # candidates drawn for one user, and users drawn for one operation, before giving up


@dataclass(frozen=True)
class Tape:
    """One row per operation, in order of `due_ns`.

    `due_ns`: int64, shape (n,), intended start from the start of the load. `route`: int16, shape (n,), index
    into `routes`. `user`: int64, shape (n,), the user that sends it. `target`: int64, shape (n,): the user
    read or (un)followed; the seeded tweet read, liked or replied to (0: one that was posted in this run); for
    `delete` the row of the post; for `search` the index of the word; for `follow_approve` the requesting
    user; otherwise 0. `second_page`: bool, shape (n,), whether a home read continues to its next page.
    `protected`: int64, shape (m,), the protected users.
    """

    due_ns: Int64s
    route: NDArray[np.int16]
    routes: tuple[str, ...]
    user: Int64s
    target: Int64s
    second_page: NDArray[np.bool_]
    seed: int
    protected: Int64s = field(default_factory=lambda: private_circle.NOBODY)

    def __len__(self) -> int:
        return len(self.due_ns)

    def planned(self) -> dict[str, int]:
        """Return the number of operations by route; routes without operations are left out."""
        counts = np.bincount(self.route, minlength=len(self.routes))
        return {name: int(count) for name, count in zip(self.routes, counts) if count}

    def save(self, path: Path) -> None:
        """Write the tape as one npz file."""
        np.savez(path, due_ns=self.due_ns, route=self.route, routes=np.array(self.routes), user=self.user,
                 target=self.target, second_page=self.second_page, seed=np.array(self.seed),
                 protected=self.protected)


def load(path: Path) -> Tape:
    """Read a tape that `Tape.save` wrote."""
    with np.load(path, allow_pickle=False) as file:
        return Tape(file["due_ns"], file["route"], tuple(str(name) for name in file["routes"]), file["user"],
                    file["target"], file["second_page"], int(file["seed"]),
                    file["protected"])


def draw(scenario: spec.Scenario, graph: population.Graph, past: seeded_tweets.History | None = None) -> Tape:
    """Draw the tape of `scenario` over `graph`. `past`: the seeded tweets; None draws those of seeding."""
    return draw_over(scenario, seeded_world.over(graph, scenario.population, scenario.seed, past))


def draw_over(scenario: spec.Scenario, world: seeded_world.World) -> Tape:
    """Draw the tape of `scenario` over the world that it starts from."""
    work, graph, past, circle = scenario.workload, world.graph, world.past, world.circle
    random = np.random.default_rng([scenario.seed, 4])
    due_ns, stage = _arrivals(work, random)
    route = _routes(work, stage, random)
    count = len(due_ns)
    readers, writers = _zipf(graph.users, work.zipf, count, random), _zipf(graph.users, work.zipf, count, random)
    order = np.random.default_rng([scenario.seed, 5]).permutation(graph.users) + 1
    writes = np.isin(route, [ROUTES.index(name) for name in ("post", "reply", "delete", "media")])
    user = np.where(writes, writers + 1, order[readers])
    target = _targets(route, graph, past, work.zipf, random)
    second_page = (route == ROUTES.index("home")) & (random.random(count) < SECOND_PAGE_SHARE)
    _draw_deletes(due_ns, route, user, target, random)
    edges = _Edges(circle, work.zipf, random)
    edges.draw(route, user, target)
    edges.draw_requests(due_ns, route, user, target)
    _draw_likes(route, user, target, past, work.zipf, np.random.default_rng([scenario.seed, 6]), circle,
                world.likes)
    _redirect_hidden(route, user, target, circle, past)
    return Tape(due_ns, route, ROUTES, user, target, second_page, scenario.seed, circle.protected)


def _arrivals(work: spec.Workload, random: np.random.Generator) -> tuple[Int64s, Int64s]:
    """Return the due times (ns) and the stage of each operation."""
    lengths = np.array([stage.for_s for stage in work.stages])
    rates = np.array([(stage.rate_from, stage.rate_to) for stage in work.stages])
    expected = np.concatenate([[0.0], np.cumsum(lengths * rates.mean(axis=1))])
    if work.arrivals == "even":
        marks = np.arange(0.5, expected[-1])
    else:
        draws = int(expected[-1] + 10 * np.sqrt(expected[-1]) + 50)
        marks = np.cumsum(random.exponential(1, draws))
        marks = marks[marks < expected[-1]]
    return due_times(marks, expected, lengths, rates), (np.searchsorted(expected, marks, side="right") - 1).astype(np.int64)


def due_times(marks: NDArray[np.float64], expected: NDArray[np.float64], lengths: NDArray[np.float64],
              rates: NDArray[np.float64]) -> Int64s:
    """Map unit arrivals through the planned rate; return due times in ns from the start of the load.

    `marks`: shape (n,), ascending, below `expected[-1]`. `expected`: shape (stages + 1,), operations planned before each
    stage. `lengths`: shape (stages,), seconds. `rates`: shape (stages, 2), operations per second at start and end.
    """
    stage = np.searchsorted(expected, marks, side="right") - 1
    starts = np.concatenate([[0.0], np.cumsum(lengths)])[stage]
    into = _invert(marks - expected[stage], rates[stage, 0], rates[stage, 1], lengths[stage])
    return np.asarray((starts + into) * 1e9).astype(np.int64)


def _invert(mark: NDArray[np.float64], first: NDArray[np.float64], last: NDArray[np.float64],
            length: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the time into a stage at which `mark` operations are expected.

    It is a root of first*t + slope*t*t/2 = mark.
    """
    slope = (last - first) / length
    root = np.sqrt(np.maximum(first * first + 2 * slope * mark, 0.0))
    return np.asarray(np.minimum(2 * mark / np.maximum(first + root, 1e-12), length))


def _routes(work: spec.Workload, stages: Int64s, random: np.random.Generator) -> NDArray[np.int16]:
    """Return the route of each operation, by the mix of its stage."""
    shares = np.array([[(stage.mix or work.mix).get(name, 0.0) for name in ROUTES] for stage in work.stages])
    bounds = np.cumsum(shares, axis=1)
    drawn = random.random(len(stages)) * bounds[stages, -1]
    return np.asarray((drawn[:, None] >= bounds[stages]).sum(axis=1), dtype=np.int16)


def _zipf(count: int, exponent: float, size: int, random: np.random.Generator) -> Int64s:
    """Return `size` ranks from 0 to count - 1; rank k is drawn in proportion to (k + 1) ** -exponent."""
    bounds = np.cumsum(np.arange(1, count + 1) ** -exponent)
    return np.asarray(np.searchsorted(bounds, random.random(size) * bounds[-1], side="right"), dtype=np.int64)


def _targets(route: NDArray[np.int16], graph: population.Graph, past: seeded_tweets.History, zipf: float,
             random: np.random.Generator) -> Int64s:
    """Return the targets of the routes whose target depends on popularity alone; 0 for the others."""
    count = len(route)
    target = np.zeros(count, np.int64)
    is_user = np.isin(route, [ROUTES.index("user_tweets"), ROUTES.index("profile")])
    target[is_user] = _zipf(graph.users, zipf, count, random)[is_user] + 1
    if len(past):
        recent = past.tweet_ids[len(past) - 1 - _zipf(len(past), zipf, count, random)]
        is_tweet = route == ROUTES.index("tweet")
        is_reply = (route == ROUTES.index("reply")) & (random.random(count) < 0.5)
        target = np.where(is_tweet | is_reply, recent, target)
    is_search = route == ROUTES.index("search")
    words = random.choice(seeded_tweets.WORDS, count, p=seeded_tweets.word_shares())
    return np.where(is_search, words, target)


def _draw_deletes(due_ns: Int64s, route: NDArray[np.int16], user: Int64s, target: Int64s, random: np.random.Generator) -> None:
    """Assign to each delete a post at least DELETE_AFTER_NS older; where there is none, it becomes a post."""
    post, delete = ROUTES.index("post"), ROUTES.index("delete")
    posts: list[int] = []
    next_old = 0
    written = np.flatnonzero((route == post) | (route == delete))
    for row in written:
        if route[row] != delete:
            continue
        while next_old < len(written) and due_ns[written[next_old]] <= due_ns[row] - DELETE_AFTER_NS:
            if route[written[next_old]] == post:
                posts.append(int(written[next_old]))
            next_old += 1
        if not posts:
            route[row] = post
            continue
        chosen = posts.pop(int(random.integers(len(posts))))
        user[row], target[row] = user[chosen], chosen


def _draw_likes(route: NDArray[np.int16], user: Int64s, target: Int64s, past: seeded_tweets.History, zipf: float,
                random: np.random.Generator, circle: private_circle.Circle, seeded: private_circle.Likes) -> None:
    """Assign to each like a seeded tweet that its user does not like yet, newer tweets more often.

    So the final set of likes is known.
    """
    liked = {(liker, tweet) for tweet, liker in seeded.pairs()}
    rows = np.flatnonzero(route == ROUTES.index("like"))
    drawn = _zipf(max(1, len(past)), zipf, len(rows) * LIKE_TRIES, random).reshape(len(rows), LIKE_TRIES)
    for row, ranks in zip(rows, drawn.tolist()):
        authors = past.authors[len(past) - 1 - np.array(ranks)] if len(past) else past.authors[:0]
        readable = circle.may_read(np.full(len(authors), user[row]), authors) if len(past) else ()
        free = (int(past.tweet_ids[len(past) - 1 - rank]) for rank, may in zip(ranks, readable) if may)
        target[row] = next((tweet for tweet in free if (int(user[row]), tweet) not in liked), 0)
        liked.add((int(user[row]), int(target[row])))
        if not target[row]:  # nothing is left to like: read a profile instead
            route[row], target[row] = ROUTES.index("profile"), user[row]


def _redirect_hidden(route: NDArray[np.int16], user: Int64s, target: Int64s, circle: private_circle.Circle,
              past: seeded_tweets.History) -> None:
    """Redirect reads of tweets, and replies to tweets, that the user may not see.

    A read of another user's tweets becomes a read of the reader's own; a read by id or a reply gets a public
    tweet.
    """
    if not len(circle.protected):
        return
    reads = np.flatnonzero(route == ROUTES.index("user_tweets"))
    hidden = reads[~circle.may_read(user[reads], target[reads])]
    target[hidden] = user[hidden]
    by_id = np.flatnonzero(np.isin(route, [ROUTES.index("tweet"), ROUTES.index("reply")]) & (target > 0))
    authors = past.authors[np.searchsorted(past.tweet_ids, target[by_id])]
    hidden = by_id[~circle.may_read(user[by_id], authors)]
    public = past.tweet_ids[~circle.closed[past.authors]]
    target[hidden] = public[np.maximum(np.searchsorted(public, target[hidden]) - 1, 0)] if len(public) else 0
    if not len(public):  # nothing is left to read by id: read a profile instead
        route[hidden], target[hidden] = ROUTES.index("profile"), user[hidden]


class _Edges:
    """Finds follows that do not exist yet and unfollows that do; each edge is used once.

    Seeded followers of a protected user never unfollow, so that what each user may read is known at any time.
    """

    def __init__(self, circle: private_circle.Circle, zipf: float, random: np.random.Generator) -> None:
        self._graph, self._closed, self._zipf, self._random = circle.graph, circle.closed, zipf, random
        self._protected = circle.protected
        self._touched: set[tuple[int, int]] = set()

    def draw(self, route: NDArray[np.int16], user: Int64s, target: Int64s) -> None:
        """Fill in the targets of follows and unfollows; a user who can do neither is replaced by another."""
        for name, find in (("follow", self._follow), ("unfollow", self._unfollow)):
            spent = False
            for row in np.flatnonzero(route == ROUTES.index(name)):
                follower, followee = int(user[row]), 0 if spent else find(int(user[row]))
                for other in () if spent else self._random.integers(1, self._graph.users + 1, TRIES).tolist():
                    if followee:
                        break
                    follower, followee = other, find(other)
                spent = not followee
                if spent:  # hardly any edge is left to make or remove: read a profile instead
                    route[row], target[row] = ROUTES.index("profile"), user[row]
                    continue
                self._touched.add((follower, followee))
                user[row], target[row] = follower, followee

    def _follow(self, follower: int) -> int:
        """Return a user that `follower` does not follow yet, or 0."""
        for drawn in _zipf(self._graph.users, self._zipf, TRIES, self._random) + 1:
            followee = int(drawn)
            if not self._closed[followee] and self._new(follower, followee):
                return followee
        return 0

    def _new(self, follower: int, followee: int) -> bool:
        return followee != follower and not self._graph.follows(follower, followee) and (follower, followee) not in self._touched

    def draw_requests(self, due_ns: Int64s, route: NDArray[np.int16], user: Int64s, target: Int64s) -> None:
        """Assign to each follow request a protected user, and to each approval an earlier request.

        The user does not follow the protected user yet; the request is at least APPROVE_AFTER_NS old. An
        operation for which there is no such user or request becomes a profile read.
        """
        ask, approve = ROUTES.index("follow_request"), ROUTES.index("follow_approve")
        pending: list[tuple[int, int, int]] = []  # (due, follower, followee) not approved yet
        for row in np.flatnonzero((route == ask) | (route == approve)):
            if route[row] == ask and (followee := self._request(int(user[row]))):
                self._touched.add((int(user[row]), followee))
                target[row] = followee
                pending.append((int(due_ns[row]), int(user[row]), followee))
            elif route[row] == approve and pending and pending[0][0] <= due_ns[row] - APPROVE_AFTER_NS:
                _, target[row], user[row] = pending.pop(0)
            else:
                route[row], target[row] = ROUTES.index("profile"), user[row]

    def _request(self, follower: int) -> int:
        """Return a protected user that `follower` does not follow yet, drawn by popularity; 0 if none."""
        if not len(self._protected):
            return 0
        drawn = self._protected[_zipf(len(self._protected), self._zipf, TRIES, self._random)].tolist()
        return next((followee for followee in drawn if self._new(follower, followee)), 0)

    def _unfollow(self, follower: int) -> int:
        """Return a user that `follower` follows, or 0."""
        followed = self._graph.following_of(follower)
        for index in self._random.permutation(len(followed))[:TRIES]:
            if not self._closed[followed[index]] and (follower, int(followed[index])) not in self._touched:
                return int(followed[index])
        return 0
