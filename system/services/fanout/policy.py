"""Push or pull: how an author's tweet reaches the readers. Pure: reads no clock, no store.

*Push* (fan-out on write): the tweet id is added to every live home timeline of a follower (live: cached and
complete). Cost: one entry per follower and tweet; a read is one call. *Pull* (fan-out on read): the id stays
in the author's own list, and the reads of followers merge that list. Cost: one more list per read.

The mode of an author, push or pull, is stored durably. Readers use a copy of all modes that may be up to
`mode_ttl_s` old.

| followers | stored mode | this tweet is | the stored mode becomes |
|---|---|---|---|
| <= push_limit | push | pushed | unchanged |
| > push_limit | push | pushed | pull |
| >= push_limit * hysteresis | pull, for longer than any reader's copy is old | not pushed | unchanged |
| >= push_limit * hysteresis | pull, more recent | pushed | unchanged |
| < push_limit * hysteresis | pull | pushed | push |

Two rules make a change of mode safe:

- Push to pull: pushing stops only when every reader's copy must contain the new mode. So every tweet is
pushed,
  or merged on read, or both.
- Pull to push: pushing starts immediately, and an author that was ever pulled stays on the list of authors
that
  reads merge. So tweets from the time of pull do not disappear; a merge returns each id once.

This module does not decide who the followers are, or which timelines are live.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from system.kernel.policies import FanoutKnobs

PUSH = "push"
PULL = "pull"

NO_MODE, PUSH_MODE, PULL_MODE = 0, 1, 2
"""The modes as numbers, for `decide`; NO_MODE: never pulled, or no change."""
NAMES = ("", PUSH, PULL)

SETTLE_MS = 1_000
"""Milliseconds added to the TTL of the readers' copy before pushing stops.

They cover the commit of the new mode, and a home read that used its copy just before the copy expired. A home
read takes tens of ms here; a second leaves room for a slow one.
"""

AUDIENCE_TTL_S = 30.0
"""Seconds for which a process uses a number of followers that it has read.

Only the time of a change of mode depends on it, never its safety.
"""


@dataclass(frozen=True)
class AuthorMode:
    """An author's stored mode: PUSH or PULL.

    `changed_ms`: time of the last change (wall time of the database, ms since 1970).
    """

    mode: str
    changed_ms: int


@dataclass(frozen=True)
class Decision:
    """What to do with one tweet.

    `path`: PUSH or PULL. `change_to`: the mode to store before the delivery, None for no change.
    """

    path: str
    change_to: str | None = None


def choose(audience: int, current: AuthorMode | None, knobs: FanoutKnobs, mode_ttl_s: float, now_ms: int) -> Decision:
    """Decide how one tweet of an author with `audience` followers is delivered.

    `current`: the author's stored mode; None if they were never pulled. `mode_ttl_s`: maximum age, in
    seconds, of the copy of the modes that a read uses. `now_ms`: wall time.
    """
    mode, changed_ms = (NO_MODE, 0) if current is None else (NAMES.index(current.mode), current.changed_ms)
    path, change_to = decide(audience, mode, now_ms - changed_ms, knobs.push_limit, knobs.hysteresis, mode_ttl_s)
    return Decision(NAMES[path], NAMES[change_to] or None)


def decide(audience: int, mode: int, age_ms: int, push_limit: int, hysteresis: float, mode_ttl_s: float) -> tuple[int, int]:
    """Return (path, mode to change to) as numbers. `mode`: stored for `age_ms`. The twin compiles this function."""
    if mode != PULL_MODE:
        return PUSH_MODE, PULL_MODE if audience > push_limit else NO_MODE
    if audience < push_limit * hysteresis:
        return PUSH_MODE, PUSH_MODE
    every_reader_knows = age_ms > mode_ttl_s * 1_000 + SETTLE_MS
    return PULL_MODE if every_reader_knows else PUSH_MODE, NO_MODE


def lost_modes(known: Mapping[int, AuthorMode], read: Mapping[int, AuthorMode]) -> set[int]:
    """Return the authors that have a mode in `known` but none in `read`, which was read later.

    A mode may change but is never removed, so any such author means that the database was replaced.
    """
    return set(known.keys() - read.keys())


def chunks(audience: int, size: int) -> list[int]:
    """Return the number of followers of each push call: full chunks, then the rest; [0] for no followers.

    If the last chunk is full, no further call follows.
    """
    if audience <= 0:
        return [0]
    full, rest = divmod(audience, size)
    return [size] * full + ([rest] if rest else [])


def back_fill_limit(cap: int, trim_slack: int) -> int:
    """Return how many of the followee's newest tweets a new follow must read to leave no gap in the timeline.

    Either the followee has fewer tweets, or adding that many trims the timeline to `cap`, which raises its
    floor (the lowest id down to which it is complete) above the tweets that were not read.
    """
    return cap + trim_slack + 1


MAX_RESTARTS = 5
"""How often an event restarts because the follower list changed; then the followers are read from PostgreSQL.

Any unfollow of the author replaces the list; five replacements within one event require an unfollow every few
milliseconds.
"""
