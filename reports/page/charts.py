"""The figures of the page: one function per figure, registered in CHARTS.

Each function takes a View and returns a Figure, or None if the run has no data for it. To add one, write the
function and add a row to CHARTS. Figures over time share an axis in seconds from the start of the load, with
warm-up and faults shaded; a dashed line is the prediction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from reports.page import distribution_charts
from reports.page.svg import LEFT, LETTER, RIGHT, WIDTH, Canvas, Floats, Scale, millis, number
from reports.page.view import View

SHOWN_NODES = 7  # processes with a color of their own; the rest share one band
SHOWN_ROUTES = 5
GAP_S = 2.5  # seconds without a value that break a line
FAULT_ROW = 12  # height of a row of fault labels, in units
LABEL_GAP = 4.0  # units between two labels of a row


@dataclass(frozen=True)
class Figure:
    """A drawn figure. `caption`: its main result in one sentence."""

    key: str
    title: str
    caption: str
    svg: str


def latency(view: View) -> Figure | None:
    """Draw median and p99 of the headline route per second, with its objective and the prediction."""
    route = view.headline
    t_s, p99 = view.series("p99", route)
    if len(t_s) == 0:
        return None
    _, p50 = view.series("p50", route)
    bounds = _bounds_ms(view, route)
    twin_t, twin_p99 = view.twin.series("p99", route) if view.twin else (t_s[:0], p99[:0])
    worst = int(np.argmax(p99))
    highest = millis(float(p99[worst]))
    caption = f"Highest p99 of the OK operations: {highest}, at {t_s[worst]:.0f} s."
    description = f"p50 and p99 response time of OK operations per second. {caption}"
    canvas = Canvas(f"Latency of {route} over time", description, "latency")
    entries = [("line c1", "p50, OK only"), ("line c2", "p99, OK only")]
    entries += [("line c2 model", "p99, predicted")] if len(twin_t) else []
    entries += [("line bound", f"objective {millis(bounds[0])}")] if bounds else []
    canvas.legend(entries)
    x, y = time_axis(view, canvas), latency_axis(canvas, [p50, p99, twin_p99, np.array(bounds)])
    backdrop(view, canvas, x)
    canvas.axes(x, y, "seconds", "response", millis)
    canvas.path(x(t_s + 0.5), y(p50), "line c1", _gap(x))
    canvas.path(x(twin_t + 0.5), y(twin_p99), "line c2 model", _gap(x))
    canvas.path(x(t_s + 0.5), y(p99), "line c2", _gap(x))
    for bound in bounds[:1]:
        canvas.line(LEFT, y.at(bound), WIDTH - RIGHT, y.at(bound), "line bound")
    return Figure("latency", canvas.title, caption, canvas.svg())


def routes(view: View) -> Figure | None:
    """Draw the p99 of the busiest routes per second."""
    shown = [name for name in view.routes[:SHOWN_ROUTES] if len(view.series("p99", name)[0])]
    if len(shown) < 2:
        return None
    lines = [view.series("p99", name) for name in shown]
    steady = view.document["summary"]["routes"]
    slowest = max(shown, key=lambda name: steady[name]["steady"]["response_ms"]["p50"] or 0.0)
    caption = f"Highest median of these {len(shown)} routes in steady time, OK only: {slowest}."
    canvas = Canvas("p99 by route over time, OK only", f"p99 response time per second. {caption}", "routes")
    canvas.legend([(f"line c{i + 1}", name) for i, name in enumerate(shown)])
    x, y = time_axis(view, canvas), latency_axis(canvas, [values for _, values in lines])
    backdrop(view, canvas, x)
    canvas.axes(x, y, "seconds", "response p99", millis)
    for i, (t_s, values) in enumerate(lines):
        canvas.path(x(t_s + 0.5), y(values), f"line thin c{i + 1}", _gap(x))
    return Figure("routes", canvas.title, caption, canvas.svg())


def rates(view: View) -> Figure | None:
    """Draw planned, sent, OK and failed operations per second."""
    t_s, planned = view.series("rate.planned")
    if len(t_s) == 0:
        return None
    _, sent = view.series("rate.sent")
    _, good = view.series("rate.ok")
    bad = view.series("rate.fail")[1] + view.series("rate.info")[1]
    has_refusals = view.document["summary"]["totals"].get("refused")
    bad_label = "failed, refused or unknown" if has_refusals else "failed or unknown"
    sums = [int(each.sum()) for each in (planned, sent, good, bad)]
    caption = f"{sums[0]} planned, {sums[1]} sent, {sums[2]} ok, {sums[3]} {bad_label}."
    canvas = Canvas("Throughput over time", caption, "rates")
    canvas.legend([("line planned", "planned"), ("line c1", "sent"), ("line c3", "ok"), ("line bad", bad_label)])
    x, y = time_axis(view, canvas), _linear(canvas, [planned, sent])
    backdrop(view, canvas, x)
    canvas.axes(x, y, "seconds", "operations per second")
    middle = x(t_s + 0.5)
    canvas.path(middle, y(planned), "line planned")
    canvas.path(middle, y(sent), "line thin c1")
    canvas.path(middle, y(good), "line c3")
    canvas.path(middle, y(bad), "line bad")
    return Figure("rates", canvas.title, caption, canvas.svg())


def cpu(view: View) -> Figure | None:
    """Draw the cores used by each process, stacked, with the machine's cores as a line."""
    wide = view.by_node("cpu_cores")
    if wide.empty:
        return None
    names = [str(name) for name in wide.columns[:SHOWN_NODES]]
    bands = [wide[name].to_numpy() for name in names]
    if len(wide.columns) > SHOWN_NODES:
        names.append(f"{len(wide.columns) - SHOWN_NODES} others")
        bands.append(wide.iloc[:, SHOWN_NODES:].sum(axis=1).to_numpy())
    tops = np.cumsum(bands, axis=0)
    host_t, host = view.series("host_busy_cores")
    cores = float(view.document["host"].get("cores") or 0)
    caption = f"Mean of all processes: {float(np.mean(tops[-1])):.2f} cores; {names[0]} used the most."
    canvas = Canvas("CPU by process", caption, "cpu")
    entries = [(f"area c{i + 1}", name) for i, name in enumerate(names)]
    canvas.legend([*entries, *([("line host", "host busy")] if len(host_t) else [])])
    x = time_axis(view, canvas)
    y = _linear(canvas, [tops[-1], host, np.array([cores])])
    t_s = wide.index.to_numpy(dtype=np.float64)
    canvas.axes(x, y, "seconds", "cores")
    # Painted from the highest band down, each to the bottom: one edge per band instead of two.
    for i in reversed(range(len(names))):
        canvas.area(x(t_s + 0.5), y(tops[i]), f"area c{i + 1}")
    canvas.path(x(host_t + 0.5), y(host), "line host")
    if cores:
        canvas.line(LEFT, y.at(cores), WIDTH - RIGHT, y.at(cores), "line bound")
    backdrop(view, canvas, x)
    return Figure("cpu", canvas.title, caption, canvas.svg())


