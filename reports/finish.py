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

from reports import columns, facts, record, schema, summary
from reports import series as derived_series
from reports.judge import run_verdict
from reports.page import prediction, render
from reports.stats import histogram

_PUNCTUATION = re.compile(r"[-:]|[.]\d+")
INTERVALS = 24  # lines in each histogram log, at least 5 s per line


def finish(
    runs: Path,
    run_facts: facts.Facts,
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
    run = record.write(runs, parts(run_facts))
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
    foreign: bool = False,
) -> record.Run:
    """Write the twin's run to <run>/twin and the prediction to the run's record, and render the report.

    Return the amended run. See `finish` for the parameters. `foreign`: the calibration is of another machine.
    """
    predicted = record.attach_twin(run, parts(twin))
    block = prediction.block(
        run.document, predicted.document, label, in_sample=in_sample, calibration=calibration, foreign=foreign
    )
    amended = record.amend(run, prediction=block)
    render.write(amended)
    return amended


def parts(run_facts: facts.Facts) -> record.Parts:
    """Judge one run and return the contents of its files."""
    tables, done = run_facts.tables, run_facts.operations
    figures = summary.summarize(run_facts)
    complete = derived_series.complete(tables["series"], done, summary.plan(run_facts, done), run_facts.windows)
    judged = run_verdict.judge(run_facts, figures)
    return record.Parts(
        document=finite(_document(run_facts, figures, judged)),
        history=tables["history"],
        series=complete,
        effects=tables["effects"],
        probes=tables["probes"],
        faults=[finite(dict(entry)) for entry in run_facts.faults],
        invariants=[finite(run_verdict.finding(one, shown=None)) for one in run_facts.invariants],
        histograms=_histograms(done, run_facts),
        logs=run_facts.logs,
    )


def _document(run_facts: facts.Facts, figures: Mapping[str, Any], judged: run_verdict.Judgment) -> dict[str, Any]:
    started_at = run_facts.started_at or datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "schema_version": schema.SCHEMA_VERSION,
        "kind": run_facts.kind,
        "run_id": f"{run_facts.scenario}/{_PUNCTUATION.sub('', started_at)}",
        "scenario": {"name": run_facts.scenario, **run_facts.scenario_doc},
        "seed": run_facts.seed,
        "commit": run_facts.commit,
        "started_at": started_at,
        "command": run_facts.command,
        "group": run_facts.group,
        "host": dict(run_facts.host),
        "versions": dict(run_facts.versions),
        "platform": dict(run_facts.platform),
        "population": dict(run_facts.population),
        "clock": {
            "start_monotonic_ns": run_facts.windows.start_ns,
            "start_wall_ms": run_facts.start_wall_ms or int(time.time() * 1000),
        },
        "windows": {
            "warm_up_s": run_facts.windows.warm_up_s,
            "load_s": run_facts.windows.load_s,
            "faults": [dataclasses.asdict(one) for one in run_facts.windows.faults],
            "stages": [dataclasses.asdict(one) for one in run_facts.windows.stages],
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


def _histograms(done: pd.DataFrame, run_facts: facts.Facts) -> dict[str, str]:
    length_s = max(5.0, math.ceil(run_facts.windows.load_s / INTERVALS))
    good = done[done["outcome"] == columns.OK]
    logs = {}
    for route, rows in good.groupby("route"):
        for kind in ("response", "service"):
            intervals = _intervals(rows["due_s"].to_numpy(), rows[f"{kind}_ms"].to_numpy() * 1000, length_s)
            logs[f"{route}.{kind}"] = histogram.log_text(intervals, run_facts.start_wall_ms, f"{route}.{kind}")
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
