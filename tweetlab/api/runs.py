"""One run as tables and figures: predicted, measured, or read from disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from reports import columns, facts, finish, operations, record
from reports.page import render, view
from system.kernel.errors import WrongInput
from tweetlab import home
from tweetlab.api.plots import RunPlots

QUANTILES = ("p50", "p90", "p95", "p99")


class Run:
    """One run of a scenario. `simulate`, `run` and `load` make it; nobody else has to.

    `record`: the run as `reports` reads it. `intervals`: route -> statistic -> (low, high) in ms, the range of the
    replications of a prediction; empty for a measured run. `remarks`: sentences about the range in which a prediction
    holds; empty if it is inside its evidence.
    """

    def __init__(self, run: record.Run, intervals: Any = None, remarks: tuple[str, ...] = (),
                 parts: record.Parts | None = None) -> None:
        self.record = run
        self.intervals = intervals or {}
        self.remarks = remarks
        self._parts = parts
        self._view = view.View(run)

    @classmethod
    def of_facts(cls, run_facts: facts.Facts, intervals: Any = None, remarks: tuple[str, ...] = ()) -> Run:
        """Return a run that is not on disk yet."""
        parts = finish.parts(run_facts)
        run = record.Run(Path(), parts.document)
        for name in columns.TABLES:
            run.__dict__[name] = getattr(parts, name)
        run.__dict__["twin"] = None
        return cls(run, intervals, remarks, parts)

    # ---- facts -------------------------------------------------------------------------------------------

    @property
    def scenario(self) -> str:
        """The name of the scenario."""
        return self.record.scenario

    @property
    def is_predicted(self) -> bool:
        """Whether the twin made this run."""
        return self.record.kind == "twin"

    @property
    def label(self) -> str:
        """Where the figures come from: 'measured', or the calibration of a prediction."""
        if not self.is_predicted:
            return "measured"
        return f"predicted ({self.record.document['platform']['twin']['calibration']['label']})"

    @property
    def verdict(self) -> str:
        """PASS, FAIL, UNKNOWN or VOID."""
        return str(self.record.document["verdict"])

    @property
    def path(self) -> Path | None:
        """The folder of the run; None until `save`."""
        return None if self._parts is not None else self.record.path

    @property
    def twin(self) -> Run | None:
        """The prediction that was made with a measured run, or None."""
        return None if self.record.twin is None else Run(self.record.twin)

    @property
    def headline(self) -> str:
        """The route that the figures show by default: that of the first objective on latency, else the busiest."""
        return self._view.headline

    @property
    def windows(self) -> facts.Windows:
        """Warm-up, load, stages and faults of the run, in seconds from its start."""
        return self._view.windows

    @property
    def plot(self) -> RunPlots:
        """The figures of this run: `run.plot.latency()`, `.cdf()`, `.cpu()`."""
        return RunPlots(self)

    # ---- tables ------------------------------------------------------------------------------------------

    def latency(self, window: str = "steady") -> pd.DataFrame:
        """Return one row per route, busiest first: operations, errors and response times.

        `window`: 'steady' (without warm-up, faults and their recovery) or 'whole'. Response times are of OK operations,
        from the planned start; percentiles are nearest-rank. A prediction without faults also has the range of its
        replications for the steady window (`p99_low_ms`, `p99_high_ms`).

        Columns: planned, ok, errors_percent, mean_ms, p50_ms, p90_ms, p95_ms, p99_ms, max_ms.
        """
        _one_of("window", window, ("steady", "whole"))
        rows = {}
        for route in self._view.routes:
            block = self.record.summary["routes"][route]
            block = block["steady"] if window == "steady" else block
            response = block["response_ms"]
            planned = int(block["planned"])
            refused = int(block.get("refused", 0))
            failed = int(block["fail"]) + int(block["info"]) - refused
            row = {"planned": planned, "ok": int(block["ok"]),
                   "errors_percent": 100.0 * failed / (planned - refused) if planned > refused else np.nan}
            row |= {f"{name}_ms": response[name] for name in ("mean", *QUANTILES, "max")}
            if window == "steady" and not self.windows.faults:  # the replications' range does not leave faults out
                for name, (low, high) in self.intervals.get(route, {}).items():
                    row |= {f"{name}_low_ms": low, f"{name}_high_ms": high}
            rows[route] = row
        table = pd.DataFrame.from_dict(rows, orient="index")
        table.index.name = "route"
        return table.astype(dict.fromkeys(table.columns[2:], float))

    def throughput(self) -> pd.DataFrame:
        """Return one row per second of the load, indexed by `t_s`: planned_per_s, ok_per_s, failed_per_s.

        `planned_per_s` and `failed_per_s` count by planned start, `ok_per_s` by the time of the response.
        """
        done = self._view.done
        seconds = np.arange(int(np.ceil(self.windows.load_s)))
        good = done["outcome"] == columns.OK
        ended_s = done["due_s"] + done["response_ms"] / 1000.0

        def per_second(times: Any) -> np.ndarray:
            return np.histogram(times, bins=[*seconds, len(seconds)])[0].astype(float)

        return pd.DataFrame({"planned_per_s": per_second(done["due_s"]), "ok_per_s": per_second(ended_s[good]),
                             "failed_per_s": per_second(done["due_s"][~good])}, index=pd.Index(seconds, name="t_s"))

    def cpu(self, by_second: bool = False) -> pd.DataFrame:
        """Return the CPU of each process, largest first: mean_cores and share_percent (of all CPU that was used).

        The mean is over steady time. `by_second`: instead, one row per second, indexed by `t_s`, one column per process,
        in cores.
        """
        rows = self.record.series
        rows = rows[(rows["name"] == "cpu_cores") & (rows["t_s"] >= 0) & (rows["t_s"] < self.windows.load_s)]
        wide = rows.assign(t_s=np.floor(rows["t_s"])).pivot_table(index="t_s", columns="node", values="value")
        steady = wide[operations.inside(wide.index.to_numpy(dtype=float), operations.steady(self.windows))]
        means = (steady if len(steady) else wide).mean().sort_values(ascending=False)
        if by_second:
            wide = wide[means.index]
            return wide.rename(columns={name: f"{name}_cores" for name in wide.columns}).rename_axis(columns=None)
        return pd.DataFrame({"mean_cores": means, "share_percent": 100.0 * means / means.sum()}).rename_axis("process")

    def history(self) -> pd.DataFrame:
        """Return one row per operation, by planned start.

        Columns: route, user, due_s, lag_ms (planned start to send), response_ms (from the planned start), service_ms
        (from the send), outcome (ok, fail, info), status, attempts, source (of a page: hit, rebuild, direct or tail;
        ',pull' if pulled authors were merged).
        """
        names = ["route", "user", "due_s", "lag_ms", "response_ms", "service_ms", "outcome", "status", "attempts", "source"]
        return self._view.done[names].reset_index(drop=True)

    def objectives(self) -> pd.DataFrame:
        """Return one row per objective: text, verdict, value and bound in SI units (s, fractions), n operations."""
        return pd.DataFrame(self.record.document["objectives"]).reindex(columns=["text", "verdict", "value", "bound", "n"])

    def responses_ms(self, route: str = "", window: str = "steady") -> np.ndarray:
        """Return the response times of the OK operations of a route, shape (n,), ms. `route`: "" for the headline."""
        _one_of("window", window, ("steady", "whole"))
        done = self._view.done
        rows = done[(done["route"] == self.route_of(route)) & (done["outcome"] == columns.OK)]
        if window == "steady":
            rows = rows[operations.inside(rows["due_s"].to_numpy(), operations.steady(self.windows))]
        return rows["response_ms"].dropna().to_numpy()

    def route_of(self, route: str = "") -> str:
        """Return `route`, or the headline route for "". Raises WrongInput if the run has no operation of it."""
        if not route:
            return self.headline
        _one_of("route", route, tuple(self._view.routes))
        return route

    # ---- comparison and files ----------------------------------------------------------------------------

    def compare(self, other: Run, route: str = "") -> Any:
        """Return a figure of both latency distributions, with the difference of each percentile of `other` to this run."""
        return RunPlots(self).against(other, route)

    def differences(self, other: Run) -> pd.DataFrame:
        """Return one row per route that both have: each statistic of `other` relative to this run, percent.

        Columns: mean_percent, p50_percent, p95_percent, p99_percent. Positive: `other` is slower.
        """
        mine, others = self.latency(), other.latency()
        routes = [route for route in mine.index if route in others.index]
        names = ("mean", "p50", "p95", "p99")
        return pd.DataFrame({f"{name}_percent": 100.0 * (others.loc[routes, f"{name}_ms"] / mine.loc[routes, f"{name}_ms"] - 1)
                             for name in names})

    def save(self, runs: Path = home.RUNS) -> Path:
        """Write record and report to a new folder below `runs` (once), and return it."""
        if self._parts is not None:
            run = record.write(runs, self._parts)
            render.write(run)
            self.record, self._parts, self._view = run, None, view.View(run)
        return self.record.path

    def __repr__(self) -> str:
        totals = self.record.summary["totals"]
        return f"<Run {self.scenario}: {self.label}, {self.verdict}, {totals['planned']} operations>"

    def _repr_html_(self) -> str:
        shown = self.latency().round({"errors_percent": 2}).round(1)
        return (f"<p><b>{self.scenario}</b>: {self.verdict}, {self.label}</p>" + shown.to_html(border=0)
                + "".join(f"<p>{remark}</p>" for remark in self.remarks))


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise WrongInput(f"{name} is {value!r}; it must be one of {', '.join(allowed)}.")
