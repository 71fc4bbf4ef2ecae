"""How many instances a service needs, which of them to eject, and which to replace.

Pure: times are passed in.

    one sample per second -> ratio = used / target (of the most exceeded target) -> instances = ready x ratio

Instances are added as soon as the mean of a few samples requires them and the last change has cooled down.
One is removed only after fewer have been enough for `calm_s` without interruption, where enough includes a
margin of `hysteresis`. So noise within the hysteresis never makes the number oscillate, and a short dip
removes nothing. Only the service's load is considered: `system.platform.scaling.autoscaler` adds instances
without failed requests.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from system.kernel.policies import AutoscaleKnobs, MeshKnobs

LOOKS = 3        # samples that a scale-up averages over: a single second is noise
MOST_GROWTH = 2  # factor of instances per change, at most: a saturated CPU shows as 100 %, however long the queue
BAD_SHARE = 0.5  # error rate in one second; an instance below it fails only occasionally
BAD_SAMPLES = 3    # consecutive bad samples before an instance that answers is ejected: brief load shedding is not a failure
CROWDED = 16     # requests in flight; errors of such an instance are shed load, which would overload its siblings next
SPARE = 0.5      # siblings must have at most half its error rate, else the cause is not the instance
IDLE_SHARE = 0.01  # of a core; a stopped process uses none, a slow one uses all it gets
BUSY_PATIENCE = 6  # times `heal_s` before an instance that uses CPU but does not answer is replaced


@dataclass(frozen=True)
class LoadSample:
    """Load of one service in the last second.

    `ready`: instances that accept requests. `cpu`: mean fraction of their quotas.

    `in_flight`: mean requests inside an instance. `queue_s`: mean wait in the mesh, in seconds.
    """

    ready: int
    cpu: float = 0.0
    in_flight: float = 0.0
    queue_s: float = 0.0


@dataclass(frozen=True)
class Desired:
    """The desired number of instances, and the reason."""

    wanted: int
    why: str = ""


def ratio(look: LoadSample, knobs: AutoscaleKnobs) -> tuple[float, str]:
    """Return the highest used / target, and a description of it. Without any target: 1, exactly on target."""
    pairs = [(look.cpu, knobs.cpu, "cpu"), (look.in_flight, float(knobs.in_flight), "in flight"),
             (look.queue_s, knobs.queue_s, "queue")]
    ratios = [(used / target, f"{what} at {used:.2f} of {target:.2f}") for used, target, what in pairs if target > 0]
    return max(ratios, default=(1.0, ""))


def change(wanted: int, ready: int, existing: int) -> int | None:
    """Return the number of instances to scale to now, None for no change.

    `ready`: those that accept requests; the others are starting or being replaced. Until all are ready none
    is removed, and more are added only if all existing ones would be too few: of three with one ready, two
    are about to return.
    """
    if ready < existing:
        return wanted if wanted > existing else None
    return wanted if wanted != existing else None


class Scaler:
    """Decides the number of instances of one service, from one sample per second.

    A change restarts the averages.
    """

    def __init__(self, knobs: AutoscaleKnobs) -> None:
        self._knobs = knobs
        self._ratios: deque[float] = deque(maxlen=LOOKS)
        self._changed_s = float("-inf")
        self._calm_since_s: float | None = None

    def look(self, look: LoadSample, now_s: float) -> Desired:
        """Return the desired number of instances. `now_s`: monotonic."""
        knobs, ready = self._knobs, look.ready
        if ready < knobs.min:
            return Desired(knobs.min, f"fewer than {knobs.min}")
        if ready > knobs.max:
            return Desired(knobs.max, f"more than {knobs.max}")
        used, why = ratio(look, knobs)
        self._ratios.append(used)
        mean = sum(self._ratios) / len(self._ratios)
        if mean * ready / max(1, ready - 1) > 1 - knobs.hysteresis:
            self._calm_since_s = None
        elif self._calm_since_s is None:
            self._calm_since_s = now_s
        if len(self._ratios) == LOOKS and mean > 1 + knobs.hysteresis and now_s - self._changed_s >= knobs.cool_down_s:
            more = min(math.ceil(ready * mean), MOST_GROWTH * ready, knobs.max)
            return Desired(more, why) if more > ready else Desired(ready)
        if self._calm_since_s is not None and now_s - self._calm_since_s >= knobs.calm_s and ready > knobs.min:
            return Desired(ready - 1, f"{ready - 1} were enough for {knobs.calm_s:g} s")
        return Desired(ready)

    def changed(self, now_s: float) -> None:
        """Record that the number was changed: earlier samples do not describe the new number."""
        self._changed_s = now_s
        self._ratios.clear()
        self._calm_since_s = None


@dataclass(frozen=True)
class InstanceSample:
    """One instance in the last second.

    `errors`: 5xx responses and broken connections, out of `answers` in total.

    `checked`: its last health check was answered. `inside`: requests in flight.
    """

    name: str
    answers: int
    errors: int
    checked: bool = True
    inside: int = 0


def ejected(seen: Sequence[InstanceSample], knobs: MeshKnobs, out: int = 0) -> set[str]:
    """Return the instances of one service to eject: clearly worse than their siblings.

    `out`: already ejected.

    Never more than half of all, so never the only one: if all fail, the cause is not the instance, and the
    others would have to take over its load.
    """
    if not knobs.eject_errors:
        return set()
    silent = [instance.name for instance in seen if not instance.checked]
    outliers = sorted((instance for instance in seen if instance.checked and _is_outlier(instance, seen, knobs)),
                      key=lambda instance: -instance.errors)
    return set([*silent, *(instance.name for instance in outliers)][: max(0, (len(seen) + out) // 2 - out)])


def _is_outlier(instance: InstanceSample, seen: Sequence[InstanceSample], knobs: MeshKnobs) -> bool:
    siblings = [other for other in seen if other.name != instance.name]
    bad = instance.errors >= knobs.eject_errors and _error_rate([instance]) >= BAD_SHARE
    return bad and instance.inside < CROWDED and _error_rate(siblings) <= SPARE * _error_rate([instance])


def _error_rate(instances: Sequence[InstanceSample]) -> float:
    return sum(instance.errors for instance in instances) / max(1, sum(instance.answers for instance in instances))


def is_hung(silent_s: float, cpu_share: float, knobs: MeshKnobs) -> bool:
    """Return whether to replace an instance that has failed its health checks for `silent_s` seconds.

    `cpu_share`: cores it used in that time. A busy instance is overloaded rather than hung: replacing it
    would only move its load to the others, so it gets more time.
    """
    if not knobs.heal_s:
        return False
    return silent_s >= knobs.heal_s * (1 if cpu_share < IDLE_SHARE else BUSY_PATIENCE)
