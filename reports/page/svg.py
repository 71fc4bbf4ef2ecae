"""SVG drawing primitives: scales, axes, lines, areas and legends. Independent of runs and records.

A chart is 480 x 270 units, so that its 12-unit text is readable at the width of a phone. Colors are CSS
classes (c1..c8, ink, grid, ...) that the page defines once for light and dark mode. Points are relative, in
tenths of a unit: about 6 bytes each, so 20 series of 30 min fit into 250 kB.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np
import numpy.typing as npt

from reports.page import texts

WIDTH, HEIGHT = 480, 270
LEFT, RIGHT, BOTTOM = 54, 12, 34
LEGEND_ROW = 17
LETTER = 6.9  # mean width of a character at 12 units, for placing legend entries

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Scale:
    """Maps `low`..`high` to pixels `start`..`end`, linearly or logarithmically; values outside are clipped."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, values: Floats | float) -> Floats:
        clipped = np.clip(np.asarray(values, dtype=np.float64), self.low, self.high)
        low, high = self.low, self.high
        if self.log:
            clipped, low, high = np.log10(clipped), math.log10(low), math.log10(high)
        share = (clipped - low) / ((high - low) or 1.0)
        pixels: Floats = self.start + share * (self.end - self.start)
        return pixels

    def at(self, value: float) -> float:
        """Return the pixel of one value."""
        return float(self(value))

    def ticks(self) -> list[float]:
        """Return round tick values: 1-2-5 steps, or 1-2-5 per decade (1 per decade for wide spans)."""
        return _log_ticks(self.low, self.high) if self.log else _linear_ticks(self.low, self.high)


def _linear_ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    raw = (high - low) / wanted or 1.0
    power = 10 ** math.floor(math.log10(raw))
    step = next(power * each for each in (1, 2, 5, 10) if power * each >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    span = math.log10(high / low)
    mantissas = (1, 2, 5) if span < 1.6 else (1, 3) if span < 2.6 else (1,)
    values = [m * 10.0**d for d in decades for m in mantissas]
    return [value for value in values if low * 0.999 <= value <= high * 1.001]


def number(value: float) -> str:
    """Format a number for an axis: 0.5, 20, 15k."""
    if abs(value) >= 10_000:
        return f"{value / 1000:g}k"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:g}"


def millis(value: float) -> str:
    """Format a duration in ms for an axis or a cell: 250 µs, 20 ms, 1.5 s."""
    if 0 < value < 1:
        return f"{value * 1000:.3g} µs"
    return f"{value:.3g} ms" if value < 1000 else f"{value / 1000:.3g} s"


