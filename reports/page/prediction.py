"""Prediction vs. measurement: the signed error per route and percentile, with the label of the calibration.

error = predicted / measured - 1: +0.10 means that the prediction was 10 % too high. A prediction whose
service times come from the scored run itself (in-sample) proves nothing, so it has no error. Neither has a
percentile with too few operations on either side.
"""

from __future__ import annotations

from collections.abc import Mapping
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
) -> dict[str, Any]:
    """Return the `prediction` block of two records, steady windows. `routes` has the routes of both records."""
    ours, theirs = measured["summary"]["routes"], predicted["summary"]["routes"]
    common = [route for route in ours if route in theirs]
    return {
        "label": f"IN-SAMPLE, {label}".rstrip(", ") if in_sample else label or "no label",
        "in_sample": in_sample,
        "calibration": dict(calibration or {}),
        "run": "twin",
        "window": "steady",
        "routes": {route: _route(ours[route]["steady"], theirs[route]["steady"], in_sample) for route in common},
        "cpu": _cpu(measured, predicted, in_sample),
        "delivery": _pairs(measured["summary"]["delivery"], predicted["summary"]["delivery"], in_sample),
    }


def _route(ours: Mapping[str, Any], theirs: Mapping[str, Any], in_sample: bool) -> dict[str, Any]:
    scored = {}
    for name in SCORED:
        enough = histogram.enough(ours["ok"], name) and histogram.enough(theirs["ok"], name)
        pair = _pair(ours["response_ms"][name], theirs["response_ms"][name], in_sample)
        scored[name] = pair if enough else {**pair, "error": None}
    return {"n": ours["ok"], "n_predicted": theirs["ok"], "response_ms": scored}


def _pairs(ours: Mapping[str, Any], theirs: Mapping[str, Any], in_sample: bool) -> dict[str, Any]:
    names = ("p50_s", "p95_s", "p99_s")
    return {name: _pair(ours.get(name), theirs.get(name), in_sample) for name in names}


def _cpu(measured: Mapping[str, Any], predicted: Mapping[str, Any], in_sample: bool) -> dict[str, Any]:
    """Return the core seconds of the nodes that are in both records."""
    ours, theirs = measured["summary"]["cpu"], predicted["summary"]["cpu"]
    return {node: _pair(ours[node]["core_s"], theirs[node]["core_s"], in_sample) for node in ours if node in theirs}


def _pair(ours: float | None, theirs: float | None, in_sample: bool) -> dict[str, float | None]:
    error = None if in_sample or not ours or theirs is None else round(theirs / ours - 1, 4)
    return {"measured": ours, "predicted": theirs, "error": error}