def lag(view: View) -> Figure | None:
    """Draw the lag of each consumer group."""
    wide = view.by_node("lag")
    if wide.empty:
        return None
    shown = wide.iloc[:, :SHOWN_ROUTES]
    peak = shown.max()
    caption = f"Highest lag: {peak.idxmax()}, {number(float(peak.max()))} events."
    canvas = Canvas("Consumer lag", caption, "lag")
    canvas.legend([(f"line c{i + 1}", str(name)) for i, name in enumerate(shown.columns)])
    x, y = time_axis(view, canvas), _linear(canvas, [shown.to_numpy().ravel()])
    backdrop(view, canvas, x)
    canvas.axes(x, y, "seconds", "events")
    t_s = shown.index.to_numpy(dtype=np.float64)
    for i, name in enumerate(shown.columns):
        canvas.path(x(t_s + 0.5), y(shown[name].to_numpy()), f"line c{i + 1}")
    return Figure("lag", canvas.title, caption, canvas.svg())


def flight(view: View) -> Figure | None:
    """Draw the operations in flight: a number that rises under constant load indicates an overload."""
    t_s, values = view.series("in_flight")
    if len(t_s) == 0 or float(values.max()) <= 0:
        return None
    caption = f"Peak: {number(float(values.max()))} operations in flight (mean over one second)."
    canvas = Canvas("Operations in flight", caption, "flight")
    twin_t, twin = view.twin.series("in_flight") if view.twin else (t_s[:0], values[:0])
    canvas.legend([("line c1", "in flight"), *([("line c1 model", "predicted")] if len(twin_t) else [])])
    x, y = time_axis(view, canvas), _linear(canvas, [values, twin])
    backdrop(view, canvas, x)
    canvas.axes(x, y, "seconds", "operations")
    canvas.path(x(twin_t + 0.5), y(twin), "line c1 model")
    canvas.path(x(t_s + 0.5), y(values), "line c1")
    return Figure("flight", canvas.title, caption, canvas.svg())


