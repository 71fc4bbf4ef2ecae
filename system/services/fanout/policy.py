"""Push or pull: how an author's tweet reaches the readers. Pure: reads no clock, no store.

*Push* (fan-out on write): the id is added to every live home timeline of a follower. Cost: one entry per
follower and tweet; a read is one call. *Pull* (fan-out on read): the id stays in the author's own list, and
readers who follow the author merge that list. Cost: one more list per read.

| audience | durable mode | this tweet is | durable change |
|---|---|---|---|
| <= push_limit | push | pushed | none |
| > push_limit | push | pushed | to pull |
| >= push_limit * hysteresis | pull, flag older than the readers' copy | not pushed | none |
| >= push_limit * hysteresis | pull, flag younger | pushed | none |
| < push_limit * hysteresis | pull | pushed | to push |

Two rules make a crossing safe. Up: pushing stops only once the pull flag is older than any reader's copy of
the modes can be, so every tweet is pushed, merged, or both. Down: pushing starts immediately, and an author
who was ever pulled stays on the readers' merge list, so tweets from the pulled time do not disappear; a merge
counts an id once.

Not decided here: who follows, and whether a timeline is live. Pushes go to live timelines only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from system.kernel.policies import FanoutKnobs

PUSH = "push"
PULL = "pull"

SETTLE_MS = 1_000
"""Milliseconds a flag must age beyond the TTL of the readers' copy.

Covers the commit of the flag, and a home read that used its copy just before it expired. A home read takes
tens of ms here; a second leaves room for a slow one.
"""

AUDIENCE_TTL_S = 30.0
"""Seconds for which a known number of followers is used.

Only the moment of a crossing depends on it, never its safety.
"""


@dataclass(frozen=True)
class AuthorMode:
    """An author's durable mode: PUSH or PULL.

    `changed_ms`: time of the last change (wall time of the database, ms since 1970).
    """

    mode: str
    changed_ms: int


@dataclass(frozen=True)
class Decision:
    """What to do with one tweet.

    `path`: PUSH or PULL. `change_to`: the mode to make durable first, None for no change.
    """

    path: str
    change_to: str | None = None


def choose(audience: int, current: AuthorMode | None, knobs: FanoutKnobs, mode_ttl_s: float, now_ms: int) -> Decision:
    """Decide how one tweet of an author with `audience` followers is delivered.

    `current`: the author's durable mode; None if they were never pulled. `mode_ttl_s`: greatest age of the
    copy of the modes that a reader may use. `now_ms`: wall time.
    """
    if current is None or current.mode == PUSH:
        return Decision(PUSH, PULL if audience > knobs.push_limit else None)
    if audience < knobs.push_limit * knobs.hysteresis:
        return Decision(PUSH, PUSH)
    every_reader_knows = now_ms - current.changed_ms > mode_ttl_s * 1_000 + SETTLE_MS
    return Decision(PULL if every_reader_knows else PUSH)


def lost_modes(known: Mapping[int, AuthorMode], read: Mapping[int, AuthorMode]) -> set[int]:
    """Return the authors that have a mode in `known` and none in the later `read`.

    A mode may change but is never removed, so any such author means that the database was replaced.
    """
    return set(known.keys() - read.keys())


def chunks(audience: int, size: int) -> list[int]:
    """Return the number of followers of each push call: full chunks, then the rest; [0] for no followers.

    A follower list that ends with a full chunk needs no further call.
    """
    if audience <= 0:
        return [0]
    full, rest = divmod(audience, size)
    return [size] * full + ([rest] if rest else [])


def back_fill_limit(cap: int, trim_slack: int) -> int:
    """Return how many of an author's newest tweets a follow must read so that no gap remains.

    Either the author has fewer, or adding that many trims the list, and its floor rises above what was not
    read.
    """
    return cap + trim_slack + 1


MAX_RESTARTS = 5
"""Times an event restarts with a newly read follower list; after that the followers are read from PostgreSQL.

A list can change with every unfollow; five in a row within one event needs an unfollow every few
milliseconds.
"""
