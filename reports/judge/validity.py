"""The validity of a run: whether its measurement can be trusted, checked before the system is judged.

VOID: the measurement cannot be trusted (the generator was late, samples were lost, ...). OVERLOADED: the
numbers are valid, but the offered load exceeded capacity: no PASS, unless the scenario sets `expect_overload:
true`. Notes are informational. Every criterion has a value, a bound and, if it does not hold, a fix. If a
real run did not record a value, the criterion on it does not hold. A twin has no generator, host or steal
time; those criteria are omitted for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd

from reports import accounts, columns, facts, operations
from reports.judge import verdict
from reports.stats import histogram
from scenarios import bounds

# Decimal, so that a share of 3 of 30 is not above 10 %: see `scenarios.bounds`.
EMPTY_PAGES = Decimal("0.10")  # of home reads; users who follow nobody are rare in every shipped population
GENERATOR_SHARE = Decimal("0.80")  # of one core; above it, a Python event loop is late during bursts
STEAL_SHARE = Decimal("0.01")  # of the machine's time
LAG_FLOOR_MS = Decimal("3")  # a Python generator at 100/s on two cores has a start lag of 2-3 ms at p99
LAG_SHARE = Decimal("0.05")  # of the reported p99
GOODPUT = Decimal("0.99")  # share of the offered load
CPU_DROPPED = Decimal(str(accounts.MOST_DROPPED))  # share of the windows in which other programs used CPU
RISE_S = Decimal("0.1")  # waiting time; a queue that grows by less than this over a stage is no overload
RISE_T = 2.7637694581  # of the slope of the number in flight: p = 0.01 of Student's t with BLOCKS - 2 degrees, one-sided
BLOCKS = 12  # the slope test uses block means of the number in flight: valid under autocorrelation

VOIDS, OVERLOADS, NOTES = "void", "overload", "note"

Criterion = dict[str, Any]
Rule = Callable[[facts.Facts, Mapping[str, Any], pd.DataFrame], Criterion | None]


def _criterion(
    name: str, kind: str, value: Any, bound: str, holds: bool | None, fix: str, unit: str = ""
) -> Criterion:
    return {
        "name": name,
        "kind": kind,
        "value": value,
        "unit": unit,
        "bound": bound,
        "holds": holds,
        "fix": "" if holds else fix,
    }


def _measured(
    name: str,
    kind: str,
    value: bounds.Number | None,
    bound: str,
    holds: bool | None,
    fix: str,
    unit: str,
    limit: bounds.Number,
) -> Criterion:
    """Return a criterion on a number.

    `value`: in `unit`, unrounded. `limit`: the number in `bound`, in `unit`, from which a display derives the
    number of digits that distinguish value and limit.
    """
    number = None if value is None else float(value)
    return {**_criterion(name, kind, number, bound, holds, fix, unit), "limit": float(limit)}


def _finished(run_facts: facts.Facts, summary: Mapping[str, Any], done: pd.DataFrame) -> Criterion:
    fix = "the run was interrupted; let it run to its end"
    return _criterion("ran to its end", VOIDS, not run_facts.interrupted, "yes", not run_facts.interrupted, fix)


def _operations(run_facts: facts.Facts, summary: Mapping[str, Any], done: pd.DataFrame) -> Criterion:
    n = int(summary["totals"]["sent"])
    fix = "nothing was sent: check the generator's log in logs/"
    return _criterion("operations sent", VOIDS, n, ">= 1", n >= 1, fix)


def _smoke(run_facts: facts.Facts, summary: Mapping[str, Any], done: pd.DataFrame) -> Criterion:
    value = run_facts.generator.smoke_ok
    why = run_facts.generator.smoke_note or "no smoke journey was recorded"
    fix = f"{why}; run `tweetlab status` and repeat the failing call by hand"
    return _criterion("smoke journey", VOIDS, value, "passes", value is True, fix)


def _pages(run_facts: facts.Facts, summary: Mapping[str, Any], done: pd.DataFrame) -> Criterion:
    read, empty = summary["pages"]["read"], summary["pages"]["empty"]
    share = Fraction(empty, read) if read else None
    fix = "the population is not seeded, or users follow nobody: run `tweetlab seed` and check follows.mean"
    holds = None if share is None else bounds.holds(share, "<=", EMPTY_PAGES)
    bound = f"<= {EMPTY_PAGES:.0%}"
    return _measured("empty home pages", VOIDS, share, bound, holds, fix, "share", EMPTY_PAGES)


def _lost(run_facts: facts.Facts, summary: Mapping[str, Any], done: pd.DataFrame) -> Criterion:
    lost = run_facts.generator.lost
    if lost is None and run_facts.kind != "system":
        lost = int(summary["totals"]["planned"]) - len(done)
    fix = "planned operations have no row: lower workload.rate or give the generator a core of its own"
    return _criterion("samples lost", VOIDS, lost, "0", lost == 0, fix)


def _generator(run_facts: facts.Facts, summary: Mapping[str, Any], done: pd.DataFrame) -> Criterion:
    share = run_facts.generator.cpu_share
    fix = "lower workload.rate, or run the generator on more cores"
    holds = share is not None and bounds.holds(share, "<=", GENERATOR_SHARE)
    bound = f"<= {GENERATOR_SHARE:.0%} of a core"
    return _measured("generator CPU", VOIDS, share, bound, holds, fix, "share", GENERATOR_SHARE)


def _steal(run_facts: facts.Facts, summary: Mapping[str, Any], done: pd.DataFrame) -> Criterion:
    share = run_facts.host.get("steal")
    fix = "other machines share these cores: run again at a quieter time or on a dedicated machine"
    holds = share is not None and bounds.holds(share, "<=", STEAL_SHARE)
    return _measured("steal time", VOIDS, share, f"<= {STEAL_SHARE:.0%}", holds, fix, "share", STEAL_SHARE)


def _lag(run_facts: facts.Facts, summary: Mapping[str, Any], done: pd.DataFrame) -> Criterion:
    lag_ns = done["lag_ns"].to_numpy()[done["lag_ms"].notna().to_numpy()]
    steady = done[["outcome", "response_ns"]][
        operations.inside(done["due_s"].to_numpy(), operations.steady(run_facts.windows))
    ]
    good_ns = steady[(steady["outcome"] == columns.OK) & (steady["response_ns"] >= 0)]["response_ns"].to_numpy()
    p99_ms = _p99_ms(good_ns) or Fraction(0)
    bound_ms = max(bounds.exact(LAG_FLOOR_MS), bounds.exact(LAG_SHARE) * p99_ms)
    lag_ms = _p99_ms(lag_ns)
    fix = "requests started late: lower workload.rate, stop other work here, or run as root (SCHED_FIFO)"
    holds = lag_ms is not None and bounds.holds(lag_ms, "<=", bound_ms)
    bound = f"<= {float(bound_ms):.3g} ms"
    return _measured("start lag p99", VOIDS, lag_ms, bound, holds, fix, "ms", bound_ms)


def _p99_ms(values_ns: Any) -> Fraction | None:
    """Return the nearest-rank p99 of integer nanoseconds, shape (n,), in exact ms; None if there are none."""
    if len(values_ns) == 0:
        return None
    at = histogram.rank(len(values_ns), 0.99) - 1
    return Fraction(int(np.partition(values_ns, at)[at]), operations.NS_PER_MS)


def _goodput(run_facts: facts.Facts, summary: Mapping[str, Any], done: pd.DataFrame) -> Criterion:
    steady = summary["totals"]["steady"]
    offered = steady["planned"] - steady["refused"]  # a refusal that the scenario configures is no overload
    share = Fraction(steady["ok"], offered) if offered > 0 else None
    fix = "goodput is below the offered load: lower workload.rate, or add capacity where CPU is saturated"
    holds = None if share is None else bounds.holds(share, ">=", GOODPUT)
    bound = f">= {GOODPUT:.0%} of offered"
    return _measured("goodput (steady)", OVERLOADS, share, bound, holds, fix, "share", GOODPUT)


def _rising(run_facts: facts.Facts, summary: Mapping[str, Any], done: pd.DataFrame) -> Criterion:
    rises = [rise for span in _level_spans(run_facts.windows) if (rise := rise_s(done, span)) is not None]
    worst = max(rises) if rises else None
    fix = "the queue grew during a stage of constant rate: lower workload.rate, or add capacity"
    holds = None if worst is None else bounds.holds(worst, "<=", RISE_S)
    name = "growth of the queue over a stage"
    return _measured(name, OVERLOADS, worst, f"<= {RISE_S:g} s of waiting", holds, fix, "s", RISE_S)


def _cpu_closes(run_facts: facts.Facts, summary: Mapping[str, Any], done: pd.DataFrame) -> Criterion:
    spans = [(stage.start_s, stage.end_s) for stage in run_facts.windows.stages] or [(0.0, run_facts.windows.load_s)]
    found = None if run_facts.series is None else accounts.of_run(run_facts.series, spans)
    dropped = None if found is None or not len(found.closed) else found.dropped
    fix = "other programs used CPU: stop them before a measurement that is compared or predicted" + _named(run_facts)
    holds = None if dropped is None else bounds.holds(dropped, "<=", CPU_DROPPED)
    bound = f"<= {CPU_DROPPED:.0%} of {accounts.WINDOW_S:g} s windows"
    return _measured("CPU accounts do not close", NOTES, dropped, bound, holds, fix, "share", CPU_DROPPED)


def _named(run_facts: facts.Facts) -> str:
    """Return the programs that used most, as a clause; "" if none are known."""
    programs = run_facts.platform.get("foreign_programs") or ()
    listed = ", ".join(f"{one['command']} ({one['core_s']:g} core s)" for one in programs)
    return f"; most was used by {listed}" if listed else ""


def _faults(run_facts: facts.Facts, summary: Mapping[str, Any], done: pd.DataFrame) -> Criterion | None:
    """A fault that did not take effect proves nothing. None if no fault was planned."""
    if not run_facts.faults:
        return None
    ineffective = [entry for entry in run_facts.faults if entry.get("void")]
    fix = "; ".join(f"{entry['kind']} on {entry['target']}: {entry['void']}" for entry in ineffective)
    return _criterion("faults without effect", VOIDS, len(ineffective), "0", not ineffective, fix)


def _quota(run_facts: facts.Facts, summary: Mapping[str, Any], done: pd.DataFrame) -> Criterion | None:
    """Without the quota, an instance adds no capacity: two on shared cores handle no more load than one."""
    quota = dict(run_facts.scenario_doc.get("resolved", {})).get("cpu_quota")
    if quota is None:
        return None
    holds = run_facts.platform.get("control_groups") in ("v1", "v2")
    cause = f"this user cannot create control groups, so no instance was limited to {quota:g} core"
    fix = f"{cause}; run as root for a scaling verdict"
    return _criterion("CPU quota in force", VOIDS, holds, "yes", holds, fix)


SYSTEM_CRITERIA: tuple[Rule, ...] = (
    _finished, _operations, _smoke, _pages, _lost, _faults, _quota, _generator, _steal, _lag, _goodput, _rising,
    _cpu_closes,
)  # fmt: skip
TWIN_CRITERIA: tuple[Rule, ...] = (_finished, _operations, _lost, _goodput, _rising)


def judge(run_facts: facts.Facts, summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return the `validity` block: verdict VALID, OVERLOADED or VOID, and every criterion."""
    done = run_facts.operations
    rules = SYSTEM_CRITERIA if run_facts.kind == "system" else TWIN_CRITERIA
    criteria = [result for rule in rules if (result := rule(run_facts, summary, done)) is not None]
    broken = {criterion["kind"] for criterion in criteria if criterion["holds"] is False}
    word = verdict.VOID if VOIDS in broken else verdict.OVERLOADED if OVERLOADS in broken else verdict.VALID
    return {"verdict": word, "criteria": criteria}


