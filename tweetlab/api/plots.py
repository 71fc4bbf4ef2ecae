"""The figures of a run. Matplotlib is imported with the first figure, so that tables alone stay fast."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd

from reports import columns, facts, record

if TYPE_CHECKING:
    from tweetlab.api.figures import Figure

SHOWN_PROCESSES = 5
LEAST_PER_BIN = 5  # operations: a p99 of fewer is their maximum, so a bin with fewer shows nothing


class Drawable(Protocol):
    """What a figure needs of a run (`tweetlab.api.Run`)."""

    record: record.Run

    @property
    def scenario(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def is_predicted(self) -> bool: ...
    @property
    def twin(self) -> Drawable | None: ...
    @property
    def windows(self) -> facts.Windows: ...
    def route_of(self, route: str = "") -> str: ...
    def responses_ms(self, route: str = "", window: str = "steady") -> np.ndarray: ...
    def history(self) -> pd.DataFrame: ...
    def throughput(self) -> pd.DataFrame: ...
    def cpu(self, by_second: bool = False) -> pd.DataFrame: ...


class RunPlots:
    """The figures of one run: each method returns a `Figure`."""

    def __init__(self, run: Drawable) -> None:
        self._run = run

    def latency(self, route: str = "", by_s: float = 0.0) -> Figure:
        """Return response times over the run: p50, p95 and p99 by planned start, with faults and objectives.

        `by_s`: length of a bin, seconds; 0 for one of at least 60 operations.
        """
        from tweetlab.api import figures

        run, name = self._run, self._run.route_of(route)
        done = run.history()
        rows = done[(done["route"] == name) & (done["outcome"] == columns.OK)]
        load_s = run.windows.load_s
        step = by_s or max(1.0, np.ceil(60.0 * load_s / max(len(rows), 1)))
        figure, ax = figures.axes(f"{name}: response time, {run.label}", "planned start, s", "response time, ms")
        bins = (rows["due_s"] // step).astype(int)
        groups = [group for _, group in rows.groupby(bins)["response_ms"] if len(group) >= LEAST_PER_BIN]
        starts = [int(rows.loc[group.index[0], "due_s"] // step) * step for group in groups]
        middles = np.asarray(starts) + step / 2
        for quantile, color in (("p50", figures.COLORS[2]), ("p95", figures.COLORS[0]), ("p99", figures.COLORS[1])):
            values = [_percentile(group.to_numpy(), float(quantile[1:]) / 100) for group in groups]
            ax.plot(middles, values, label=quantile, color=color, marker="o", markersize=2.5, linewidth=1.4)
        for fault in run.windows.faults:
            figures.mark(ax, fault.start_s, f"{fault.kind.replace('_', ' ')} {fault.target}")
        for one in run.record.document["objectives"]:
            if one.get("route") == name and one.get("unit") == "s" and one.get("bound") is not None:
                figures.bound(ax, 1000.0 * float(one["bound"]), str(one["text"]))
                break
        ax.set_yscale("log")
        ax.set_ylim(top=1.9 * ax.get_ylim()[1])  # so that the label of a fault is above the bound of an objective
        ax.set_xlim(0, load_s)
        _plain_log(ax.yaxis)
        figures.legend(ax, loc="lower right", ncols=3)
        return figure

    def cdf(self, route: str = "", window: str = "steady") -> Figure:
        """Return the distribution of response times, with a tail axis: 90 %, 99 %, 99.9 %."""
        from tweetlab.api import figures

        run, name = self._run, self._run.route_of(route)
        figure, ax = figures.axes(f"{name}: how many are slower?", "response time, ms", "share of operations slower")
        _tail(ax, run.responses_ms(name, window), run.label, _color(run))
        if run.twin is not None:
            _tail(ax, run.twin.responses_ms(name, window), run.twin.label, figures.PREDICTED)
        _finish_tail(ax)
        return figure

    def cpu(self) -> Figure:
        """Return the CPU of the busiest processes over the run, stacked, in cores."""
        from tweetlab.api import figures

        table = self._run.cpu(by_second=True)
        figure, ax = figures.axes(f"CPU by process, {self._run.label}", "time, s", "cores in use")
        shown, rest = table.iloc[:, :SHOWN_PROCESSES], table.iloc[:, SHOWN_PROCESSES:].sum(axis=1)
        names = [*(name.removesuffix("_cores") for name in shown.columns), "all others"]
        ax.stackplot(table.index + 0.5, *[shown[name].fillna(0.0) for name in shown.columns], rest.fillna(0.0), labels=names,
                     colors=figures.COLORS, linewidth=0)
        cores = self._run.record.document["platform"].get("cores") or self._run.record.document["host"].get("cores")
        if cores:
            figures.bound(ax, float(cores), f"the machine: {float(cores):g} cores")
            ax.set_ylim(0, 1.12 * float(cores))
        for fault in self._run.windows.faults:
            figures.mark(ax, fault.start_s, f"{fault.kind.replace('_', ' ')} {fault.target}")
        ax.set_xlim(0, self._run.windows.load_s)
        figures.legend(ax, loc="center left", bbox_to_anchor=(1.0, 0.5), reverse=True)
        return figure

    def throughput(self) -> Figure:
        """Return planned and completed operations per second."""
        from tweetlab.api import figures

        table = self._run.throughput()
        figure, ax = figures.axes(f"Throughput, {self._run.label}", "time, s", "operations per second")
        ax.step(table.index, table["planned_per_s"], where="post", label="planned", color=figures.INK, linewidth=1.0)
        ax.step(table.index, table["ok_per_s"], where="post", label="completed OK", color=figures.COLORS[0])
        if table["failed_per_s"].any():
            ax.step(table.index, table["failed_per_s"], where="post", label="failed", color=figures.BAD)
        ax.set_ylim(bottom=0)
        figures.legend(ax, loc="lower right", ncols=3)
        return figure

    def against(self, other: Drawable, route: str = "") -> Figure:
        """Return both distributions side by side: the tails, and the difference of each percentile."""
        from tweetlab.api import figures

        first, name = self._run, self._run.route_of(route)
        labels = _names(first, other)
        figure, (left, right) = figures.row({f"{name}: how many are slower?": ("response time, ms", "share of operations slower"),
                                             "difference": (f"{labels[1]} against {labels[0]}, %", "")})
        pair = ((first, figures.COLORS[0]), (other, figures.COLORS[1]))
        values = [run.responses_ms(name) for run, _ in pair]
        for (_, color), response, label in zip(pair, values, labels, strict=True):
            _tail(left, response, label, color)
        _finish_tail(left)
        names = [key for key, need in (("p50", 20), ("p90", 100), ("p95", 200), ("p99", 1000)) if min(map(len, values)) >= need]
        change = [100.0 * (_percentile(values[1], float(key[1:]) / 100) / _percentile(values[0], float(key[1:]) / 100) - 1)
                  for key in names]
        right.barh(names, change, color=[figures.COLORS[1] if one > 0 else figures.COLORS[2] for one in change], height=0.55)
        for at, one in enumerate(change):
            right.annotate(f"{one:+.0f} %", (one, at), xytext=(5 if one >= 0 else -5, 0), textcoords="offset points",
                           va="center", ha="left" if one >= 0 else "right", color=figures.INK, fontsize=9)
        right.axvline(0, color=figures.INK, linewidth=1)
        right.margins(x=0.25)
        return figure


def _names(first: Drawable, other: Drawable) -> tuple[str, str]:
    """Return the shortest labels that tell two runs apart."""
    if first.is_predicted != other.is_predicted:
        return ("predicted", "measured") if first.is_predicted else ("measured", "predicted")
    return (first.scenario, other.scenario) if first.scenario != other.scenario else ("A", "B")


def _color(run: Drawable) -> str:
    from tweetlab.api import figures

    return figures.PREDICTED if run.is_predicted else figures.MEASURED


def _percentile(values: np.ndarray, share: float) -> float:
    from reports.stats import histogram

    return histogram.percentile(values, share)


def _tail(ax: Any, values: np.ndarray, label: str, color: str) -> None:
    """Draw the share of operations slower than each value, on two log axes."""
    if not len(values):
        return
    ordered = np.sort(values)
    slower = 1.0 - np.arange(1, len(ordered) + 1) / len(ordered)
    ax.plot(ordered[:-1], slower[:-1], label=f"{label} (n = {len(ordered):,})", color=color, linewidth=1.6)


def _finish_tail(ax: Any) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter

    from tweetlab.api import figures

    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(FixedLocator([1.0, 0.5, 0.1, 0.05, 0.01, 0.001, 0.0001]))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g} %"))
    ax.yaxis.minorticks_off()
    _plain_log(ax.xaxis)
    figures.legend(ax, loc="lower left")


def _plain_log(axis: Any) -> None:
    """Label a log axis with plain numbers instead of powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


