"""Figures by matplotlib: axes with units, readable on a light and on a dark page.

The background is transparent, and every color has a contrast of at least 3 : 1 against white and against near-black
(`PAGES`), so one picture serves both. A `Figure` shows itself in a notebook and saves as PNG or SVG by its file name.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as MatplotlibFigure

INK = "#7d7d7d"  # texts and axes
GRID = "#7d7d7d40"
COLORS = ("#2f80c9", "#d0651a", "#2c9a63", "#b85ba6", "#8c7d14", "#7a6fe0")
MEASURED, PREDICTED = COLORS[0], COLORS[1]
BAD = "#d84a4a"
PAGES = ("#ffffff", "#121212")
SIZE_IN, DPI = (6.4, 3.4), 110


class Figure(MatplotlibFigure):
    """A figure with one or more axes. The last expression of a notebook cell shows it."""

    def __init__(self, **options: Any) -> None:
        settings: dict[str, Any] = {"figsize": SIZE_IN, "dpi": DPI, "layout": "constrained", **options}
        super().__init__(**settings)
        FigureCanvasAgg(self)
        self.patch.set_alpha(0.0)

    def save(self, path: str | Path) -> Path:
        """Write the figure; the suffix of the name decides: .png, .svg or .pdf. Return the path."""
        target = Path(path)
        self.savefig(target, transparent=True, metadata={"Date": None} if target.suffix == ".svg" else None)
        return target

    def svg(self) -> str:
        """Return the figure as SVG for a page, without the XML head."""
        text = io.StringIO()
        self.savefig(text, format="svg", transparent=True, metadata={"Date": None})
        return text.getvalue()[text.getvalue().index("<svg"):]

    def _repr_png_(self) -> bytes:
        data = io.BytesIO()
        self.savefig(data, format="png", transparent=True)
        return data.getvalue()


def axes(title: str, x: str, y: str, *, size: tuple[float, float] = SIZE_IN) -> tuple[Figure, Axes]:
    """Return a new figure and its axes. `x`, `y`: labels with units."""
    figure = Figure(figsize=size)
    ax = figure.add_subplot()
    style(ax, title, x, y)
    return figure, ax


def row(titles: Mapping[str, tuple[str, str]], *, size: tuple[float, float] = (9.6, 3.4)) -> tuple[Figure, list[Axes]]:
    """Return a figure with axes side by side. `titles`: title -> labels of x and y, with units."""
    figure = Figure(figsize=size)
    all_axes = [figure.add_subplot(1, len(titles), number + 1) for number in range(len(titles))]
    for ax, (title, (x, y)) in zip(all_axes, titles.items(), strict=True):
        style(ax, title, x, y)
    return figure, all_axes


def style(ax: Axes, title: str, x: str, y: str) -> None:
    """Give axes the colors of this module, a title and labels."""
    ax.patch.set_alpha(0.0)
    ax.set_title(title, color=INK, fontsize=11, loc="left")
    ax.set_xlabel(x, color=INK)
    ax.set_ylabel(y, color=INK)
    ax.tick_params(colors=INK, which="both")
    for name, spine in ax.spines.items():
        spine.set_color(INK)
        spine.set_visible(name in ("left", "bottom"))
    ax.grid(color=GRID, linewidth=0.7)
    ax.set_axisbelow(True)
    ax.set_prop_cycle(color=COLORS)


def legend(ax: Axes, **options: Any) -> None:
    """Add a legend without a frame, if there is something to name."""
    if ax.get_legend_handles_labels()[0]:
        settings: dict[str, Any] = {"frameon": False, "labelcolor": INK, "fontsize": 9, **options}
        ax.legend(**settings)


def mark(ax: Axes, x: float, text: str, color: str = BAD) -> None:
    """Draw a vertical line at `x` with a label at its top: a fault, an objective, a knee."""
    ax.axvline(x, color=color, linewidth=1.2, linestyle="--")
    ax.annotate(text, (x, 1.0), xycoords=("data", "axes fraction"), xytext=(4, -11), textcoords="offset points",
                color=color, fontsize=9)


def bound(ax: Axes, y: float, text: str, color: str = BAD) -> None:
    """Draw a horizontal line at `y` with a label: the bound of an objective."""
    ax.axhline(y, color=color, linewidth=1.2, linestyle="--")
    ax.annotate(text, (0.0, y), xycoords=("axes fraction", "data"), xytext=(4, 4), textcoords="offset points",
                color=color, fontsize=9)


def contrast(color: str, page: str) -> float:
    """Return the contrast ratio of two colors by WCAG 2.2: 1 (equal) to 21."""
    first, second = sorted((_luminance(color), _luminance(page)), reverse=True)
    return (first + 0.05) / (second + 0.05)


def _luminance(color: str) -> float:
    channels = [int(color[at:at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
