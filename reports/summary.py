"""The `summary` block of record.json, computed from the tables of a run.

Counts are of operations (a retried operation counts once); `refused` is the part of `fail` that are refusals
configured by the scenario. Percentiles are nearest-rank over the OK operations of one route whose intended start
is inside the window. They describe the successful responses; verdicts use the percentiles of `over_due`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from reports import columns, delivery, facts, operations
from reports.stats import histogram

SOURCES = ("hit", "rebuild", "direct", "tail")
HOPS = ("wait", "network", "gateway", "service", "store")
HOME_ROUTE = "home"
ALL = "all"  # name of the row with the sum over all routes, for counts only


def summarize(run_facts: facts.Facts) -> dict[str, Any]:
    """Return the summary block: latencies in ms, CPU in core seconds, memory in MiB, delivery in s; None = unknown.

    CPU, memory and lag cover the load only, without samples taken after it.
    """
    history, recorded, effects, probes = run_facts.tables.values()
    series = recorded[(recorded["t_s"] >= 0) & (recorded["t_s"] < run_facts.windows.load_s)]
    done = run_facts.operations
    tape = plan(run_facts, done)
    return {
        "routes": routes(done, tape, run_facts.windows),
        "totals": _totals(done, tape, run_facts.windows),
        "delivery": delivery.measure(history, effects, probes, run_facts.windows.start_ns),
        "paths": paths(done, effects),
        "hops": hops(done, run_facts.windows),
        "cpu": cpu(series),
        "rss_mib": _peaks(series, "rss_mib"),
        "lag_max": _peaks(series, "lag"),
        "host_busy": _host_busy(series),
        "null_route": _null_route(history, run_facts.windows.start_ns),
        "pages": _pages(done),
        "generator": _generator(done, run_facts),
    }


def plan(run_facts: facts.Facts, done: pd.DataFrame) -> pd.DataFrame:
    """Return the planned operations (route, due_s), one row each; without a tape, those of the history."""
    if run_facts.planned is None:
        return done[["route", "due_s"]]
    due_s = (run_facts.planned["due_ns"] - run_facts.windows.start_ns) / operations.NS_PER_S
    return pd.DataFrame({"route": run_facts.planned["route"], "due_s": due_s})


COUNTED = ("due_s", "outcome", "was_sent", "refused", "attempts", "response_ms", "service_ms")
TIMED = ("route", "due_s", "outcome", "response_ms", "service_ms", "gateway_us", "service_us", "store_us")


def routes(done: pd.DataFrame, tape: pd.DataFrame, windows: facts.Windows) -> dict[str, Any]:
    """Return one entry per route, by name: counts and percentiles of the whole run, and in `steady` of steady time."""
    spans = operations.steady(windows)
    planned = tape["route"].value_counts()
    steady_planned = tape["route"][operations.inside(tape["due_s"].to_numpy(), spans)].value_counts()
    # Categories compare and copy as small integers: a sweep makes this table a thousand times.
    counted = _only(done, COUNTED).assign(outcome=done["outcome"].astype("category"))
    found = {str(name): counted.iloc[rows] for name, rows in done.groupby("route").indices.items()}
    blocks = {}
    for name in sorted({*planned.index, *found}):
        rows = found.get(name, counted.iloc[:0])
        steady = rows[operations.inside(rows["due_s"].to_numpy(), spans)]
        blocks[name] = {
            **block(rows, int(planned.get(name, 0))),
            "steady": block(steady, int(steady_planned.get(name, 0))),
        }
    return blocks


def _only(done: pd.DataFrame, names: tuple[str, ...]) -> pd.DataFrame:
    """Return those of the columns that there are: selecting rows copies every column of a table."""
    return done[[name for name in names if name in done]]


def block(done: pd.DataFrame, planned: int) -> dict[str, Any]:
    """Return counts and percentiles of the operations `done`; `planned`: how many were planned."""
    good = done[done["outcome"] == columns.OK]
    return {
        **_counts(done, planned),
        "response_ms": histogram.describe(good["response_ms"].dropna().to_numpy()),
        "service_ms": histogram.describe(good["service_ms"].dropna().to_numpy()),
    }


def _counts(done: pd.DataFrame, planned: int) -> dict[str, int]:
    outcomes = done["outcome"].value_counts()
    return {
        "planned": planned,
        "sent": int(done["was_sent"].sum()),
        "ok": int(outcomes.get(columns.OK, 0)),
        "fail": int(outcomes.get(columns.FAIL, 0)),
        "info": int(outcomes.get(columns.INFO, 0)),
        "refused": int(done["refused"].sum()) if "refused" in done else 0,
        "retried": int((done["attempts"] > 1).sum()),
    }


def _totals(done: pd.DataFrame, tape: pd.DataFrame, windows: facts.Windows) -> dict[str, Any]:
    spans = operations.steady(windows)
    steady = _only(done, COUNTED)[operations.inside(done["due_s"].to_numpy(), spans)]
    steady_planned = int(operations.inside(tape["due_s"].to_numpy(), spans).sum())
    length_s = max(windows.load_s, 1e-9)
    return {
        **_counts(done, len(tape)),
        "steady": _counts(steady, steady_planned),
        "offered_per_s": len(tape) / length_s,
        "ok_per_s": int((done["outcome"] == columns.OK).sum()) / length_s,
        "failures": _failures(done),
    }


def _failures(done: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the ten most frequent kinds of failure (route, outcome, status, error), most frequent first."""
    bad = done[done["outcome"] != columns.OK]
    keys = ["route", "outcome", "status", "error"]
    counted = bad.assign(error=bad["error"].str.slice(0, 120)).groupby(keys).size()
    top = counted.sort_values(ascending=False, kind="stable").head(10)
    return [
        {"route": str(route), "outcome": str(outcome), "status": int(status), "error": str(error), "n": int(n)}
        for (route, outcome, status, error), n in zip(top.index.tolist(), top.tolist(), strict=True)
    ]


