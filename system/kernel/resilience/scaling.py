"""Decides how many instances a service needs, which instances to eject, and which to replace.

Pure: times are passed in.

    one sample per second -> ratio = used / target (of the most exceeded target) -> instances = ready x ratio

Instances are added when the mean ratio of `LOOKS` samples exceeds 1 + `hysteresis` and the last change is at
least `cool_down_s` ago. One instance is removed only after one fewer would have kept the ratio below 1 -
`hysteresis` for `calm_s` without interruption. So noise within the hysteresis never makes the number
oscillate, and a short drop of the load removes nothing. Only the load of the service is considered here;
`system.platform.scaling.autoscaler` starts and stops the instances without failing requests.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from system.kernel.policies import AutoscaleKnobs, MeshKnobs

# Samples whose mean decides about adding instances: a single second is noise.
LOOKS = 3
# Maximum factor of instances per change: a saturated CPU shows as 100 %, however long the queue is.
MOST_GROWTH = 2
# Minimum error rate in one second for an ejection; an instance below it fails only occasionally.
BAD_SHARE = 0.5
# Consecutive bad samples before an instance that passes its health checks is ejected: brief load shedding is
# not a failure.
BAD_SAMPLES = 3
# Requests in flight from which an instance counts as overloaded. Its errors are shed load, and ejecting it
# would overload its siblings next.
CROWDED = 16
# Siblings must have at most this fraction of its error rate, or else the cause is not the instance.
SPARE = 0.5
# Fraction of a core below which a process counts as stopped: a stopped one uses none, a slow one all it gets.
IDLE_SHARE = 0.01
# Multiple of `heal_s` before an instance that uses CPU but fails its health checks is replaced.
BUSY_PATIENCE = 6


@dataclass(frozen=True)
class LoadSample:
    """Load of one service in the last second.

    `ready`: number of instances that accept requests. `cpu`: mean utilization of their CPU quotas, as a
    fraction. `in_flight`: mean number of requests in an instance. `queue_s`: mean wait in HAProxy, in
    seconds.
    """

    ready: int
    cpu: float = 0.0
    in_flight: float = 0.0
    queue_s: float = 0.0


@dataclass(frozen=True)
class Desired:
    """The desired number of instances, and the reason for a change."""

    wanted: int
    why: str = ""


def ratio(sample: LoadSample, knobs: AutoscaleKnobs) -> tuple[float, str]:
    """Return the highest ratio used / target, and a description of it; (1, "") if no target is set."""
    pairs = [(sample.cpu, knobs.cpu, "cpu"), (sample.in_flight, float(knobs.in_flight), "in flight"),
             (sample.queue_s, knobs.queue_s, "queue")]
    ratios = [(used / target, f"{what} at {used:.2f} of {target:.2f}") for used, target, what in pairs if target > 0]
    return max(ratios, default=(1.0, ""))


def change(wanted: int, ready: int, existing: int) -> int | None:
    """Return the number of instances to scale to now, None for no change.

    `ready`: instances that accept requests; the other existing ones are starting or being replaced. Until all
    are ready, no instance is removed, and instances are added only if all existing ones together would be too
    few. Example: if one of three is ready, the other two are about to return, so a `wanted` of 2 changes
    nothing.
    """
    if ready < existing:
        return wanted if wanted > existing else None
    return wanted if wanted != existing else None


class Scaler:
    """Decides the number of instances of one service, from one sample per second.

    Call `changed` after every change: it restarts the averages.
    """

    def __init__(self, knobs: AutoscaleKnobs) -> None:
        self._knobs = knobs
        self._ratios: deque[float] = deque(maxlen=LOOKS)
        self._changed_s = float("-inf")
        self._calm_since_s: float | None = None

    def look(self, sample: LoadSample, now_s: float) -> Desired:
        """Add a sample and return the desired number of instances. `now_s`: monotonic."""
        knobs, ready = self._knobs, sample.ready
        if ready < knobs.min:
            return Desired(knobs.min, f"fewer than {knobs.min}")
        if ready > knobs.max:
            return Desired(knobs.max, f"more than {knobs.max}")
        used, why = ratio(sample, knobs)
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
        """Record that the number of instances changed: earlier samples do not describe the new number."""
        self._changed_s = now_s
        self._ratios.clear()
        self._calm_since_s = None


@dataclass(frozen=True)
class InstanceSample:
    """One instance in the last second.

    `errors`: 5xx responses and broken connections, out of `answers` in total. `checked`: whether it responded
    to its last health check. `inside`: requests in flight.
    """

    name: str
    answers: int
    errors: int
    checked: bool = True
    inside: int = 0


def ejected(instances: Sequence[InstanceSample], knobs: MeshKnobs, out: int = 0) -> set[str]:
    """Return the names of the instances of one service to eject.

    These are instances that did not respond to their health check, and those that are clearly worse than
    their siblings. `out`: number of instances already ejected, not part of `instances`.

    Never more than half of all instances are out at a time, so never the only one: if all fail, the cause is
    not the instance, and the remaining ones would have to take over its load.
    """
    if not knobs.eject_errors:
        return set()
    silent = [instance.name for instance in instances if not instance.checked]
    outliers = sorted((instance for instance in instances if instance.checked and _is_outlier(instance, instances, knobs)),
                      key=lambda instance: -instance.errors)
    return set([*silent, *(instance.name for instance in outliers)][: max(0, (len(instances) + out) // 2 - out)])


def _is_outlier(instance: InstanceSample, instances: Sequence[InstanceSample], knobs: MeshKnobs) -> bool:
    siblings = [other for other in instances if other.name != instance.name]
    bad = instance.errors >= knobs.eject_errors and _error_rate([instance]) >= BAD_SHARE
    return bad and instance.inside < CROWDED and _error_rate(siblings) <= SPARE * _error_rate([instance])


def _error_rate(instances: Sequence[InstanceSample]) -> float:
    return sum(instance.errors for instance in instances) / max(1, sum(instance.answers for instance in instances))


def is_hung(silent_s: float, cpu_share: float, knobs: MeshKnobs) -> bool:
    """Return whether to replace an instance that has failed its health checks for `silent_s` seconds.

    `cpu_share`: mean number of cores it used in that time. An instance that uses CPU is overloaded rather
    than hung: replacing it would only move its load to the others, so it gets `BUSY_PATIENCE` times as long.
    """
    if not knobs.heal_s:
        return False
    return silent_s >= knobs.heal_s * (1 if cpu_share < IDLE_SHARE else BUSY_PATIENCE)