def instances(view: View) -> Figure | None:
    """Draw the instances of each scaled service over the load; both axes start at zero, the peak load is at the top."""
    wide = view.by_node("instances")
    wide = wide[[name for name in wide.columns if wide[name].max() > wide[name].min()]] if len(wide) else wide
    load_t, load = view.series("rate.sent")
    if wide.empty or len(load_t) == 0 or float(load.max()) <= 0:
        return None
    shown = wide.iloc[:, :SHOWN_ROUTES]
    most, peak = float(shown.to_numpy().max()), float(load.max())
    widest = shown.max().idxmax()
    before = f"{shown[widest].iloc[0]:.0f}"
    caption = f"{widest} scaled from {before} to {most:.0f} instances; peak load {number(peak)}/s."
    twin = view.twin.by_node("instances") if view.twin else shown.iloc[:0, :0]
    canvas = Canvas("Instances over load", caption, "instances")
    canvas.legend([("area c8", f"load, peak {number(peak)}/s"),
                   *[(f"line c{i + 1}", str(name)) for i, name in enumerate(shown.columns)],
                   *([("line c1 model", "predicted")] if len(twin) else [])])
    x, y = time_axis(view, canvas), _linear(canvas, [np.array([most]), twin.to_numpy().ravel()])
    canvas.area(x(load_t + 0.5), y(load / peak * most), "area c8")
    backdrop(view, canvas, x)
    canvas.axes(x, y, "seconds", "instances")
    for i, name in enumerate(shown.columns):
        if name in twin:
            _stairs(canvas, x, y, twin[name], f"line c{i + 1} model")
        _stairs(canvas, x, y, shown[name], f"line c{i + 1}")
    return Figure("instances", canvas.title, caption, canvas.svg())


def _stairs(canvas: Canvas, x: Scale, y: Scale, counts: pd.Series[float], drawn: str) -> None:
    """Draw a step line: each value holds until the next one."""
    t_s = np.repeat(counts.index.to_numpy(dtype=np.float64), 2)
    values: Floats = np.repeat(counts.to_numpy(dtype=np.float64), 2)
    canvas.path(x(t_s[1:]), y(values[:-1]), drawn)


def _drawn(shape: Callable[[View], tuple[Canvas, str] | None]) -> Callable[[View], Figure | None]:
    """Return a chart function from a function of `distribution_charts`."""

    def figure(view: View) -> Figure | None:
        drawn = shape(view)
        if drawn is None:
            return None
        canvas, caption = drawn
        return Figure(canvas.key, canvas.title, caption, canvas.svg())

    return figure


CHARTS: dict[str, Callable[[View], Figure | None]] = {
    "latency": latency,
    "rates": rates,
    "instances": instances,
    "delivery": _drawn(distribution_charts.delivered),
    "cpu": cpu,
    "lag": lag,
    "flight": flight,
    "spectrum": _drawn(distribution_charts.spectrum),
    "heatmap": _drawn(distribution_charts.heatmap),
    "routes": routes,
    "hops": _drawn(distribution_charts.hops),
}
MAIN = 6  # figures before any table, the golden signals over time: latency, traffic, errors, saturation