@dataclass
class Canvas:
    """An SVG under construction. `top`: where the plot starts, below the legend."""

    title: str
    describe: str
    key: str
    height: int = HEIGHT
    top: float = 12
    parts: list[str] = field(default_factory=list)

    @property
    def plot_bottom(self) -> float:
        return self.height - BOTTOM

    def add(self, *parts: str) -> None:
        """Append markup."""
        self.parts.extend(parts)

    def text(self, x: float, y: float, words: str, css: str = "tick", anchor: str = "start") -> None:
        """Draw text at a position."""
        attributes = f'x="{x:.1f}" y="{y:.1f}" class="{css}" text-anchor="{anchor}"'
        self.add(f"<text {attributes}>{_escaped(words)}</text>")

    def rect(self, box: tuple[float, float, float, float], css: str, title: str = "") -> None:
        """Draw a box (x, y, width, height) with an optional tooltip."""
        x, y, w, h = box
        tooltip = f"<title>{_escaped(title)}</title>" if title else ""
        shape = f'x="{x:.1f}" y="{y:.1f}" width="{max(0.0, w):.1f}" height="{max(0.0, h):.1f}" class="{css}"'
        self.add(f"<rect {shape}>{tooltip}</rect>" if tooltip else f"<rect {shape}/>")

    def line(self, x: float, y: float, x2: float, y2: float, css: str) -> None:
        """Draw a straight line."""
        self.add(f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{css}"/>')

    def legend(self, entries: Sequence[tuple[str, str]]) -> None:
        """Draw entries (CSS class, text) in rows above the plot and move `top` below them."""
        x, y = float(LEFT), 11.0
        for css, words in entries:
            width = 20 + LETTER * len(words) + 12
            if x + width > WIDTH - RIGHT + 12 and x > LEFT:
                x, y = float(LEFT), y + LEGEND_ROW
            shape = "key-line" if " line" in f" {css}" else "key-box"
            if shape == "key-line":
                self.line(x, y - 4, x + 15, y - 4, css)
            else:
                self.rect((x, y - 9, 11, 10), css)
            self.text(x + 19, y, words, "legend")
            x += width
        self.top = y + 13

    def axes(
        self, x: Scale | None, y: Scale, x_label: str, y_label: str, y_format: Callable[[float], str] = number
    ) -> None:
        """Draw grid, ticks and axis labels. `x` None: no ticks on the x axis. `y_format`: y value -> text."""
        for value in y.ticks():
            at = y.at(value)
            self.line(LEFT, at, WIDTH - RIGHT, at, "grid")
            self.text(LEFT - 5, at + 4, y_format(value), "tick", "end")
        for value, at in [(value, x.at(value)) for value in x.ticks()] if x else []:
            self.text(at, self.plot_bottom + 15, number(value), "tick", "middle")
        self.line(LEFT, self.plot_bottom, WIDTH - RIGHT, self.plot_bottom, "axis")
        self.axis_labels(x_label, y_label)

    def axis_labels(self, x_label: str, y_label: str) -> None:
        """Draw the labels of both axes below the plot, each with an arrow in the direction of its axis."""
        self.text(WIDTH - RIGHT, self.height - 4, f"{x_label} →" if x_label else "", "word", "end")
        self.text(LEFT, self.height - 4, f"↑ {y_label}" if y_label else "", "word")

    def path(self, xs: Floats, ys: Floats, css: str, gap: float = math.inf) -> None:
        """Draw a line through pixels (xs, ys); NaN and steps of x wider than `gap` break it."""
        data = "".join(_relative(xs[part], ys[part]) for part in _runs(xs, ys, gap))
        if data:
            self.add(f'<path d="{data}" class="{css}" transform="scale(.1)"/>')

    def area(self, xs: Floats, ys: Floats, css: str) -> None:
        """Fill the area between pixels (xs, ys) and the bottom of the plot."""
        if len(xs) == 0:
            return
        bottom = round(self.plot_bottom * 10)
        data = f"{_relative(xs, ys)}V{bottom}H{round(float(xs[0]) * 10)}Z"
        self.add(f'<path d="{data}" class="{css}" transform="scale(.1)"/>')

    def svg(self) -> str:
        """Return the finished SVG, with a title and a description for screen readers."""
        head = (
            f'<svg viewBox="0 0 {WIDTH} {self.height}" role="img" aria-labelledby="{self.key}-t {self.key}-d">'
            f'<title id="{self.key}-t">{_escaped(self.title)}</title>'
            f'<desc id="{self.key}-d">{_escaped(self.describe)}</desc>'
        )
        return head + "".join(self.parts) + "</svg>"


def _escaped(words: str) -> str:
    return escape(texts.xml_safe(words))


def _runs(xs: Floats, ys: Floats, gap: float) -> Iterable[slice]:
    good = ~(np.isnan(xs) | np.isnan(ys))
    start = None
    for i in range(len(xs)):
        if start is not None and (not good[i] or xs[i] - xs[i - 1] > gap):
            yield slice(start, i)
            start = None
        if start is None and good[i]:
            start = i
    if start is not None:
        yield slice(start, len(xs))


def _relative(xs: Floats, ys: Floats) -> str:
    points = np.rint(np.column_stack([xs, ys]) * 10).astype(np.int64)
    steps = np.diff(points, axis=0).tolist()
    if not steps:  # the round line cap draws a single point as a dot
        return f"M{points[0][0]} {points[0][1]}h1"
    moves = " ".join(f"{dx}{dy}" if dy < 0 else f"{dx} {dy}" for dx, dy in steps)
    return f"M{points[0][0]} {points[0][1]}l{moves}"
