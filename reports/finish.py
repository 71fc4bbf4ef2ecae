"""Turns the facts of a finished run into its folder: summarize, judge, write, render."""

from __future__ import annotations

import dataclasses
import math
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from reports import columns, facts, operations, record, schema, summary
from reports import series as derived_series
from reports.judge import run_verdict
from reports.page import prediction, render
from reports.stats import histogram

_PUNCTUATION = re.compile(r"[-:]|[.]\d+")
INTERVALS = 24  # lines in each histogram log, at least 5 s per line


def finish(
    runs: Path,
    given: facts.Facts,
    twin: facts.Facts | None = None,
    label: str = "",
    *,
    in_sample: bool = False,
    calibration: Mapping[str, Any] | None = None,
) -> record.Run:
    """Write the run to `runs`, with its twin and its report. Return the run.

    `label`: what the prediction is based on, for example 'quick calibration, 1 load'. `in_sample`: the
    service times of the prediction come from this run, so no prediction error is computed. Interrupted and
    void runs are written, too.
    """
    run = record.write(runs, parts(given))
    if twin is not None:
        return add_twin(run, twin, label, in_sample=in_sample, calibration=calibration)
    render.write(run)
    return run


def add_twin(
    run: record.Run,
    twin: facts.Facts,
    label: str,
    *,
    in_sample: bool = False,
    calibration: Mapping[str, Any] | None = None,
) -> record.Run:
    """Write the twin's run to <run>/twin and the prediction to the run's record, and render the report.

    Return the amended run. See `finish` for the parameters.
    """
    predicted = record.attach_twin(run, parts(twin))
    block = prediction.block(
        run.document, predicted.document, label, in_sample=in_sample, calibration=calibration
    )
    amended = record.amend(run, prediction=block)
    render.write(amended)
    return amended


def parts(given: facts.Facts) -> record.Parts:
    """Judge one run and return the contents of its files."""
    history = columns.conform("history", given.history)
    done = operations.operations(history, given.windows.start_ns)
    figures = summary.summarize(given)
    recorded = columns.conform("series", given.series)
    complete = derived_series.complete(recorded, done, summary.plan(given, done), given.windows)
    judged = run_verdict.judge(given, figures)
    return record.Parts(
        document=finite(_document(given, figures, judged)),
        history=history,
        series=complete,
        effects=columns.conform("effects", given.effects),
        probes=columns.conform("probes", given.probes),
        faults=[finite(dict(entry)) for entry in given.faults],
        invariants=[finite(run_verdict.finding(one, shown=None)) for one in given.invariants],
        histograms=_histograms(done, given),
        logs=given.logs,
    )


def _document(given: facts.Facts, figures: Mapping[str, Any], judged: run_verdict.Judgment) -> dict[str, Any]:
    started_at = given.started_at or datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "schema_version": schema.SCHEMA_VERSION,
        "kind": given.kind,
        "run_id": f"{given.scenario}/{_PUNCTUATION.sub('', started_at)}",
        "scenario": {"name": given.scenario, **given.scenario_doc},
        "seed": given.seed,
        "commit": given.commit,
        "started_at": started_at,
        "command": given.command,
        "group": given.group,
        "host": dict(given.host),
        "versions": dict(given.versions),
        "platform": dict(given.platform),
        "population": dict(given.population),
        "clock": {
            "start_monotonic_ns": given.windows.start_ns,
            "start_wall_ms": given.start_wall_ms or int(time.time() * 1000),
        },
        "windows": {
            "warm_up_s": given.windows.warm_up_s,
            "load_s": given.windows.load_s,
            "faults": [dataclasses.asdict(one) for one in given.windows.faults],
            "stages": [dataclasses.asdict(one) for one in given.windows.stages],
        },
        "summary": dict(figures),
        "validity": judged.validity,
        "objectives": judged.objectives,
        "invariants": judged.invariants,
        "recovery": judged.recovery,
        "verdict": judged.verdict,
        "exit_code": judged.exit_code,
        "decided_by": judged.decided_by,
        "prediction": None,
    }


def _histograms(done: pd.DataFrame, given: facts.Facts) -> dict[str, str]:
    length_s = max(5.0, math.ceil(given.windows.load_s / INTERVALS))
    good = done[done["outcome"] == columns.OK]
    logs = {}
    for route, rows in good.groupby("route"):
        for kind in ("response", "service"):
            intervals = _intervals(rows["due_s"].to_numpy(), rows[f"{kind}_ms"].to_numpy() * 1000, length_s)
            logs[f"{route}.{kind}"] = histogram.log_text(intervals, given.start_wall_ms, f"{route}.{kind}")
    return logs


def _intervals(due_s: histogram.Floats, latencies_us: histogram.Floats, length_s: float) -> list[histogram.Interval]:
    known = ~np.isnan(latencies_us)
    due_s, latencies_us = due_s[known], latencies_us[known]
    number = np.floor(due_s / length_s).astype(np.int64)
    return [
        histogram.Interval(float(k) * length_s, length_s, latencies_us[number == k]) for k in np.unique(number)
    ]


def finite(value: Any) -> Any:
    """Return `value` as plain JSON: NaN and infinity become None, numpy scalars numbers, tuples lists, paths text."""
    if isinstance(value, Mapping):
        return {str(key): finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [finite(each) for each in value]
    if hasattr(value, "item") and not isinstance(value, str):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value