def draw(view: View) -> list[Figure]:
    """Return every figure that the run has data for, in the order of the page."""
    return [figure for chart in CHARTS.values() if (figure := chart(view)) is not None]


def time_axis(view: View, canvas: Canvas) -> Scale:
    """Return the scale in seconds from the start of the load. Reserve rows above the plot for fault labels."""
    scale = Scale(0.0, max(view.windows.load_s, 1.0), LEFT, WIDTH - RIGHT)
    if view.windows.faults:
        canvas.top += FAULT_ROW * (1 + max(label.row for label in fault_labels(view, scale)))
    return scale


@dataclass(frozen=True)
class FaultLabel:
    """Position of a fault's label: `x` and `anchor` as in SVG; `row` 0 is directly above the plot."""

    words: str
    x: float
    anchor: str
    row: int


def fault_labels(view: View, x: Scale) -> list[FaultLabel]:
    """Return one label per fault, ordered by time; a label that would overlap another moves one row up."""
    ends: list[float] = []  # of the last label of each row
    labels = []
    for one in view.windows.faults:
        start, width = x.at(one.start_s), LETTER * len(one.kind)
        right = start + width > WIDTH - RIGHT
        low = start - width if right else start
        row = next((row for row, end in enumerate(ends) if end <= low), len(ends))
        ends[row:row + 1] = [low + width + LABEL_GAP]
        labels.append(FaultLabel(one.kind, start, "end" if right else "start", row))
    return labels


def latency_axis(canvas: Canvas, values: list[Floats]) -> Scale:
    """Return a scale in milliseconds; logarithmic if the values span more than a factor of 20."""
    joined = np.concatenate([part[(part > 0) & ~np.isnan(part)] for part in values])
    low, high = (float(joined.min()), float(joined.max()) * 1.15) if len(joined) else (1.0, 10.0)
    if high / low > 20:
        return Scale(low * 0.8, high, canvas.plot_bottom, canvas.top, log=True)
    return Scale(0.0, high, canvas.plot_bottom, canvas.top)


def _linear(canvas: Canvas, values: list[Floats]) -> Scale:
    high = max((float(part.max()) for part in values if len(part)), default=1.0)
    return Scale(0.0, (high or 1.0) * 1.06, canvas.plot_bottom, canvas.top)


def backdrop(view: View, canvas: Canvas, x: Scale) -> None:
    """Shade warm-up and faults behind the lines, each with a tooltip; fault labels are above the plot."""
    height = canvas.plot_bottom - canvas.top
    if view.windows.warm_up_s > 0:
        box = (LEFT, canvas.top, x.at(view.windows.warm_up_s) - LEFT, height)
        canvas.rect(box, "warm-up", f"warm-up, {view.windows.warm_up_s:g} s: excluded from steady time")
    for one, label in zip(view.windows.faults, fault_labels(view, x), strict=True):
        start = x.at(one.start_s)
        end_s = max(each for each in (one.start_s, one.end_s, one.recovered_s) if each is not None)
        width = max(2.0, x.at(end_s) - start)
        title = f"{one.kind} on {one.target}, {one.start_s:.1f} s to {end_s:.1f} s"
        canvas.rect((start, canvas.top, width, height), "fault", title)
        canvas.line(start, canvas.top, start, canvas.plot_bottom, "fault-edge")
        canvas.text(label.x, canvas.top - 3 - FAULT_ROW * label.row, label.words, "fault-word", label.anchor)


def _gap(x: Scale) -> float:
    return (x.at(GAP_S) - x.at(0.0)) if x.high > GAP_S else float("inf")


def _bounds_ms(view: View, route: str) -> list[float]:
    """Return the bounds (ms) of the p99 objectives of this route or of all routes."""
    applicable = [
        objective
        for objective in view.document["objectives"]
        if objective.get("route") in (route, "all") and objective.get("unit") == "s"
    ]
    return [
        float(objective["bound"]) * 1000
        for objective in applicable
        if objective.get("metric") == "p99" and objective["bound"] > 0
    ]
