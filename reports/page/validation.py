"""The page of a validation: how well the twin predicted loads that it had not seen, with every error explained.

`render` takes the summary that `sim.validation` makes (plain JSON types) and returns one HTML file without JavaScript.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reports.page import render as page
from reports.page.svg import LEFT, RIGHT, WIDTH, Canvas, Scale, millis

NAMES = {"low": "up to 60 % of the machine", "high": "60 to 80 %"}
COLORS = {"mean": "c3", "p50": "c1", "p95": "c2", "p99": "c4"}


def render(summary: Mapping[str, Any]) -> str:
    """Return the page of a validation as HTML."""
    return (
        page.environment()
        .get_template("validation.html.j2")
        .render(
            s=summary,
            css=(page.TEMPLATES / "report.css").read_text(encoding="utf-8"),
            figure=scatter(summary["cells"]),
            names=NAMES,
            chip=_chip,
            percent=_percent,
            cells=[cell for cell in summary["cells"] if cell["statistic"] not in ("process", "CPU")],
            cpu=[cell for cell in summary["cells"] if cell["statistic"] in ("process", "CPU")],
            millis=millis,
        )
    )


def questions(summary: Mapping[str, Any]) -> str:
    """Return the page of the questions "does X help?" as HTML."""
    return (
        page.environment()
        .get_template("questions.html.j2")
        .render(s=summary, css=(page.TEMPLATES / "report.css").read_text(encoding="utf-8"), chip=_chip, percent=_percent)
    )


def scatter(cells: Sequence[Mapping[str, Any]]) -> str:
    """Return the figure of predicted over measured response times, one dot a cell that counts, as SVG."""
    shown = [cell for cell in cells if cell["statistic"] in COLORS and cell["state"] != "few"]
    canvas = Canvas(
        "Predicted over measured response times", "Each dot is one statistic of one route in one load.", "validation"
    )
    canvas.legend(
        [(f"area {css}", name) for name, css in COLORS.items()] + [("line bound", "equal"), ("line planned", "± 25 %")]
    )
    values = [cell[key] for cell in shown for key in ("measured", "predicted") if cell[key] > 0]
    low, high = (min(values) * 0.8, max(values) * 1.25) if values else (1.0, 100.0)
    x, y = Scale(low, high, LEFT, WIDTH - RIGHT, log=True), Scale(low, high, canvas.plot_bottom, canvas.top, log=True)
    canvas.axes(x, y, "measured, ms", "predicted", millis)
    ends = np.asarray([low, high])
    for factor, css in ((1.0, "line bound"), (1.25, "line planned"), (0.8, "line planned")):
        canvas.path(x(ends), y(ends * factor), css)
    for cell in shown:
        pair = f"measured {millis(cell['measured'])}, predicted {millis(cell['predicted'])}"
        title = f"{cell['load']} {cell['route']} {cell['statistic']}: {pair}"
        canvas.rect(
            (x.at(cell["measured"]) - 2.5, y.at(cell["predicted"]) - 2.5, 5, 5),
            f"area {COLORS[cell['statistic']]}",
            title,
        )
    return canvas.svg()


def _chip(verdict: str) -> str:
    return {"holds": "pass", "misses": "fail", "right": "pass", "wrong": "fail"}.get(verdict, "unknown")


def _percent(value: float | None, signed: bool = False) -> str:
    if value is None:
        return "–"
    return f"{100 * value:+.0f} %" if signed else f"{100 * value:.1f} %"
