"""Figures of distributions: percentile spectrum, heatmap, latency breakdown by hop, delivery.

Each function returns its canvas and caption, or None if the run has no data for it.
"""

from __future__ import annotations

import numpy as np

from reports import columns, operations, summary
from reports.page.svg import LEFT, RIGHT, WIDTH, Canvas, Floats, Scale, millis, number
from reports.page.view import View

SPECTRUM = (0.0, 0.5, 0.9, 0.99, 0.999, 0.9999)
HEAT_COLUMNS, HEAT_ROWS, HEAT_LEVELS = 120, 26, 6


def steady_ms(view: View, route: str, kind: str = "response_ms") -> Floats:
    """Return the sorted latencies (ms) of the OK operations of one route in steady time."""
    done = view.done
    steady = operations.inside(done["due_s"].to_numpy(), operations.steady(view.windows))
    rows = done[steady & (done["route"] == route).to_numpy() & (done["outcome"] == columns.OK).to_numpy()]
    values: Floats = np.sort(rows[kind].dropna().to_numpy())
    return values


def _nines(quantile: Floats) -> Floats:
    """Return the number of nines of a quantile: 0.9 is 1, 0.99 is 2."""
    nines: Floats = -np.log10(1.0 - np.asarray(quantile))
    return nines


def _curve(values: Floats) -> tuple[Floats, Floats]:
    """Return 160 points of the spectrum, evenly spaced in nines, none beyond the rank of the largest value."""
    deepest = min(4.0, float(np.log10(len(values))))
    nines = np.linspace(0.0, deepest, 160)
    ranks = np.clip(np.ceil((1 - 10**-nines) * len(values) - 1e-9).astype(int) - 1, 0, len(values) - 1)
    return nines, values[ranks]


def spectrum(view: View) -> tuple[Canvas, str] | None:
    """Draw response and service time at every percentile, on an axis with equal space for each nine."""
    route = view.headline
    lines = [
        ("line c2", "response", steady_ms(view, route)),
        ("line c1", "service", steady_ms(view, route, "service_ms")),
    ]
    if view.twin:
        lines.append(("line c2 model", "response, predicted", steady_ms(view.twin, route)))
    lines = [each for each in lines if len(each[2]) >= 10]
    if not lines:
        return None
    caption = (
        f"Steady time, {len(lines[0][2])} OK operations; response is measured from the intended start, "
        "service from the send."
    )
    canvas = Canvas(f"Percentiles of {route}", caption, "spectrum")
    canvas.legend([(css, words) for css, words, _ in lines])
    low, high = min(float(v[0]) for *_, v in lines), max(float(v[-1]) for *_, v in lines)
    x = Scale(0.0, 4.0, LEFT, WIDTH - RIGHT)
    y = Scale(max(low, 1e-3) * 0.9, high * 1.2, canvas.plot_bottom, canvas.top, log=True)
    for quantile in SPECTRUM:
        at = x.at(float(_nines(np.array(quantile))))
        canvas.line(at, canvas.top, at, canvas.plot_bottom, "grid")
        anchor = "middle" if quantile < 0.9999 else "end"
        canvas.text(at, canvas.plot_bottom + 15, f"p{quantile * 100:g}", "tick", anchor)
    canvas.axes(None, y, "percentile", "latency", millis)
    for css, _, values in lines:
        nines, points = _curve(values)
        canvas.path(x(nines), y(points), css)
    return canvas, caption


def heatmap(view: View) -> tuple[Canvas, str] | None:
    """Draw every OK operation of the headline route by time and latency; darker cells hold more operations."""
    done = view.done
    rows = done[(done["route"] == view.headline) & (done["outcome"] == columns.OK) & (done["response_ms"] > 0)]
    if len(rows) < 10:
        return None
    values = rows["response_ms"].to_numpy()
    canvas = Canvas(f"Latency heatmap of {view.headline}, OK only", "", "heatmap")
    x = Scale(0.0, max(view.windows.load_s, 1.0), LEFT, WIDTH - RIGHT)
    y = Scale(float(values.min()) * 0.9, float(values.max()) * 1.1, canvas.plot_bottom, canvas.top, log=True)
    columns_n = int(min(HEAT_COLUMNS, max(10, view.windows.load_s)))
    x_edges = np.linspace(0, x.high, columns_n + 1)
    y_edges = np.geomspace(y.low, y.high, HEAT_ROWS + 1)
    counts, _, _ = np.histogram2d(rows["due_s"].to_numpy(), values, bins=[x_edges, y_edges])
    step_s = x.high / columns_n
    caption = f"Each column is {step_s:.2g} s; the darkest cell holds {int(counts.max())} operations."
    canvas.describe = f"Heatmap of response time over time. {caption}"
    canvas.axes(x, y, "seconds", "response", millis)
    for one in view.windows.faults:
        canvas.line(x.at(one.start_s), canvas.top, x.at(one.start_s), canvas.plot_bottom, "fault-edge")
    _cells(canvas, counts, x(x_edges), y(y_edges))
    return canvas, caption


