"""The evidence of a run: client history, effect log, final reads, graph and faults.

Invariants read nothing else. Seeded tweets and edges are known input, so an invariant never counts them as
phantoms. `chaos.evidence.collect` makes the final reads.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd

from chaos.evidence.history import NEVER_NS, Change, History, Read
from chaos.fault_records import FaultRecord
from scenarios.plan import Plan
from scenarios.world import population
from system.kernel import ids
from system.kernel.policies import LimitKnobs
from system.ports import Kind

Ids = npt.NDArray[np.int64]
NO_IDS: Ids = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True)
class Bounds:
    """How long "eventually" may take in this lab.

    `delivery_s`: from the acknowledgement of a tweet until it is in every follower's home timeline; if a
    fault overlaps that time, it starts again when the fault ends. `ghost_s`: from an acknowledged delete or
    unfollow until no later read shows what it removed. `id_skew_ms`: tolerated difference between the time in
    an id and the time of its request; on one machine with one clock it covers rounding and clock slew.
    `limits`: rate limits of the run.
    """

    delivery_s: float = 10.0
    ghost_s: float = 2.0
    id_skew_ms: int = 1000
    limits: LimitKnobs = field(default_factory=LimitKnobs)


@dataclass(frozen=True)
class RunClock:
    """One instant on both clocks of the run, as in `record.json`."""

    monotonic_ns: int
    wall_ms: int

    def wall_ms_at(self, monotonic_ns: int) -> int:
        """Return the wall time of a monotonic time of this run."""
        return self.wall_ms + (monotonic_ns - self.monotonic_ns) // 1_000_000


@dataclass(frozen=True, slots=True)
class Stored:
    """A tweet as stored in Cassandra."""

    author: int
    deleted: bool


@dataclass(frozen=True, slots=True)
class StoredPicture:
    """The served object of a finalized picture as storage holds it.

    `look`: as in `History.pictures`; "" if it cannot be decoded. `is_recorded`: its SHA-256 is the one that its
    row states.
    """

    look: str
    is_recorded: bool = True


@dataclass(frozen=True, slots=True)
class CachedList:
    """A *complete* list as Redis held it before any final API read.

    `floor`: the list claims to be complete for ids >= `floor`. `members`: (tweet id, author) for lists of
    tweets, (user, 0) for lists of users. `whole`: all of it was read.
    """

    kind: Kind
    owner: int
    floor: int
    members: tuple[tuple[int, int], ...]
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Canary:
    """The result of a canary check.

    `scanned`: number of responses to users who must not see the canary. `leaks`: requests whose response
    shows too much. `seen_by_follower`: an approved follower saw it, so there was something to leak.
    `unanswered`: requests without a conclusive response.
    """

    scanned: int
    leaks: tuple[str, ...]
    seen_by_follower: bool
    unanswered: tuple[str, ...] = ()


@dataclass(frozen=True)
class Finals:
    """The final reads: the state of stores and API after the load has ended and the queues are empty.

    `quiesced`: the queues were empty before the first of these reads. `wall_ms`, `at_ns`: when the reads
    started. `looked_up`: the ids of the run that were looked up; `by_id`: those that Cassandra has.
    `by_author`: author -> tweet id -> deleted, complete for ids >= `author_floors[author]`. `api_tweets`: id
    -> shown by GET; None where it had no answer. `pages`: final home and profile pages. `unread`: API reads
    without an answer. `followers`, `following`: edges in PostgreSQL of the sampled users. `lists`: complete
    cached lists. `pulled`: authors whose tweets are or were merged at read time (fan-out on read). `sample`:
    the size of the sample, as text. `searchable`: those of `looked_up` that the index finds; None where it
    was not queried. `pictures`: (owner, number) -> its served object in storage, None where there is none.
    """

    quiesced: bool = True
    wall_ms: int = 0
    at_ns: int = 0
    looked_up: frozenset[int] = frozenset()
    by_id: Mapping[int, Stored] = field(default_factory=dict)
    by_author: Mapping[int, Mapping[int, bool]] = field(default_factory=dict)
    author_floors: Mapping[int, int] = field(default_factory=dict)
    api_tweets: Mapping[int, bool | None] = field(default_factory=dict)
    pages: tuple[Read, ...] = ()
    unread: int = 0
    followers: Mapping[int, frozenset[int]] = field(default_factory=dict)
    following: Mapping[int, frozenset[int]] = field(default_factory=dict)
    lists: tuple[CachedList, ...] = ()
    pulled: frozenset[int] = frozenset()
    sample: str = ""
    searchable: frozenset[int] | None = None
    pictures: Mapping[tuple[int, int], StoredPicture | None] | None = None
    likers: Mapping[int, frozenset[int]] = field(default_factory=dict)
    """Tweet -> the users that like it in PostgreSQL, for the sampled liked tweets."""
    like_counts: Mapping[int, int | None] = field(default_factory=dict)
    """Tweet -> `like_count` of the API; None where it had no answer."""
    canary: Canary | None = None
    """Result of the canaries after the load; None where none could be planted."""
    accounts: Mapping[int, bool] = field(default_factory=dict)
    """Seeded user -> whether PostgreSQL has the account, for the sampled users."""


@dataclass(frozen=True)
class Evidence:
    """Everything that is known about a run.

    `rows`: the client history. `effects`: the effect log. `finals`: None where no final reads were made;
    `trouble` says why. `seeded_ids`: int64, shape (n,), ascending.
    """

    rows: pd.DataFrame
    effects: pd.DataFrame
    finals: Finals | None
    graph: population.Graph
    clock: RunClock
    seeded_ids: Ids = field(default_factory=lambda: NO_IDS)
    faults: tuple[FaultRecord, ...] = ()
    bounds: Bounds = Bounds()
    trouble: str = ""
    protected: frozenset[int] = frozenset()
    """Users who were protected from the start to the end of the run."""
    seeded_likes: frozenset[tuple[int, int]] = frozenset()
    """(tweet, user) of the seeded likes."""
    load_canary: Canary | None = None
    """Result of the canary planted before the load; None where none could be planted."""
    plan: Plan | None = None
    """What the scenario plans, as words of `scenarios.plan.WORDS`; None where no plan is known."""
    seeded_authors: Ids = field(default_factory=lambda: NO_IDS)
    """Authors of `seeded_ids`, row by row; empty where it is not known whether these tweets exist."""

    @property
    def no_finals(self) -> str:
        """The reason that a check of final reads gives where there are none."""
        return f"no final reads were made{f' ({self.trouble})' if self.trouble else ''}"

    @functools.cached_property
    def history(self) -> History:
        """The indexed history of `rows`."""
        return History(self.rows)

    @functools.cached_property
    def all_reads(self) -> list[Read]:
        """The pages of the history and then the final pages, each in order of sending."""
        return self.history.reads + list(self.finals.pages if self.finals else ())

    @functools.cached_property
    def run_floor_id(self) -> int:
        """The smallest id that a tweet of this load can have."""
        return ids.floor_id(self.clock.wall_ms_at(self.history.start_ns) - self.bounds.id_skew_ms)

    def seeded_followers(self, author: int) -> Ids:
        """Return the seeded followers of `author`, ascending; none for a user created in the run."""
        return self.graph.followers_of(author) if 0 < author <= self.graph.users else NO_IDS

    def seeded_edge(self, follower: int, author: int) -> bool:
        """Return whether the edge was seeded."""
        return 0 < follower <= self.graph.users and self.graph.follows(follower, author)

    def is_seeded(self, tweet_id: int) -> bool:
        """Return whether `tweet_id` was seeded."""
        at = int(np.searchsorted(self.seeded_ids, tweet_id))
        return at < len(self.seeded_ids) and int(self.seeded_ids[at]) == tweet_id

    @functools.cached_property
    def _fault_spans(self) -> list[tuple[int, int]]:
        return [(fault.injected_ns, fault.recovered_ns if fault.recovered_ns is not None else NEVER_NS)
                for fault in self.faults if fault.injected_ns is not None]

    def deliver_by(self, acked_ns: int) -> int:
        """Return when a tweet acknowledged at `acked_ns` must be in every home timeline.

        If a fault overlaps that time, `Bounds.delivery_s` starts again when it has recovered; for a fault
        that never recovered, the result is NEVER_NS.
        """
        bound_ns = int(self.bounds.delivery_s * 1e9)
        until = acked_ns + bound_ns
        for begin, end in sorted(self._fault_spans):
            if begin <= until and end >= acked_ns:
                until = max(until, min(NEVER_NS, end + bound_ns))
        return until

    def edge_exists(self, follower: int, author: int, from_ns: int, until_ns: int) -> bool:
        """Return whether the edge certainly existed from `from_ns` to `until_ns`.

        That is, it was made before `from_ns` and not removed before `until_ns`, whatever the unknown outcomes
        are.
        """
        if (follower, author) not in self.history.edges:
            return self.seeded_edge(follower, author)
        return any(made_ns < from_ns and until_ns <= removed_ns for made_ns, removed_ns in self._spans(follower, author))

    def _spans(self, follower: int, author: int) -> list[tuple[int, int]]:
        """Return when a changed edge certainly existed, one span per follow.

        A span runs from the latest time at which the edge was made to the earliest at which it was removed.
        """
        spans = self._known_spans.get((follower, author))
        if spans is None:
            changes = self.history.edges[follower, author]
            made = [(-1, -1)] if self.seeded_edge(follower, author) else []
            made += [(c.sent_ns, c.done_ns) for c in changes if c.on and c.ok]
            removals = [(c.sent_ns, c.done_ns) for c in changes if not c.on]
            spans = [(done, min((cut_sent for cut_sent, cut_done in removals if cut_done >= sent), default=NEVER_NS))
                     for sent, done in made]
            self._known_spans[follower, author] = spans
        return spans

    @functools.cached_property
    def _known_spans(self) -> dict[tuple[int, int], list[tuple[int, int]]]:
        return {}

    def removed_by(self, follower: int, author: int, sent_ns: int, done_ns: int) -> Change | None:
        """Return the unfollow that certainly kept the edge removed in [sent_ns, done_ns], or None."""
        bound_ns = int(self.bounds.ghost_s * 1e9)
        changes = self.history.edges.get((follower, author), ())
        for removal in changes:
            if removal.on or not removal.ok or removal.done_ns + bound_ns > sent_ns:
                continue
            if all(c.done_ns < removal.sent_ns or c.sent_ns >= done_ns for c in changes if c.on):
                return removal
        return None

    @functools.cached_property
    def may_read(self) -> dict[int, int]:
        """Tweet of a protected user that the run posted or liked -> a user who may read it."""
        if not self.protected:
            return {}
        liked = {tweet: user for user, tweet in self.history.likes}
        return liked | {tweet: post.user for tweet, post in self.history.acked.items() if post.user in self.protected}

    def ever_followed(self, follower: int, author: int) -> bool:
        """Return whether the edge was seeded or may have been made in the run."""
        return (self.seeded_edge(follower, author)
                or any(change.on for change in self.history.edges.get((follower, author), ())))
