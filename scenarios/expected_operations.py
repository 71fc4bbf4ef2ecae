"""The windows of a scenario's objectives, and the operations expected in them.

The plan is the best case: a fault takes effect at its time and recovers as early as possible, a held fault at
its end, an instant one immediately. The recovery time that an objective grants is never steady.
"""

from __future__ import annotations

from collections.abc import Sequence

from scenarios import objectives, spec, vocabulary

Span = tuple[float, float]
"""A half-open interval of the load, in seconds; empty where its end is not after its start."""


def windows(objective: spec.Objective, scenario: spec.Scenario) -> list[list[Span]]:
    """Return the windows of `objective`, one per fault where it refers to faults; each a list of intervals.

    An empty window has none. The end of `during fault` of an instant fault is its recovery, which no plan
    knows; it is taken as the end of the load.
    """
    load_s = scenario.workload.load_s
    if objective.window == "steady":
        return [steady(scenario)]
    if objective.window == "whole":
        return [[(0.0, load_s)]]
    spans = []
    starts = sorted(fault.at_s for fault in scenario.faults_in_load)
    for fault in scenario.faults_in_load:
        end_s = fault_end_s(fault, load_s)
        if objective.window == "during fault":
            spans.append((fault.at_s, end_s if _is_held(fault) else load_s))
            continue
        following = [start for start in starts if start > fault.at_s]
        spans.append((end_s + (objective.within_s or 0.0), min([*following, load_s])))
    return [_not_empty([span]) for span in spans]


def steady(scenario: spec.Scenario) -> list[Span]:
    """Return the intervals after warm-up, outside the faults and the recovery that the objectives grant."""
    load_s = scenario.workload.load_s
    granted = (objective.within_s or 0.0 for objective in scenario.objectives if objective.window == "after fault")
    granted_s = max(granted, default=0.0)
    left: list[Span] = [(scenario.measure.warm_up_s, load_s)]
    for fault in scenario.faults_in_load:
        recovered_s = fault_end_s(fault, load_s) + granted_s
        left = [part for begin_s, end_s in left
                for part in ((begin_s, min(end_s, fault.at_s)), (max(begin_s, recovered_s), end_s))]
    return _not_empty(left)


def fault_end_s(fault: spec.Fault, load_s: float) -> float:
    """Return the earliest end of a fault, in seconds of the load.

    A held fault ends after `for` or with the load, an instant one when it starts.
    """
    return min(load_s, fault.at_s + (fault.for_s or 0.0 if _is_held(fault) else 0.0))


def expected(routes: Sequence[str], spans: Sequence[Span], workload: spec.Workload) -> float:
    """Return the expected operations of `routes` in `spans`: planned rate times share of the mix, summed.

    Operations that fall back to another route (a profile where nothing is left to like) are not counted.
    """
    total, begin_s = 0.0, 0.0
    for stage in workload.stages:
        mix = stage.mix or workload.mix
        share = sum(mix.get(route, 0.0) for route in routes)
        for first_s, last_s in spans:
            total += share * _operations(stage, first_s - begin_s, last_s - begin_s)
        begin_s += stage.for_s
    return total


def routes_of(objective: spec.Objective) -> tuple[str, ...]:
    """Return the routes that an objective measures; for `delivery` those whose tweets are delivered."""
    if objective.route == objectives.ALL:
        return tuple(vocabulary.ROUTES)
    return vocabulary.DELIVERED if objective.route == objectives.DELIVERY else (objective.route,)


def _operations(stage: spec.Stage, first_s: float, last_s: float) -> float:
    """Return the operations of `stage` between two times, in seconds from its start."""
    first_s, last_s = max(0.0, first_s), min(stage.for_s, last_s)
    if last_s <= first_s:
        return 0.0
    middle = (first_s + last_s) / 2 / stage.for_s
    return (last_s - first_s) * (stage.rate_from + (stage.rate_to - stage.rate_from) * middle)


def _is_held(fault: spec.Fault) -> bool:
    return vocabulary.FAULT_KINDS[fault.kind].held


def _not_empty(spans: list[Span]) -> list[Span]:
    return [(begin_s, end_s) for begin_s, end_s in spans if end_s > begin_s]