def _cells(canvas: Canvas, counts: Floats, xs: Floats, ys: Floats) -> None:
    """Draw one path per level of darkness, with a rectangle per filled cell. The level follows the root of the count."""
    level = np.ceil(np.sqrt(counts / counts.max()) * HEAT_LEVELS).astype(int)
    height = round(float(ys[0] - ys[1]) * 10)
    for depth in range(1, HEAT_LEVELS + 1):
        cells = np.argwhere(level == depth)
        boxes = [
            f"M{round(float(xs[i]) * 10)} {round(float(ys[j + 1]) * 10)}h{round(float(xs[i + 1] - xs[i]) * 10)}v{height}"
            f"h{-round(float(xs[i + 1] - xs[i]) * 10)}Z"
            for i, j in cells.tolist()
        ]
        if boxes:
            canvas.add(f'<path d="{"".join(boxes)}" class="heat h{depth}" transform="scale(.1)"/>')


HOP_WORDS = {
    "wait": "wait before send",
    "network": "HAProxy and sockets",
    "gateway": "gateway",
    "service": "service",
    "store": "stores",
}


def hops(view: View) -> tuple[Canvas, str] | None:
    """Draw the mean time of an operation by hop, one bar per route."""
    table = view.document["summary"].get("hops") or {}
    shown = [name for name in view.routes if name in table][:8]
    if not shown:
        return None
    totals = {name: sum(table[name]["mean_ms"].values()) for name in shown}
    first = table[shown[0]]["mean_ms"]
    largest = max(first, key=lambda hop: first[hop])
    caption = f"Mean in steady time. Largest part of {shown[0]}: {HOP_WORDS.get(largest, largest)}."
    canvas = Canvas("Latency breakdown by hop", caption, "hops", height=96 + 30 * len(shown))
    canvas.legend([(f"area c{i + 1}", HOP_WORDS[hop]) for i, hop in enumerate(summary.HOPS)])
    left = LEFT + 44
    x = Scale(0.0, max(totals.values()) * 1.12, left, WIDTH - RIGHT - 30)
    for tick in x.ticks():
        canvas.line(x.at(tick), canvas.top, x.at(tick), canvas.plot_bottom, "grid")
        canvas.text(x.at(tick), canvas.plot_bottom + 15, number(tick), "tick", "middle")
    for row, name in enumerate(shown):
        top, at = canvas.top + 4 + row * (canvas.plot_bottom - canvas.top - 4) / len(shown), float(left)
        canvas.text(left - 6, top + 15, name, "tick", "end")
        for i, hop in enumerate(summary.HOPS):
            took = table[name]["mean_ms"][hop]
            width = x.at(took) - left
            canvas.rect((at, top, width, 20), f"area c{i + 1}", f"{name}: {HOP_WORDS[hop]} {millis(took)}")
            at += width
        canvas.text(at + 5, top + 15, millis(totals[name]), "tick")
    canvas.axis_labels("ms, mean", "")
    return canvas, caption


def delivered(view: View) -> tuple[Canvas, str] | None:
    """Draw the distribution (CDF) of the delay until a tweet is in every follower's timeline, delivered only."""
    delays = np.sort(view.deliveries["delay_s"].to_numpy()) * 1000
    if len(delays) < 10:
        return None
    lines = [("line c3", "measured", delays)]
    if view.twin and len(view.twin.deliveries) >= 10:
        lines.append(("line c3 model", "predicted", np.sort(view.twin.deliveries["delay_s"].to_numpy()) * 1000))
    median = millis(float(delays[(len(delays) - 1) // 2]))
    caption = f"Median delay of {len(delays)} delivered tweets after their acknowledgement: {median}."
    canvas = Canvas("Delivery delay of tweets", caption, "delivery")
    canvas.legend([(css, words) for css, words, _ in lines])
    low = max(0.1, min(float(v[0]) for *_, v in lines))
    high = max(float(v[-1]) for *_, v in lines)
    x = Scale(low * 0.9, max(high, low * 10) * 1.1, LEFT, WIDTH - RIGHT, log=True)
    y = Scale(0.0, 1.0, canvas.plot_bottom, canvas.top)
    labels = "ms after acknowledgement (log)", "share of delivered tweets"
    canvas.axes(x, y, *labels, lambda share: f"{share:.0%}")
    for css, _, values in lines:
        ranks = np.unique(np.linspace(0, len(values) - 1, min(len(values), 300)).astype(int))
        canvas.path(x(np.maximum(values[ranks], low)), y((ranks + 1) / len(values)), css)
    return canvas, caption
