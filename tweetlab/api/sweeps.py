"""A sweep as tables and figures."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from system.kernel.errors import WrongInput
from tweetlab.sweep import asked, bottleneck, folder, statistics

if TYPE_CHECKING:
    from tweetlab.api.figures import Figure

ALWAYS = ("errors", "throughput", "utilization")
_LEADING_NUMBER = re.compile(r"^\s*(-?[\d.]+(?:e[+-]?\d+)?)")


class Sweep:
    """The results of a sweep. `sweep` and `load` make it.

    `path`: its folder. `document`: the contents of sweep.json.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.document: Mapping[str, Any] = folder.read(path)
        self._rows: list[dict[str, Any]] | None = None

    # ---- tables ------------------------------------------------------------------------------------------

    @property
    def figure(self) -> str:
        """The figure that was asked, such as 'home p99'."""
        return str(self.document["figure"])

    @property
    def keys(self) -> list[str]:
        """The settings that were varied."""
        return [one["key"] for one in self.document["over"]]

    @property
    def missing(self) -> pd.DataFrame:
        """The points without a full result: their settings, and why."""
        rows = [{**point["values"], "why": point["why"] or "not played"} for point in self.document["points"]
                if point["state"] == "missing"]
        return pd.DataFrame(rows, columns=[*self.keys, "why"])

    def table(self, *figures: str) -> pd.DataFrame:
        """Return one row per point, in the order of the grid, missing points included (NaN).

        `figures`: further figures as columns. Columns: one per setting, then per figure its mean and the ends of its 95 %
        interval (`home_p99_ms`, `home_p99_low_ms`, `home_p99_high_ms`), `replications`, `reached` (whether the interval is
        within the bound), `carried_percent` (of the replications, by the criteria of --find-capacity), `state`, `labels`.
        """
        names = [asked.check(name) for name in dict.fromkeys((self.figure, *figures, *ALWAYS))]
        rows = []
        for point in self.document["points"]:
            row: dict[str, Any] = {key: _typed(point["values"][key]) for key in self.keys}
            for name in names:
                mean, low, high = point["figures"].get(name, (np.nan, np.nan, np.nan))
                row[asked.column(name)] = mean
                if name == self.figure or name in figures:
                    row[_end(name, "low")], row[_end(name, "high")] = low, high
            played = point["replications"]
            row |= {"replications": played, "reached": point["reached"],
                    "carried_percent": 100.0 * point["carried"] / played if played else np.nan,
                    "state": point["state"], "labels": "; ".join(point["labels"]) or point["why"]}
            rows.append(row)
        return pd.DataFrame(rows)

    def replications(self) -> pd.DataFrame:
        """Return one row per replication and figure: point, the settings, replication, figure, unit, value."""
        values = {point["number"]: point["values"] for point in self.document["points"]}
        rows = []
        for row in self.rows():
            routes = [f"{route} {name}" for route in row["routes"] for name in asked.STATISTICS]
            for name in [*routes, *asked.PLAIN, *(f"cores {node}" for node in row["cores"])]:
                found = asked.value(row, name)
                if found is not None:
                    settings = {key: _typed(text) for key, text in values[row["point"]].items()}
                    rows.append({"point": row["point"], **settings, "replication": row["replication"], "figure": name,
                                 "unit": asked.unit(name), "value": found})
        return pd.DataFrame(rows)

    def knees(self) -> pd.DataFrame:
        """Return one row per group of points that differ in their rate only.

        Columns: group, knee_per_s, refused_per_s (the lowest rate above it that is not carried), limit (which criterion),
        bottleneck, bound_per_s (its bound by the utilization law).
        """
        rows = []
        for one in self.document["knees"]:
            analysis = one.get("bottleneck") or {}
            rows.append({"group": one["group"], "knee_per_s": one["rate_per_s"], "refused_per_s": one.get("refused_per_s"),
                         "limit": one.get("limit") or one.get("problem", ""), "bottleneck": analysis.get("name", ""),
                         "bound_per_s": analysis.get("bound_per_s")})
        return pd.DataFrame(rows, columns=["group", "knee_per_s", "refused_per_s", "limit", "bottleneck", "bound_per_s"])

    def bottleneck(self) -> pd.DataFrame:
        """Return the stations with the lowest bounds: station, bound_per_s, demand_ms (per operation), utilization_percent."""
        analysis = self._analysis() or {"stations": []}
        table = pd.DataFrame(analysis["stations"], columns=["name", "bound_per_s", "demand_ms", "utilization_percent"])
        return table.rename(columns={"name": "station"})

    def reliefs(self) -> pd.DataFrame:
        """Return what relieving the bottleneck gives, by the utilization law: change, bound_per_s, then (what limits next)."""
        analysis = self._analysis() or {"reliefs": []}
        return pd.DataFrame(analysis["reliefs"], columns=["change", "bound_per_s", "then"])

    def against(self, point: int = 0, figure: str = "") -> pd.DataFrame:
        """Return the difference of every point to point number `point`, paired by replication (common random numbers).

        Columns: the settings, difference, low, high (in the figure's unit, 95 % interval), differs (the interval excludes 0).
        """
        name = asked.check(figure) if figure else self.figure
        numbers = [one["number"] for one in self.document["points"]]
        if point not in numbers:
            raise WrongInput(f"The point is {point}; it must be from 0 to {len(numbers) - 1}.")
        by_point: dict[int, list[dict[str, Any]]] = {number: [] for number in numbers}
        for row in self.rows():
            by_point[row["point"]].append(row)
        rows = []
        for one in self.document["points"]:
            found = statistics.difference(by_point[point], by_point[one["number"]], name)
            settings = {key: _typed(text) for key, text in one["values"].items()}
            if found is None:
                rows.append({**settings, "difference": np.nan, "low": np.nan, "high": np.nan, "differs": None})
            else:
                rows.append({**settings, "difference": found.mean, "low": found.low, "high": found.high,
                             "differs": not found.low <= 0.0 <= found.high})
        return pd.DataFrame(rows)

    def rows(self) -> list[dict[str, Any]]:
        """Return the replications as they were kept (`tweetlab.sweep.rows`)."""
        if self._rows is None:
            self._rows = folder.Folder(self.path).rows()
        return self._rows

    def _analysis(self) -> Any:
        analyses = [one["bottleneck"] for one in self.document["knees"] if one.get("bottleneck")]
        return analyses[0] if analyses else self.document["bottleneck"]

    # ---- words and figures ---------------------------------------------------------------------------------

    def sentences(self) -> list[str]:
        """Return the answers in words: knee, bottleneck, what relieving it gives, and how far the answer can be trusted."""
        lines = []
        for one in self.document["knees"]:
            where = f" at {one['group']}" if one["group"] else ""
            if one["rate_per_s"] is None:
                lines.append(f"knee{where}: missing ({one['problem']})")
                continue
            above = f"; at {one['refused_per_s']:.0f}/s: {one['limit']}" if one["refused_per_s"] else ""
            lines.append(f"knee{where}: {one['rate_per_s']:.0f}/s{above}")
            lines += [f"  {line}" for line in bottleneck.sentences(one["bottleneck"])]
        if not self.document["knees"]:
            lines += bottleneck.sentences(self.document["bottleneck"])
        return lines + self.reservations()

    def reservations(self) -> list[str]:
        """Return what limits the evidence: the calibration, extrapolation, intervals that were not reached, missing points."""
        document, lines = self.document, []
        calibrated = document["calibration"]
        if calibrated and calibrated["foreign"]:
            lines.append(f"calibration: {calibrated['label']}. To fix: tweetlab calibrate.")
        elif calibrated:
            lines.append(f"calibration: {calibrated['label']}; CPU costs are known to ±{100 * calibrated['spread']:.0f} %")
        points = document["points"]
        beyond = [point for point in points if any("extrapolated" in label for label in point["labels"])]
        if beyond:
            lines.append(f"{len(beyond)} of {len(points)} points load a process beyond the calibrated range; they are labelled. "
                         "To fix: tweetlab calibrate on this machine, or lower rates.")
        overloaded = [point for point in points if point["state"] == "ok" and not point["carried"]]
        if overloaded:
            lines.append(f"{len(overloaded)} of {len(points)} points are not carried; their latencies depend on the duration of "
                         "the load, so their intervals are not refined")
        short = [point for point in points if point["state"] == "ok" and point["reached"] is False and point["carried"]]
        if short and document["on"] == "twin":
            lines.append(f"not reached: at {len(short)} of {len(points)} points the interval of {self.figure} is wider than "
                         f"±{100 * document['within']:.0f} % after {max(point['replications'] for point in short)} replications")
        lines += [point["why"] for point in points if point["state"] == "cannot be served"][:3]
        lost = [point for point in points if point["state"] == "missing"]
        if lost:
            lines.append(f"missing: {len(lost)} of {len(points)} points ({lost[0]['why'] or 'not played'})")
        return lines

    def plot(self, figure: str = "", x: str = "") -> Figure:
        """Return the figure over one setting, one line per combination of the others, with 95 % intervals.

        `figure`: "" for the asked one. `x`: a setting, "" for the rate, or else the first one.
        """
        from tweetlab.api import figures

        name = asked.check(figure) if figure else self.figure
        axis = x or next((key for key in ("rate", "load") if key in self.keys), self.keys[0] if self.keys else "")
        if self.keys and axis not in self.keys:
            raise WrongInput(f"x is {axis!r}; it must be one of {', '.join(self.keys)}.")
        unit = asked.unit(name)
        title = f"{self.document['scenario']['name']}: {name}"
        across = f"{axis}, operations per second" if axis == "rate" else axis
        pick, ax = figures.axes(title, across, f"{name}, {unit}" if unit else name)
        lines: dict[str, list[tuple[Any, list[float], bool]]] = {}
        for point in self.document["points"]:
            label = ", ".join(f"{key}={value}" for key, value in point["values"].items() if key != axis)
            found = point["figures"].get(name)
            if found:
                overloaded = point["carried"] * 2 <= point["replications"]
                lines.setdefault(label, []).append((_typed(point["values"].get(axis, "")), found, overloaded))
        for (label, found), color in zip(lines.items(), figures.COLORS * (1 + len(lines) // len(figures.COLORS)), strict=False):
            self._line(ax, label, found, color)
        bound = self.document.get("bound")
        if bound and name == self.figure:
            figures.bound(ax, bound["value"], bound["text"])
        if axis == "rate":
            for one in self.document["knees"][:3]:
                if one["rate_per_s"]:
                    figures.mark(ax, one["rate_per_s"], f"knee {one['rate_per_s']:.0f}/s", figures.INK)
        values = [found[0] for line in lines.values() for _, found, _ in line if found[0] > 0]
        if values and max(values) > 20 * min(values):
            ax.set_yscale("log")
        else:
            ax.set_ylim(bottom=0)
        if len(lines) > 1:
            figures.legend(ax)
        return pick

    def _line(self, ax: Any, label: str, found: list[tuple[Any, list[float], bool]], color: str) -> None:
        """Draw means with intervals; points that are not carried are hollow."""
        numeric = all(isinstance(at, int | float) for at, _, _ in found)
        ordered = sorted(found, key=lambda one: one[0]) if numeric else found
        at = [one[0] if numeric else str(one[0]) for one in ordered]
        mean, low, high = (np.asarray([values[n] for _, values, _ in ordered]) for n in range(3))
        ax.plot(at, mean, color=color, linewidth=1.5, label=label or None)
        ax.vlines(at, np.maximum(low, 0), high, color=color, linewidth=1.2)
        for where, y, (_, _, overloaded) in zip(at, mean, ordered, strict=True):
            ax.plot([where], [y], marker="o", markersize=5, color=color, markerfacecolor="none" if overloaded else color)

    def __repr__(self) -> str:
        points = self.document["points"]
        done = sum(point["state"] == "ok" for point in points)
        return f"<Sweep {self.document['scenario']['name']}: {self.figure}, {done} of {len(points)} points>"

    def _repr_html_(self) -> str:
        words = "".join(f"<li>{line}</li>" for line in self.sentences())
        return f"{self.table().round(2).to_html(border=0, index=False)}<ul>{words}</ul>"


def _typed(text: str) -> Any:
    """Return the number in a value such as `100/s` or `50`; the text itself if it is none."""
    match = _LEADING_NUMBER.match(text)
    rest = text[match.end():].strip() if match else text
    if match and (not rest or rest in ("/s", "s", "%", "core", "cores", "ms")):
        number = float(match[1])
        return int(number) if number.is_integer() and "." not in match[1] else number
    return text


def _end(figure: str, end: str) -> str:
    """Return the column of one end of an interval, with the unit last: home_p99_low_ms."""
    name, unit = asked.column(figure), asked.unit(figure)
    suffix = {"%": "percent", "/s": "per_s", "cores": ""}.get(unit, unit)
    return f"{name.removesuffix(f'_{suffix}')}_{end}_{suffix}" if suffix else f"{name}_{end}"
