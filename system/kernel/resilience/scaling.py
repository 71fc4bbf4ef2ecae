"""How many instances a service needs, which of them to eject, and which to replace. Pure: times are given by the caller.

    look at a second -> ratio = what is used / what is aimed at, of the worst target -> instances needed = ready x ratio

More are added as soon as the mean of a few looks asks for them and the last change has cooled down. One is taken away only
after fewer have been enough for `calm_s` without a break, and fewer means: enough also with `hysteresis` to spare. So noise
within the hysteresis never makes the number swing, and a short dip costs nothing. The service's load is all that is
looked at: how an instance is added without a failed request is the affair of `system.platform.scaling.autoscaler`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from system.kernel.policies import AutoscaleKnobs, MeshKnobs

LOOKS = 3        # looks that an addition averages over: a second alone is noise, three are a load
MOST_GROWTH = 2  # times as many instances at most in one change: a full CPU shows as 100 %, whatever waits behind it
BAD_SHARE = 0.5  # of the answers of one second; an instance below that is ill at most now and then
ILL_LOOKS = 3    # in a row before one that answers is ejected: a moment of shedding is no illness
CROWDED = 16     # requests inside; errors of a crowded instance are shed load, and its siblings would get the rest too
SPARE = 0.5      # siblings must do at least twice as well, else the fault is not the instance's
IDLE_SHARE = 0.01  # of a core; a stopped process uses none, one that is only slow uses all it gets
BUSY_PATIENCE = 6  # times `heal_s` before an instance that works but does not answer is replaced


@dataclass(frozen=True)
class Look:
    """One service in the last second. `ready`: instances that take requests. `cpu`: mean share of their quotas.

    `in_flight`: mean requests inside an instance. `queue_s`: mean wait in the mesh.
    """

    ready: int
    cpu: float = 0.0
    in_flight: float = 0.0
    queue_s: float = 0.0


@dataclass(frozen=True)
class Wish:
    """How many instances there should be, and why."""

    wanted: int
    why: str = ""


def ratio(look: Look, knobs: AutoscaleKnobs) -> tuple[float, str]:
    """Return the worst of used / aimed at, and which it is. No target at all: 1, as good as wanted."""
    pairs = [(look.cpu, knobs.cpu, "cpu"), (look.in_flight, float(knobs.in_flight), "in flight"),
             (look.queue_s, knobs.queue_s, "queue")]
    told = [(used / target, f"{what} at {used:.2f} of {target:.2f}") for used, target, what in pairs if target > 0]
    return max(told, default=(1.0, ""))


def change(wanted: int, ready: int, existing: int) -> int | None:
    """Return to how many instances a service is brought now, None where nothing is done.

    `ready`: those that take requests; the others are started or healed. Until all are ready none leaves, and more come only
    where all that exist would be too few: of three with one ready, two are on their way back, and the one is all there is.
    """
    if ready < existing:
        return wanted if wanted > existing else None
    return wanted if wanted != existing else None


class Scaler:
    """The number of instances of one service. Look at it once a second; after a change it begins to look again."""

    def __init__(self, knobs: AutoscaleKnobs) -> None:
        self._knobs = knobs
        self._ratios: deque[float] = deque(maxlen=LOOKS)
        self._changed_s = float("-inf")
        self._calm_since_s: float | None = None

    def look(self, look: Look, now_s: float) -> Wish:
        """Return how many instances there should be. `now_s`: monotonic."""
        knobs, ready = self._knobs, look.ready
        if ready < knobs.min:
            return Wish(knobs.min, f"fewer than {knobs.min}")
        if ready > knobs.max:
            return Wish(knobs.max, f"more than {knobs.max}")
        used, why = ratio(look, knobs)
        self._ratios.append(used)
        mean = sum(self._ratios) / len(self._ratios)
        if mean * ready / max(1, ready - 1) > 1 - knobs.hysteresis:
            self._calm_since_s = None
        elif self._calm_since_s is None:
            self._calm_since_s = now_s
        if len(self._ratios) == LOOKS and mean > 1 + knobs.hysteresis and now_s - self._changed_s >= knobs.cool_down_s:
            more = min(math.ceil(ready * mean), MOST_GROWTH * ready, knobs.max)
            return Wish(more, why) if more > ready else Wish(ready)
        if self._calm_since_s is not None and now_s - self._calm_since_s >= knobs.calm_s and ready > knobs.min:
            return Wish(ready - 1, f"{ready - 1} were enough for {knobs.calm_s:g} s")
        return Wish(ready)

    def changed(self, now_s: float) -> None:
        """The number was changed: what was seen before says nothing about what stands now."""
        self._changed_s = now_s
        self._ratios.clear()
        self._calm_since_s = None


@dataclass(frozen=True)
class Seen:
    """One instance in the last second. `errors`: answers of 5xx and broken connections, of `answers` in all.

    `checked`: its last health check was answered. `inside`: requests in it now.
    """

    name: str
    answers: int
    errors: int
    checked: bool = True
    inside: int = 0


def ejected(seen: Sequence[Seen], knobs: MeshKnobs, out: int = 0) -> set[str]:
    """Return the instances of one service to take out for a while: clearly worse than their siblings. `out`: taken out already.

    Never more than half of all, so never an only one: where all do badly, it is not the instance, and the
    others would have to carry its share too.
    """
    if not knobs.eject_errors:
        return set()
    silent = [each.name for each in seen if not each.checked]
    ill = sorted((each for each in seen if each.checked and _ill(each, seen, knobs)), key=lambda each: -each.errors)
    return set([*silent, *(each.name for each in ill)][: max(0, (len(seen) + out) // 2 - out)])


def _ill(one: Seen, seen: Sequence[Seen], knobs: MeshKnobs) -> bool:
    others = [each for each in seen if each.name != one.name]
    bad = one.errors >= knobs.eject_errors and _share([one]) >= BAD_SHARE
    return bad and one.inside < CROWDED and _share(others) <= SPARE * _share([one])


def _share(seen: Sequence[Seen]) -> float:
    return sum(each.errors for each in seen) / max(1, sum(each.answers for each in seen))


def is_hung(silent_s: float, cpu_share: float, knobs: MeshKnobs) -> bool:
    """Say whether to replace an instance that has failed its checks for `silent_s` seconds.

    `cpu_share`: cores it used in that time. One that works hard is overloaded rather than hung: replacing it would only
    move its load to the others, so it gets more time.
    """
    if not knobs.heal_s:
        return False
    return silent_s >= knobs.heal_s * (1 if cpu_share < IDLE_SHARE else BUSY_PATIENCE)
