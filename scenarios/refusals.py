"""Refuses scenarios whose result could not be judged, before anything starts, like a misspelled key."""

from __future__ import annotations

from scenarios import expected_operations, objectives, spec, units
from scenarios.kinds import Where

MOST_OPERATIONS = 100_000_000  # the tape of a run is held in memory, about 50 bytes per operation

REFUSED = (
    "an objective on a route without a share in the mix, or on `delivery` without posts",
    "an objective whose window is always empty: `during fault` or `after fault` without a fault in the load, "
    "an `after fault` window that ends first because the next fault starts or the load ends, or a `steady` "
    "window of which warm-up, faults and the recovery that objectives allow leave nothing",
    "an objective with no planned operation of its route in its window, such as in a pause",
    f"a load without any operation, or with more than {MOST_OPERATIONS:,}",
)
"""The refusals of the checks below, for the reference page."""


def check_workload(scenario: spec.Scenario, where: Where) -> None:
    """Refuse a load that plans no operation at all, or more than a tape can hold."""
    total = scenario.workload.planned
    stages = where.key("workload").key("stages")
    if total <= 0:
        stages.refuse("0/s throughout", "at least one stage must have a rate above 0; a stage of `0/s` is a "
                                        "pause.")
    if total > MOST_OPERATIONS:
        stages.refuse(f"{total:.3g} operations",
                      f"it must plan at most {MOST_OPERATIONS:,}; lower the rate or shorten the load.")


def check_objective(objective: spec.Objective, scenario: spec.Scenario, where: Where) -> None:
    """Refuse an objective that no run can judge. `where`: its position in the file."""
    _check_route(objective, scenario, where)
    if "fault" in objective.window and not scenario.faults:
        where.refuse(objective.text, "its window needs a fault, but `faults` is empty; add a fault or choose "
                                     "`steady` or `whole`.")
    _check_window(objective, scenario, where)


def _check_route(objective: spec.Objective, scenario: spec.Scenario, where: Where) -> None:
    work = scenario.workload
    mixes = [stage.mix or work.mix for stage in work.stages if stage.rate_from + stage.rate_to > 0]
    planned = list(dict.fromkeys(route for mix in mixes for route in mix))
    if objective.route == objectives.DELIVERY:
        if "post" not in planned:
            where.refuse(objective.text, "`delivery` needs tweets, but `post` has no share in the mix; give "
                                         "it one or remove the objective.")
    elif objective.route != objectives.ALL and objective.route not in planned:
        where.refuse(objective.text, f"`{objective.route}` has no share in the mix; give it one, or name a "
                                     f"route that has: {', '.join(planned)}.")


def _check_window(objective: spec.Objective, scenario: spec.Scenario, where: Where) -> None:
    end = units.format_duration(scenario.workload.load_s)
    windows = expected_operations.windows(objective, scenario)
    if not windows:
        where.refuse(objective.text, "its window needs a fault, but every fault begins after the load has "
                                     f"ended at {end}; move one forward or lengthen the load.")
    if not all(windows):
        where.refuse(objective.text, _EMPTY[objective.window].format(
            end=end, warm_up=units.format_duration(scenario.measure.warm_up_s),
            within=units.format_duration(objective.within_s or 0.0)))
    for spans in windows:
        if expected_operations.expected(expected_operations.routes_of(objective), spans, scenario.workload) <= 0:
            times = ", ".join(f"{first_s:g} s to {last_s:g} s" for first_s, last_s in spans)
            where.refuse(objective.text, f"no operation of its route is planned in its window ({times}); "
                                         "change the stages, the mix or the window.")


_EMPTY = {
    "steady": "no time is steady: after the warm-up of {warm_up}, faults and the recovery that objectives "
              "grant take all of the load, which ends at {end}. Lengthen the load, shorten the warm-up or "
              "choose `whole`.",
    "after fault": "its window is empty: {within} after a fault, the next fault has started or the load has "
                   "ended (at {end}). Lengthen the load, move the faults or grant less.",
}
"""Window -> the reason that it is empty. `whole` and `during fault` never are: both last longer than 0 s."""
