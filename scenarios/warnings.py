"""Warnings of `check` and `run` about what a run can hardly judge; a scenario with warnings may run.

`WARNINGS` is the table. To add one, write a function that yields a text for each case, and add it to the
table. A text starts with the key, names the value and the bound, and says what to change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from scenarios import expected_operations, objectives, recovery, spec, units

BEYOND = 10  # operations above a percentile, to be reproducible: with fewer, one slow request decides it
LEAST = 10  # operations that a mean, a maximum or a share needs in its window; the same bound as the judge's
MORE = "Raise the rate or lengthen the load"


def few_operations(scenario: spec.Scenario) -> Iterator[str]:
    """Yield each objective whose window expects too few operations.

    For a percentile p: the expected operations of the route in the window x (1 - p) < 10. For errors,
    goodput, mean and max: the expected operations in the window < 10. Where there are several windows (one
    per fault), the one with the fewest operations counts.
    """
    for index, objective in enumerate(scenario.objectives):
        routes, work = expected_operations.routes_of(objective), scenario.workload
        windows = expected_operations.windows(objective, scenario)
        count = min((expected_operations.expected(routes, spans, work) for spans in windows), default=0.0)
        where = f"objectives.{index} `{objective.text}`: {count:.4g} operations"
        if objective.metric in objectives.QUANTILES:
            share = 1.0 - objectives.QUANTILES[objective.metric]
            if round(count * share, 6) < BEYOND:
                yield (f"{where} expected in its window x {share:.4g} = {count * share:.3g} beyond "
                       f"{objective.metric}; at least {BEYOND} are needed. {MORE}, or lower the percentile.")
        elif count < LEAST:
            yield f"{where} are expected in its window; at least {LEAST} are needed. {MORE}."


def faults_past_the_end(scenario: spec.Scenario) -> Iterator[str]:
    """Yield each fault that starts at or after the end of the load (never injected), or is held past it."""
    load_s = scenario.workload.load_s
    for index, fault in enumerate(scenario.faults):
        at, until = units.format_duration(fault.at_s), units.format_duration(fault.at_s + (fault.for_s or 0.0))
        end = f"but the load ends at {units.format_duration(load_s)}"
        if fault.at_s >= load_s:
            yield (f"faults.{index} `{fault.kind}`: it starts at {at}, {end}, so it is never injected. "
                   "Inject it earlier or lengthen the load.")
        elif fault.at_s + (fault.for_s or 0.0) > load_s:
            yield (f"faults.{index} `{fault.kind}`: it is held until {until}, {end}, so no request "
                   "is sent after its end. Shorten it or lengthen the load.")


WARNINGS: tuple[Callable[[spec.Scenario], Iterable[str]], ...] = (
    few_operations, faults_past_the_end, recovery.warnings,
)
"""All warnings; each yields nothing for a scenario that it does not concern."""


def of(scenario: spec.Scenario) -> list[str]:
    """Return all warnings about `scenario`, in the order of the table. Pure."""
    return [text for warn in WARNINGS for text in warn(scenario)]
