"""Rows about scaling out: one run in which the load doubles instantly, each instance with its own CPU quota."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from reports import columns
from reports.judge import validity
from reports.stats import histogram
from scenarios import bounds, loader
from system.kernel.errors import CouldNotRun
from tweetlab.lab import session
from tweetlab.run import runner
from tweetlab.terminal import Screen

STEP_S, AFTER_S = 30.0, 60.0
BOUND_MS = 250.0  # p99 of home reads, the objective of `first_run`
WINDOW_S = 3.0    # of one p99: about 400 reads
CALM_S = 10.0     # p99 must hold this long to count as recovered
DOUBLING = [
    # A read takes about 0.7 ms of CPU in a gateway at this rate: 60 % of 0.2 core before the step, 120 % after.
    "workload.stages=[{for: 30 s, rate: 175/s}, {for: 60 s, rate: 350/s}]", "workload.mix={home: 100}",
    "policies.autoscale={max: 4, cpu: 70 %, in_flight: 12, cool_down: 3 s}", "objectives=[home p99 <= 250 ms steady]",
]

_doubled: tuple[float, float] | None = None


async def doubled() -> tuple[float, float]:
    """Return (seconds until p99 meets its objective again, failed operations); measured once per process.

    Raises CouldNotRun if the run is inconclusive: p99 missed its objective before the step, CPU was stolen
    from the machine, or no instance joined after the step.
    """
    global _doubled
    if _doubled is None:
        scenario = loader.load("evening_spike", DOUBLING)
        async with session.opened(Screen(), scenario.platform, scenario.policies) as lab:
            if lab.lab.accounting() == "none":
                raise CouldNotRun("This user cannot create control groups, so instances have no CPU quota. To fix: run as root.")
            facts = await runner.run(lab, scenario, "bench scale_out_s", check=False)
        history = facts.history
        due_s = (history["due_ns"].to_numpy(dtype=np.float64) - facts.windows.start_ns) / 1e9
        took_ms = (history["done_ns"].to_numpy(dtype=np.float64) - history["due_ns"].to_numpy(dtype=np.float64)) / 1e6
        good = (history["outcome"] == columns.OK).to_numpy()
        before = (due_s >= STEP_S - CALM_S) & (due_s < STEP_S)
        took_ms[~good] = np.inf  # an operation without an ok reply is slower than any bound
        steal = float(facts.host.get("steal", 0.0))
        check_shows(took_ms[before], facts.series, steal, scenario.cpu_quota or 1.0)
        _doubled = recovered_s(due_s, took_ms, STEP_S), float((~good).sum())
    return _doubled


def check_shows(before_ms: npt.NDArray[np.float64], series: pd.DataFrame | None, steal: float, quota: float) -> None:
    """Raise CouldNotRun if a run is inconclusive about scaling out.

    `before_ms`: response times right before the step, infinite without an ok reply. `series`: the run's
    samples. `steal`: share of the machine's CPU time. `quota`: cores per instance. The instances before the
    step must be too few for twice the load, since otherwise 0 s would be trivial.
    """
    if not _holds(before_ms):
        raise CouldNotRun(f"p99 of home reads was not under {BOUND_MS:g} ms before the load doubled; is the machine busy?")
    if not bounds.holds(steal, "<=", validity.STEAL_SHARE):
        raise CouldNotRun(f"CPU was taken away from the machine (steal {steal:.1%}); at most {validity.STEAL_SHARE:.0%} is "
                          "accepted.")
    if series is None or not _grown(series[series["name"] == "instances"]):
        raise CouldNotRun("No instance joined after the load doubled: this machine sustains it with the instances before. "
                          "To fix: raise the rates in DOUBLING.")
    need = 2 * _busiest(series) / quota
    if need <= 1.0:
        raise CouldNotRun(f"Twice the load needs {need:.0%} of the instances that existed before, so they sustain it. "
                          "To fix: raise the rates in DOUBLING.")


def _busiest(series: pd.DataFrame) -> float:
    """Return the cores that an instance of the busiest service used right before the step."""
    last = series[(series["t_s"] >= STEP_S - CALM_S) & (series["t_s"] < STEP_S)]
    scaled = set(last[last["name"] == "instances"]["node"])
    used = last[last["name"] == "cpu_cores"].groupby("node")["value"].mean()
    per_service = used.groupby(used.index.str.rpartition("-").get_level_values(0)).mean()
    return float(per_service[per_service.index.isin(scaled)].max())


def _grown(counts: pd.DataFrame) -> list[str]:
    """Return the services that had more instances after the step than ever before it."""
    after = counts["t_s"] > STEP_S
    return [str(node) for node, rows in counts.groupby("node")
            if rows["value"][after].max() > rows["value"][~after].max()]


def recovered_s(due_s: npt.NDArray[np.float64], took_ms: npt.NDArray[np.float64], step_s: float) -> float:
    """Return the seconds from `step_s` until the p99 of every window in the next `CALM_S` is within `BOUND_MS`; NaN: never.

    `due_s`, `took_ms`: shape (n,), intended start and response time of each operation; infinite without an
    ok reply.
    """
    starts = np.arange(0.0, AFTER_S - WINDOW_S + 0.5, 0.5)
    holds = [_holds(took_ms[(due_s >= step_s + at) & (due_s < step_s + at + WINDOW_S)]) for at in starts]
    run = int(CALM_S / 0.5)
    for index in range(len(holds) - run + 1):
        if all(holds[index:index + run]):
            return float(starts[index])
    return float("nan")


def _holds(took_ms: npt.NDArray[np.float64]) -> bool:
    return len(took_ms) > 0 and bounds.holds(histogram.percentile(took_ms, 0.99), "<=", BOUND_MS)
