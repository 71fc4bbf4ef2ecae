"""One replication of one point as a row of plain numbers: the same from the twin's facts and from a run's record.

Keys of a row:

    routes                route -> planned, ok, failed, mean_ms, p50_ms, p95_ms, p99_ms (OK operations, steady time)
    offered_per_s, ok_per_s, errors_percent          all routes, steady time
    cores                 process -> mean cores in steady time, background included
    utilization_percent   of the machine
    delivery_p99_s        None without tweets
    writes_per_tweet      timeline entries written for each tweet in steady time; None without tweets
    verdict               PASS, FAIL, UNKNOWN or VOID
    carried, broken       whether the rate is sustained by the criteria of `--find-capacity` (`tweetlab.load.capacity`), and
                          which criterion is not met; an objective that too few operations judge counts as met here
    trial                 the values of those criteria, where it does not
    unjudged              objectives that are unknown
    remarks               sentences about the range in which a prediction holds
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from reports import facts, operations, record, summary
from reports.judge import run_verdict
from reports.page.view import View
from tweetlab.load import capacity
from tweetlab.sweep import asked

Row = dict[str, Any]


def of_facts(run_facts: facts.Facts, remarks: Sequence[str] = ()) -> Row:
    """Return the row of a replication of the twin."""
    figures = summary.summarize(run_facts)
    judged = run_verdict.judge(run_facts, figures)
    document = {"summary": figures, "validity": judged.validity, "objectives": judged.objectives, "verdict": judged.verdict}
    tables = run_facts.tables
    return _row(document, run_facts.windows, tables["series"], tables["effects"], float(run_facts.platform["cores"]), remarks)


def of_run(run: record.Run) -> Row:
    """Return the row of a run on disk."""
    platform, host = run.document["platform"], run.document["host"]
    cores = float(platform.get("cores") or host.get("cores") or 1.0)
    return _row(run.document, View(run).windows, run.series, run.effects, cores, ())


def _row(document: Mapping[str, Any], windows: facts.Windows, series: pd.DataFrame, effects: pd.DataFrame, cores: float,
         remarks: Sequence[str]) -> Row:
    figures = document["summary"]
    spans = operations.steady(windows)
    steady_s = max(sum(span.length_s for span in spans), 1e-9)
    totals = figures["totals"]["steady"]
    refused = int(totals.get("refused", 0))
    offered = max(1, int(totals["planned"]) - refused)
    used = _mean_cores(series, spans, windows)
    trial = capacity.trial_of(document, offered / steady_s)
    judged = dataclasses.replace(trial, holds=all(one["verdict"].upper() != "FAIL" for one in document["objectives"]))
    return {
        "routes": {route: _route(block["steady"]) for route, block in figures["routes"].items()},
        "offered_per_s": round(int(totals["planned"]) / steady_s, 4),
        "ok_per_s": round(int(totals["ok"]) / steady_s, 4),
        "errors_percent": round(100.0 * (int(totals["fail"]) + int(totals["info"]) - refused) / offered, 5),
        "cores": {node: round(value, 6) for node, value in used.items()},
        "utilization_percent": round(100.0 * sum(used.values()) / cores, 4),
        "delivery_p99_s": figures["delivery"]["p99_s"],
        "writes_per_tweet": _writes_per_tweet(effects, spans, windows.start_ns),
        "verdict": document["verdict"],
        "carried": judged.carried,
        "broken": judged.broken,
        "unjudged": [one["text"] for one in document["objectives"] if one["verdict"].upper() == "UNKNOWN"],
        "trial": {name: value for name, value in dataclasses.asdict(trial).items() if name != "rate_per_s"},
        "remarks": list(remarks),
    }


def _route(block: Mapping[str, Any]) -> dict[str, Any]:
    response = block["response_ms"]
    times = {f"{name}_ms": None if response[name] is None else round(float(response[name]), 4) for name in asked.STATISTICS}
    return {"planned": int(block["planned"]), "ok": int(block["ok"]), "failed": int(block["fail"]) + int(block["info"]), **times}


def _mean_cores(series: pd.DataFrame, spans: list[operations.Span], windows: facts.Windows) -> dict[str, float]:
    rows = series[series["name"] == "cpu_cores"]
    inside = operations.inside(rows["t_s"].to_numpy(dtype=float), spans)
    rows = rows[inside] if inside.any() else rows[(rows["t_s"] >= 0) & (rows["t_s"] < windows.load_s)]
    return {str(node): float(value) for node, value in rows.groupby("node")["value"].mean().items() if np.isfinite(value)}


def _writes_per_tweet(effects: pd.DataFrame, spans: list[operations.Span], start_ns: int) -> float | None:
    """Return the timeline entries written per tweet that the fan-out handled, pulled tweets included."""
    tweets = effects[(effects["group"] == "fanout") & (effects["kind"] == "new_tweet")]
    tweets = tweets[operations.inside((tweets["at_ns"].to_numpy() - start_ns) / 1e9, spans)]
    if not len(tweets):
        return None
    pushed = tweets.loc[tweets["path"] == "push", "targets"].sum()
    return round(float(pushed) / max(tweets["event"].nunique(), 1), 4)
