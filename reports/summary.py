"""From the rows of a run to its numbers: the `summary` block of record.json.

Counts are operations (an operation that was retried is one); `refused` says how many of `fail` were refusals
that the scenario configures. Percentiles are nearest-rank over the OK operations of one route whose intended
start lies inside the window: they describe the answers that users had, and no verdict rests on them
(`over_due` says what does).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from reports import columns, delivery, facts, operations
from reports.judge import refusals
from reports.stats import histogram

SOURCES = ("hit", "rebuild", "direct", "tail")
HOPS = ("wait", "network", "gateway", "service", "store")
HOME_ROUTE = "home"
ALL = "all"  # name of the row that pools the routes, for counts only


def summarise(given: facts.Facts) -> dict[str, Any]:
    """The summary block. Latencies ms, CPU core seconds, memory MiB, delivery s; None where nothing is known.

    CPU, memory and lag are those of the load; what the series hold of the time after it is left out.
    """
    history = columns.conform("history", given.history)
    told = columns.conform("series", given.series)
    series = told[(told["t_s"] >= 0) & (told["t_s"] < given.windows.load_s)]
    effects = columns.conform("effects", given.effects)
    probes = columns.conform("probes", given.probes)
    done = operations.operations(history, given.windows.start_ns)
    done = done.assign(refused=refusals.mask(done, given.scenario_doc))
    tape = plan(given, done)
    return {
        "routes": routes(done, tape, given.windows),
        "totals": _totals(done, tape, given.windows),
        "delivery": delivery.measure(history, effects, probes, given.windows.start_ns),
        "paths": paths(done, effects),
        "hops": hops(done, given.windows),
        "cpu": cpu(series),
        "rss_mib": _peaks(series, "rss_mib"),
        "lag_max": _peaks(series, "lag"),
        "host_busy": _host_busy(series),
        "null_route": _null_route(history, given.windows.start_ns),
        "pages": _pages(done),
        "generator": _generator(done, given),
    }


def plan(given: facts.Facts, done: pd.DataFrame) -> pd.DataFrame:
    """What was planned: route and due_s, one row an operation; without a tape, what the history holds."""
    if given.planned is None:
        return done[["route", "due_s"]]
    due_s = (given.planned["due_ns"] - given.windows.start_ns) / operations.NS_PER_S
    return pd.DataFrame({"route": given.planned["route"], "due_s": due_s})


def routes(done: pd.DataFrame, tape: pd.DataFrame, windows: facts.Windows) -> dict[str, Any]:
    """One entry a route, by name: counts and percentiles of the whole run, and `steady` the same again."""
    names = sorted(set(tape["route"]) | set(done["route"]))
    spans = operations.steady(windows)
    found = {}
    for name in names:
        mine, planned = done[done["route"] == name], tape[tape["route"] == name]
        calm = mine[operations.inside(mine["due_s"].to_numpy(), spans)]
        calm_plan = planned[operations.inside(planned["due_s"].to_numpy(), spans)]
        found[name] = {**block(mine, len(planned)), "steady": block(calm, len(calm_plan))}
    return found


def block(done: pd.DataFrame, planned: int) -> dict[str, Any]:
    """Counts and percentiles of the operations `done`."""
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
    calm = done[operations.inside(done["due_s"].to_numpy(), spans)]
    calm_planned = int(operations.inside(tape["due_s"].to_numpy(), spans).sum())
    length_s = max(windows.load_s, 1e-9)
    return {
        **_counts(done, len(tape)),
        "steady": _counts(calm, calm_planned),
        "offered_per_s": len(tape) / length_s,
        "ok_per_s": int((done["outcome"] == columns.OK).sum()) / length_s,
        "failures": _failures(done),
    }


def _failures(done: pd.DataFrame) -> list[dict[str, Any]]:
    """Why operations were not ok: the ten commonest (route, outcome, status, error), most frequent first."""
    bad = done[done["outcome"] != columns.OK]
    keys = ["route", "outcome", "status", "error"]
    counted = bad.assign(error=bad["error"].str.slice(0, 120)).groupby(keys).size()
    top = counted.sort_values(ascending=False, kind="stable").head(10)
    return [
        {"route": str(route), "outcome": str(outcome), "status": int(status), "error": str(why), "n": int(n)}
        for (route, outcome, status, why), n in zip(top.index.tolist(), top.tolist(), strict=True)
    ]


def paths(done: pd.DataFrame, effects: pd.DataFrame) -> dict[str, int]:
    """How often each path was taken. push: tweets pushed; pull: reads that merged pulled authors; retry: both
    the client's repeats and the workers'. The others count reads by their source header."""
    parts = done["source"].str.split(",", n=1).str[0].value_counts()
    tweets = delivery.first_stamps(effects)
    retries = int((done["attempts"] - 1).sum()) + int(effects["retries"].sum())
    return {
        "push": int((tweets["path"] == "push").sum()),
        "pull": int(done["source"].str.contains("pull", regex=False).sum()),
        **{name: int(parts.get(name, 0)) for name in SOURCES},
        "retry": retries,
    }


def hops(done: pd.DataFrame, windows: facts.Windows) -> dict[str, Any]:
    """Where the time of an OK operation went, steady part, by route; means in ms, which add up to the mean
    response. wait: intended start to send; network: outside the gateway (HAProxy and sockets included)."""
    calm = done[operations.inside(done["due_s"].to_numpy(), operations.steady(windows))]
    told = calm[(calm["outcome"] == columns.OK) & calm["gateway_us"].notna() & calm["service_ms"].notna()]
    found = {}
    for name, rows in told.groupby("route"):
        gateway = rows["gateway_us"].to_numpy(dtype=np.float64) / 1000
        service = np.nan_to_num(rows["service_us"].to_numpy(dtype=np.float64) / 1000)
        store = np.nan_to_num(rows["store_us"].to_numpy(dtype=np.float64) / 1000)
        outside = rows["service_ms"].to_numpy() - gateway
        wait = (rows["response_ms"] - rows["service_ms"]).to_numpy()
        own = (wait, outside, gateway - service, service - store, store)
        means = {hop: round(max(0.0, float(part.mean())), 4) for hop, part in zip(HOPS, own, strict=True)}
        found[str(name)] = {"n": len(rows), "mean_ms": means}
    return found


def cpu(series: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Core seconds of each node over the run, and its share of all of them; largest first."""
    rows = series[series["name"] == "cpu_cores"]
    core_s = (rows.groupby("node")["value"].sum() * window_s(rows)).sort_values(ascending=False)
    total = float(core_s.sum()) or 1.0
    return {
        str(node): {"core_s": round(float(value), 4), "share": round(float(value) / total, 4)}
        for node, value in core_s.items()
    }


