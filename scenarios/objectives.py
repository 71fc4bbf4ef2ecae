"""Objectives: one line of text each, parsed into a bound that the judge compares with a record.

    home p99 <= 250 ms steady                     a latency of one route
    p99 <= 400 ms                                 of all routes together; the default window is `steady`
    errors < 0.5 % whole                          failed and unknown operations ÷ all that were due
    post goodput >= 99 % during fault             OK operations ÷ all that were due
    refused <= 10 % whole                         429 under the scenario's own `limits` ÷ all that were due
    delivery p99 <= 1 s whole                     acknowledged post -> in every follower's timeline
    home p99 <= 250 ms after fault within 20 s    holds from 20 s after each fault until the load ends
    errors < 50 % whole abort                     ends the run as soon as it is violated

`steady` is the time after warm-up, outside faults and recovery. A latency covers every operation due in its
window: one that failed or was never answered counts as slower than any bound. A refusal that the scenario
configures (429 under its own `limits`) is neither success nor failure: latencies, `errors` and `goodput`
leave it out, and `refused` is the share of such refusals. Bounds are kept as written and compared exactly
(`bounds`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from scenarios import bounds, units

QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p999": 0.999, "p9999": 0.9999}
LATENCIES = (*QUANTILES, "max", "mean")
SHARES = ("errors", "goodput", "refused")
OPERATORS = tuple(bounds.OPERATORS)
WINDOWS = ("steady", "during fault", "after fault", "whole")
DELIVERY = "delivery"
ALL = "all"

_SHAPE = re.compile(r"^(?P<left>[^<>=]+?)\s*(?P<op><=|>=|<|>)\s*"
                    r"(?P<bound>(?:[\d._]+\s*(?:%|[a-zµμ]+)\s*)+)(?P<rest>.*)$")
_WITHIN = re.compile(r"^after fault within (?P<span>.+)$")
ALLOWED = (f"it must read `[route] metric operator bound [window] [abort]`, such as `home p99 <= 250 ms steady` or "
           f"`errors < 0.5 % whole` (metrics: {', '.join(LATENCIES + SHARES)}; "
           f"windows: steady, during fault, after fault within N s, whole).")


@dataclass(frozen=True)
class Objective:
    """A bound on one measured value of a run.

    `route`: a route of the mix, `all`, or `delivery`. `metric`: one of LATENCIES or SHARES. `bound`: seconds
    for a latency, a fraction for a share, exactly as written. `window`: one of WINDOWS. `within_s`: seconds
    after a fault from which the objective applies again; None unless the window is `after fault`. `abort`:
    whether a violation ends the run.
    """

    route: str
    metric: str
    op: str
    bound: Fraction
    window: str = "steady"
    within_s: float | None = None
    abort: bool = False
    text: str = ""

    def holds(self, value: bounds.Number) -> bool:
        """Return whether `value` (same unit as `bound`) meets the objective. False for NaN."""
        return bounds.holds(value, self.op, self.bound)


def parse(text: object, routes: Iterable[str]) -> Objective:
    """Parse one objective. Raises UnitError, naming the problem and the nearest known word."""
    match = _SHAPE.match(" ".join(text.split())) if isinstance(text, str) else None
    if match is None:
        raise units.UnitError(text, ALLOWED)
    route, metric = _left(str(text), match["left"], (*routes, ALL, DELIVERY))
    if route == DELIVERY and metric in SHARES:
        raise units.UnitError(text, f"`{DELIVERY}` has latencies only: {', '.join(LATENCIES)}.")
    reader = units.exact_share if metric in SHARES else units.exact_s
    try:
        bound = reader(match["bound"].strip())
    except units.UnitError as error:
        raise units.UnitError(text, f"the bound of `{metric}` is {error}") from error
    window, within_s, abort = _rest(str(text), match["rest"].strip())
    return Objective(route, metric, match["op"], bound, window, within_s, abort, " ".join(str(text).split()))


def _left(text: str, left: str, routes: tuple[str, ...]) -> tuple[str, str]:
    """Return route and metric from the words before the operator."""
    words = left.split()
    if len(words) > 2:
        raise units.UnitError(text, ALLOWED)
    metric = words[-1].replace("p99.99", "p9999").replace("p99.9", "p999")
    if metric not in LATENCIES + SHARES:
        raise units.UnitError(text, f"the metric `{words[-1]}` is unknown; allowed: {', '.join(LATENCIES + SHARES)}.",
                              units.nearest(metric, LATENCIES + SHARES))
    route = words[0] if len(words) == 2 else ALL
    if route not in routes:
        raise units.UnitError(text, f"the route `{route}` is unknown; allowed: {', '.join(routes)}.",
                              units.nearest(route, routes))
    return route, metric


def _rest(text: str, rest: str) -> tuple[str, float | None, bool]:
    """Return window, seconds after the fault, and whether a violation aborts."""
    abort = rest.split()[-1:] == ["abort"]
    window = rest.removesuffix("abort").strip() or "steady"
    if window in ("steady", "during fault", "whole"):
        return window, None, abort
    within = _WITHIN.match(window)
    if within is not None:
        try:
            return "after fault", units.duration_s(within["span"]), abort
        except units.UnitError as error:
            raise units.UnitError(text, f"the time after `within` is {error}") from error
    fix = " Write `after fault within 20 s`." if window.startswith("after") else units.nearest(window, WINDOWS)
    raise units.UnitError(text, f"the window `{window}` is unknown; allowed: steady, during fault, "
                                "after fault within N s, whole.", fix)
