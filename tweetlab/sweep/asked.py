"""The figures that a sweep may ask for, and their values in the row of a replication.

    home p99            response time of a route in steady time, ms: mean, p50, p95 or p99
    errors              share of the planned operations that failed or got no response, percent
    throughput          completed operations per second
    utilization         share of the machine's CPU in use, percent
    cores NODE          CPU of one process
    delivery p99        from the acknowledgment of a tweet until it is in its followers' timelines, s
    writes per tweet    timeline entries written for each tweet (write amplification)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from scenarios import spec, units, vocabulary
from system.kernel.errors import WrongInput

STATISTICS = ("mean", "p50", "p95", "p99")
PLAIN = {"errors": "%", "throughput": "/s", "utilization": "%", "delivery p99": "s", "writes per tweet": ""}
"""Figures of a whole replication -> unit."""

_ROUTE = re.compile(rf"^(\w+) ({'|'.join(STATISTICS)})$")
_CORES = re.compile(r"^cores ([a-z][a-z0-9-]*)$")


def check(figure: str) -> str:
    """Return `figure` in its canonical form. Raises WrongInput, with the nearest known one."""
    text = " ".join(figure.split())
    match = _ROUTE.match(text)
    if text in PLAIN or _CORES.match(text) or (match and match[1] in vocabulary.ROUTES):
        return text
    known = [*PLAIN, *(f"{route} {name}" for route in vocabulary.ROUTES for name in STATISTICS)]
    raise WrongInput(f"The figure {figure!r} is not known; it must be one of `ROUTE {'|'.join(STATISTICS)}` with a route of the "
                     f"mix, `cores NODE`, {', '.join(PLAIN)}.{units.nearest(text, known)}")


def default(scenario: spec.Scenario) -> str:
    """Return the figure of the first objective on latency, else p99 of the route with the largest share."""
    for objective in scenario.objectives:
        if objective.metric in STATISTICS and objective.route in vocabulary.ROUTES:
            return f"{objective.route} {objective.metric}"
    return f"{max(scenario.workload.mix, key=lambda route: scenario.workload.mix[route])} p99"


def unit(figure: str) -> str:
    """Return the unit of a figure: ms, s, %, /s, cores, or "" for a plain number."""
    return PLAIN.get(figure, "cores" if _CORES.match(figure) else "ms")


def column(figure: str) -> str:
    """Return the figure as a column name with its unit: home_p99_ms."""
    suffix = {"%": "percent", "/s": "per_s", "": "", "cores": ""}.get(unit(figure), unit(figure))
    return "_".join(part for part in (figure.replace(" ", "_").replace("-", "_"), suffix) if part)


def value(row: Mapping[str, Any], figure: str) -> float | None:
    """Return the figure of one replication's row; None if nothing was counted for it."""
    if match := _CORES.match(figure):
        return _number(row["cores"].get(match[1]))
    if match := _ROUTE.match(figure):
        return _number(row["routes"].get(match[1], {}).get(f"{match[2]}_ms"))
    names = {"errors": "errors_percent", "throughput": "ok_per_s", "utilization": "utilization_percent",
             "delivery p99": "delivery_p99_s", "writes per tweet": "writes_per_tweet"}
    return _number(row[names[figure]])


def _number(found: Any) -> float | None:
    return None if found is None else float(found)


def number(value: float | None) -> str:
    """Return a figure with three significant digits, without an exponent; a dash for none."""
    if value is None:
        return "–"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}"