def expects_overload(scenario_doc: Mapping[str, Any]) -> bool:
    """Return whether the scenario of a record sets `expect_overload: true`; False if the record lacks that key."""
    return bool((scenario_doc.get("resolved") or {}).get("expect_overload", False))


def overloads(self_check: Mapping[str, Any]) -> list[Criterion]:
    """Return the broken criteria of a `validity` block that indicate an overload."""
    return [one for one in self_check["criteria"] if one["holds"] is False and one.get("kind") == OVERLOADS]


def _level_spans(windows: facts.Windows) -> list[operations.Span]:
    """Return the steady spans at a constant rate; without stages, the second half of the longest steady span."""
    steady = operations.steady(windows)
    level = [stage for stage in windows.stages if stage.rate_from_per_s == stage.rate_to_per_s]
    if windows.stages:
        overlaps = [
            operations.Span(max(span.start_s, stage.start_s), min(span.end_s, stage.end_s))
            for stage in level
            for span in steady
        ]
        return [overlap for overlap in overlaps if overlap.length_s > 0]
    if not steady:
        return []
    longest = max(steady, key=lambda span: span.length_s)
    return [operations.Span((longest.start_s + longest.end_s) / 2, longest.end_s)]


def in_flight(done: pd.DataFrame, at_s: np.ndarray) -> np.ndarray:
    """Return the operations due and not yet ended at each time of `at_s`, shape (n,).

    Operations that never end stay in flight.
    """
    due = np.sort(done["due_s"].to_numpy())
    ends = done["due_s"].to_numpy() + done["response_ms"].to_numpy() / 1000
    ended = np.sort(ends[~np.isnan(ends)])
    return np.searchsorted(due, at_s, "right") - np.searchsorted(ended, at_s, "right")


def rise_s(done: pd.DataFrame, span: operations.Span) -> float | None:
    """Return the waiting time (s, by Little's law) by which the number in flight grew over `span`.

    0 if its slope is not significantly positive; None if the span is shorter than 6 s or has fewer than 60
    operations.
    """
    n = int(operations.inside(done["due_s"].to_numpy(), [span]).sum())
    if span.length_s < 6 or n < 60:
        return None
    moments = np.arange(span.start_s, span.end_s, 0.05)
    blocks = np.array_split(moments, BLOCKS)
    means = np.asarray([counts.mean() for counts in np.array_split(in_flight(done, moments), BLOCKS)])
    middles = np.asarray([moments.mean() for moments in blocks])
    x, y = middles - middles.mean(), means - means.mean()
    slope = (x @ y) / (x @ x)
    rest = y @ y - slope * (x @ y)  # what the line does not explain
    if slope <= 0 or slope < RISE_T * math.sqrt(max(rest, 0.0) / ((BLOCKS - 2) * (x @ x))):
        return 0.0
    rate_per_s = n / span.length_s
    return float(slope * span.length_s / rate_per_s)
