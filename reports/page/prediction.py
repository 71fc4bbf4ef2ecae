"""Prediction vs. measurement: the signed error per route and percentile, with the label of the calibration.

error = predicted / measured - 1: +0.10 means that the prediction was 10 % too high. A prediction whose
service times come from the scored run itself (in-sample) proves nothing, so it has no error; nor has one whose
calibration is of another machine. Neither has a percentile with too few operations on either side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reports.stats import histogram

SCORED = ("p50", "p90", "p95", "p99", "p999", "mean")


def block(
    measured: Mapping[str, Any],
    predicted: Mapping[str, Any],
    label: str,
    *,
    in_sample: bool = False,
    calibration: Mapping[str, Any] | None = None,
    foreign: bool = False,
) -> dict[str, Any]:
    """Return the `prediction` block of two records, steady windows. `routes` has the routes of both records.

    `foreign`: the calibration is of another machine, so its prediction has no errors either.
    """
    twin = predicted.get("platform", {}).get("twin", {})
    intervals = twin.get("replications", {}).get("intervals_ms", {})
    withheld = in_sample or foreign
    ours, theirs = measured["summary"]["routes"], predicted["summary"]["routes"]
    common = [route for route in ours if route in theirs]
    return {
        "label": f"IN-SAMPLE, {label}".rstrip(", ") if in_sample else label or "no label",
        "in_sample": in_sample,
        "foreign": foreign,
        "remarks": list(twin.get("remarks", ())),
        "calibration": dict(calibration or {}),
        "run": "twin",
        "window": "steady",
        "routes": {route: _route(ours[route]["steady"], theirs[route]["steady"], withheld, intervals.get(route, {}))
                   for route in common},
        "cpu": _cpu(measured, predicted, withheld),
        "delivery": _pairs(measured["summary"]["delivery"], predicted["summary"]["delivery"], withheld),
    }


def _route(ours: Mapping[str, Any], theirs: Mapping[str, Any], withheld: bool,
           intervals: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    scored: dict[str, dict[str, Any]] = {}
    for name in SCORED:
        enough = histogram.enough(ours["ok"], name) and histogram.enough(theirs["ok"], name)
        pair = _pair(ours["response_ms"][name], theirs["response_ms"][name], withheld)
        scored[name] = {**pair, "error": pair["error"] if enough else None}
        if name in intervals:
            scored[name]["interval"] = list(intervals[name])
    return {"n": ours["ok"], "n_predicted": theirs["ok"], "response_ms": scored}


def _pairs(ours: Mapping[str, Any], theirs: Mapping[str, Any], withheld: bool) -> dict[str, Any]:
    names = ("p50_s", "p95_s", "p99_s")
    return {name: _pair(ours.get(name), theirs.get(name), withheld) for name in names}


def _cpu(measured: Mapping[str, Any], predicted: Mapping[str, Any], withheld: bool) -> dict[str, Any]:
    """Return the core seconds of the nodes that are in both records."""
    ours, theirs = measured["summary"]["cpu"], predicted["summary"]["cpu"]
    return {node: _pair(ours[node]["core_s"], theirs[node]["core_s"], withheld) for node in ours if node in theirs}


def _pair(ours: float | None, theirs: float | None, withheld: bool) -> dict[str, float | None]:
    error = None if withheld or not ours or theirs is None else round(theirs / ours - 1, 4)
    return {"measured": ours, "predicted": theirs, "error": error}
