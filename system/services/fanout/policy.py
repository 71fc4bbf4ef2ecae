"""Push or pull: how an author's tweet reaches the readers. Decides; reads no clock, no store.

*Push*: the id is added to every live home timeline of a follower. Cost: one entry per follower and
tweet; a read is one call. *Pull*: the id stays in the author's own list, and readers who follow him
merge that list. Cost: one list more per read.

| audience | standing mode | this tweet is | durable change |
|---|---|---|---|
| <= push_limit | push | pushed | none |
| > push_limit | push | pushed | to pull |
| >= push_limit * hysteresis | pull, flag older than the readers' view | not pushed | none |
| >= push_limit * hysteresis | pull, flag younger | pushed | none |
| < push_limit * hysteresis | pull | pushed | to push |

Two rules make a crossing safe. Up: pushing stops only when the pull flag is older than any reader's view
of the modes can be, so no tweet is neither pushed nor merged. Down: pushing starts at once, and an
author who was ever pulled stays on the readers' merge list, so tweets of his pulled days do not
vanish; a merge counts an id once.

What this does not decide: who follows, and whether a timeline is live. Pushes go into live ones only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from system.kernel.policies import FanoutKnobs

PUSH = "push"
PULL = "pull"

SETTLE_MS = 1_000
"""Milliseconds a flag must age beyond the readers' view: covers the commit of the flag and a home read that took
its view just before it expired. A home read lasts tens of ms here; a second leaves room for a slow one."""

AUDIENCE_TTL_S = 30.0
"""Seconds for which a known number of followers is trusted. Only the moment of a crossing depends on it, never its safety."""


@dataclass(frozen=True)
class Standing:
    """An author's durable mode: `mode` PUSH or PULL since `changed_ms` (wall time of the database, ms since 1970)."""

    mode: str
    changed_ms: int


@dataclass(frozen=True)
class Decision:
    """What to do with one tweet. `path`: PUSH or PULL. `change_to`: the mode to make durable first, None for no change."""

    path: str
    change_to: str | None = None


def choose(audience: int, standing: Standing | None, knobs: FanoutKnobs, mode_ttl_s: float, now_ms: int) -> Decision:
    """Decide one tweet of an author with `audience` followers.

    `standing`: None where he was never anything but pushed. `mode_ttl_s`: oldest view of the modes a reader may use.
    `now_ms`: wall time.
    """
    if standing is None or standing.mode == PUSH:
        return Decision(PUSH, PULL if audience > knobs.push_limit else None)
    if audience < knobs.push_limit * knobs.hysteresis:
        return Decision(PUSH, PUSH)
    known_to_all = now_ms - standing.changed_ms > mode_ttl_s * 1_000 + SETTLE_MS
    return Decision(PULL if known_to_all else PUSH)


def lost_modes(known: Mapping[int, Standing], found: Mapping[int, Standing]) -> set[int]:
    """Return the authors who were pulled as far as is `known` and are not in what was `found` later.

    A mode may change and is never removed, so any of them says that the database is not the one of before.
    """
    return set(known.keys() - found.keys())


def chunks(audience: int, size: int) -> list[int]:
    """Return the numbers of followers that each push call handles: full chunks, then the rest; [0] for nobody.

    A follower list that ends with a full chunk needs no further call.
    """
    if audience <= 0:
        return [0]
    full, rest = divmod(audience, size)
    return [size] * full + ([rest] if rest else [])


def back_fill_limit(cap: int, trim_slack: int) -> int:
    """Return how many of an author's newest tweets a follow must read so that no gap can stay.

    Either the author has fewer, or adding so many makes the list trim, and its floor rises above what was not read.
    """
    return cap + trim_slack + 1


MAX_RESTARTS = 5
"""Times an event starts again from a fresh follower list before the followers are read from PostgreSQL instead.
A list can change with every unfollow; five in a row within one event needs an unfollow every few milliseconds."""