def window_s(rows: pd.DataFrame) -> float:
    """The length of a window of these series rows: the median step between their times; 1 s of fewer than two."""
    steps = np.diff(np.unique(rows["t_s"].to_numpy()))
    return float(np.median(steps)) if len(steps) else 1.0


def _peaks(series: pd.DataFrame, name: str) -> dict[str, float]:
    rows = series[(series["name"] == name) & series["value"].notna()]
    peaks = rows.groupby("node")["value"].max().sort_values(ascending=False)
    return {str(node): round(float(value), 3) for node, value in peaks.items()}


def _host_busy(series: pd.DataFrame) -> dict[str, float | None]:
    """Busy time of the host beside the sum over processes, core seconds, over the windows that have both."""
    busy = series[series["name"] == "host_busy_cores"].groupby("t_s")["value"].sum()
    ours = series[series["name"] == "cpu_cores"].groupby("t_s")["value"].sum()
    both = busy.index.intersection(ours.index)
    if len(both) == 0:
        return {"host_core_s": None, "processes_core_s": None}
    step = window_s(series[series["name"] == "host_busy_cores"])
    return {
        "host_core_s": round(float(busy[both].sum()) * step, 3),
        "processes_core_s": round(float(ours[both].sum()) * step, 3),
    }


def _null_route(history: pd.DataFrame, start_ns: int) -> dict[str, Any]:
    rows = history[(history["route"] == columns.NULL_ROUTE) & (history["outcome"] == columns.OK)]
    took_ms = ((rows["done_ns"] - rows["sent_ns"]) / operations.NS_PER_MS).to_numpy(dtype=np.float64)
    return {"n": len(rows), "service_ms": histogram.describe(took_ms)}


def _pages(done: pd.DataFrame) -> dict[str, int]:
    """First pages of home timelines that were read, and how many of them were empty."""
    first = done[(done["route"] == HOME_ROUTE) & (done["outcome"] == columns.OK) & (done["cursor_in"] == "")]
    sizes = first["page_ids"].map(lambda ids: 0 if ids is None else len(ids))
    return {"read": len(first), "empty": int((sizes == 0).sum())}


def _generator(done: pd.DataFrame, given: facts.Facts) -> Mapping[str, Any]:
    lag = done["lag_ms"].dropna().to_numpy()
    return {
        "start_lag_ms_p99": None if len(lag) == 0 else histogram.percentile(lag, 0.99),
        "start_lag_ms_max": None if len(lag) == 0 else float(lag.max()),
        "cpu_share": given.generator.cpu_share,
        "lost": given.generator.lost,
        "smoke_ok": given.generator.smoke_ok,
        "smoke_note": given.generator.smoke_note,
    }