def paths(done: pd.DataFrame, effects: pd.DataFrame) -> dict[str, int]:
    """Return the count of each path.

    push: tweets pushed. pull: reads that merged pulled authors. retry: retries of clients and workers. The others
    count reads by their source header.
    """
    found = done["source"].value_counts()
    sources = found.groupby(found.index.str.split(",", n=1).str[0]).sum()
    tweets = delivery.first_stamps(effects)
    retries = int((done["attempts"] - 1).sum()) + int(effects["retries"].sum())
    return {
        "push": int((tweets["path"] == "push").sum()),
        "pull": int(found[found.index.str.contains("pull", regex=False)].sum()),
        **{name: int(sources.get(name, 0)) for name in SOURCES},
        "retry": retries,
    }


def hops(done: pd.DataFrame, windows: facts.Windows) -> dict[str, Any]:
    """Return the latency of OK operations by hop and route in steady time: means in ms, which add up to the mean response.

    wait: intended start to send. network: outside the gateway (HAProxy and sockets included).
    """
    steady = _only(done, TIMED)[operations.inside(done["due_s"].to_numpy(), operations.steady(windows))]
    timed = steady[(steady["outcome"] == columns.OK) & steady["gateway_us"].notna() & steady["service_ms"].notna()]
    breakdown = {}
    for name, rows in timed.groupby("route"):
        gateway = rows["gateway_us"].to_numpy(dtype=np.float64) / 1000
        service = np.nan_to_num(rows["service_us"].to_numpy(dtype=np.float64) / 1000)
        store = np.nan_to_num(rows["store_us"].to_numpy(dtype=np.float64) / 1000)
        outside = rows["service_ms"].to_numpy() - gateway
        wait = (rows["response_ms"] - rows["service_ms"]).to_numpy()
        own = (wait, outside, gateway - service, service - store, store)
        means = {hop: round(max(0.0, float(part.mean())), 4) for hop, part in zip(HOPS, own, strict=True)}
        breakdown[str(name)] = {"n": len(rows), "mean_ms": means}
    return breakdown


def cpu(series: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Return the core seconds of each node over the run, and its share of the total; largest first."""
    rows = series[series["name"] == "cpu_cores"]
    core_s = (rows.groupby("node")["value"].sum() * window_s(rows)).sort_values(ascending=False)
    total = float(core_s.sum()) or 1.0
    return {
        str(node): {"core_s": round(float(value), 4), "share": round(float(value) / total, 4)}
        for node, value in core_s.items()
    }


def window_s(rows: pd.DataFrame) -> float:
    """Return the window length of these series rows, s: the median step of their times, or 1 s for fewer than two."""
    steps = np.diff(np.unique(rows["t_s"].to_numpy()))
    return float(np.median(steps)) if len(steps) else 1.0


def _peaks(series: pd.DataFrame, name: str) -> dict[str, float]:
    rows = series[(series["name"] == name) & series["value"].notna()]
    peaks = rows.groupby("node")["value"].max().sort_values(ascending=False)
    return {str(node): round(float(value), 3) for node, value in peaks.items()}


def _host_busy(series: pd.DataFrame) -> dict[str, float | None]:
    """Return the busy time of the host and of all processes, core seconds, over the windows that have both."""
    host = series[series["name"] == "host_busy_cores"].groupby("t_s")["value"].sum()
    processes = series[series["name"] == "cpu_cores"].groupby("t_s")["value"].sum()
    both = host.index.intersection(processes.index)
    if len(both) == 0:
        return {"host_core_s": None, "processes_core_s": None}
    step = window_s(series[series["name"] == "host_busy_cores"])
    return {
        "host_core_s": round(float(host[both].sum()) * step, 3),
        "processes_core_s": round(float(processes[both].sum()) * step, 3),
    }


def _null_route(history: pd.DataFrame, start_ns: int) -> dict[str, Any]:
    rows = history[["sent_ns", "done_ns"]][(history["route"] == columns.NULL_ROUTE) & (history["outcome"] == columns.OK)]
    took_ms = ((rows["done_ns"] - rows["sent_ns"]) / operations.NS_PER_MS).to_numpy(dtype=np.float64)
    return {"n": len(rows), "service_ms": histogram.describe(took_ms)}


def _pages(done: pd.DataFrame) -> dict[str, int]:
    """Count the first pages of home timelines that were read, and those of them that were empty."""
    first = done[["page_ids"]][(done["route"] == HOME_ROUTE) & (done["outcome"] == columns.OK) & (done["cursor_in"] == "")]
    sizes = first["page_ids"].map(lambda ids: 0 if ids is None else len(ids))
    return {"read": len(first), "empty": int((sizes == 0).sum())}


def _generator(done: pd.DataFrame, run_facts: facts.Facts) -> Mapping[str, Any]:
    lag = done["lag_ms"].dropna().to_numpy()
    return {
        "start_lag_ms_p99": None if len(lag) == 0 else histogram.percentile(lag, 0.99),
        "start_lag_ms_max": None if len(lag) == 0 else float(lag.max()),
        "cpu_share": run_facts.generator.cpu_share,
        "lost": run_facts.generator.lost,
        "smoke_ok": run_facts.generator.smoke_ok,
        "smoke_note": run_facts.generator.smoke_note,
    }
