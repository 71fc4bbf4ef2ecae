"""How each fault of a run ended: recovered in time or not, how long users had no service, what was lost.

    time to recovery   from the end of the fault (undo of a held one, injection of an instant one) until its
    recovery probe holds RTO                zones and regions: whole seconds from the injection to the first
    second in which at least 99 % of the
                       operations due were answered well, in it and in every later second, until the load ends
                       or the next fault is injected. Seconds without an operation and answers 429 (a rate
                       limit of the scenario) do not count
    RPO                zones and regions: facts that were acknowledged and are not in the stores at the end,
    per kind of data

A fault whose whole span of recovery was observed without recovery fails the run, whatever the objectives say.
One whose observation ended earlier is unknown. One that is meant to last until the end of the load has
nothing to recover from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from reports import columns, facts
from reports.judge import verdict
from scenarios import vocabulary

SUCCESS_PERCENT = 99  # of the operations due in a second; also the goodput below which a run is overloaded
REFUSED = 429


def judge(
    given: facts.Facts, findings: Sequence[Mapping[str, Any]], done: pd.DataFrame
) -> list[dict[str, Any]]:
    """Return one entry a fault of `given.windows`, in their order; times in seconds, None where unknown.

    `findings`: the invariants, whose `kept` holds what was acknowledged and lost. `done`: operations.
    """
    return [_entry(one, given, findings, done) for one in given.windows.faults]


def _entry(
    one: facts.FaultWindow, given: facts.Facts, findings: Sequence[Mapping[str, Any]], done: pd.DataFrame
) -> dict[str, Any]:
    kind = vocabulary.FAULT_KINDS.get(one.kind)
    word, note = verdict_of(one, given.windows.load_s)
    is_area = kind is not None and kind.is_area
    later = [each.start_s for each in given.windows.faults if each.start_s > one.start_s]
    outage = rto(done, one.start_s, min([*later, given.windows.load_s])) if is_area else {}
    return {
        "name": f"{one.kind} of {one.target}",
        "kind": one.kind,
        "target": one.target,
        "verdict": word,
        "recovers_within_s": span_s(one),
        "time_to_recovery_s": None if one.recovered_s is None else max(0.0, one.recovered_s - _ended_s(one)),
        "rto_s": outage.get("rto_s"),
        "rto_at_least_s": outage.get("rto_at_least_s"),
        "first_success_s": outage.get("first_success_s"),
        "rpo": rpo(findings) if is_area and given.kind == "system" else None,
        "note": note,
    }


def span_s(one: facts.FaultWindow) -> float | None:
    """Return how long the recovery of a fault may take; of an unknown kind that did not record it, None."""
    if one.recovers_within_s is not None:
        return one.recovers_within_s
    kind = vocabulary.FAULT_KINDS.get(one.kind)
    return None if kind is None else kind.recovers_within_s


def verdict_of(one: facts.FaultWindow, load_s: float) -> tuple[str, str]:
    """Return the verdict on a fault's recovery and the sentence that explains it."""
    within_s = span_s(one)
    if one.void:
        return verdict.UNKNOWN, f"the fault proves nothing: {one.void}"
    if lasts_to_end(one, load_s):
        return verdict.NOT_APPLICABLE, "the fault is meant to last until the end of the load"
    if one.recovered_s is not None:
        took_s = one.recovered_s - max(one.start_s, one.end_s or 0.0)
        if within_s is not None and took_s > within_s:
            return verdict.FAIL, f"recovered only after {took_s:.4g} s; {within_s:g} s were allowed"
        return verdict.PASS, ""
    if within_s is None:
        return verdict.UNKNOWN, f"the fault {one.kind!r} has no known time in which it recovers"
    observed_s = (load_s if one.observed_until_s is None else one.observed_until_s) - _due_end_s(one)
    if observed_s >= within_s - 1e-6:
        return verdict.FAIL, f"did not recover within {within_s:g} s"
    into = f"{max(0.0, observed_s):.4g} s into the {within_s:g} s that it may take"
    return verdict.UNKNOWN, f"was not recovered when the run ended, {into}"


def lasts_to_end(one: facts.FaultWindow, load_s: float) -> bool:
    """Say whether a fault is held, by plan, until the end of the load or longer."""
    if not one.held:
        return False
    end_s = one.end_s if one.planned_end_s is None else one.planned_end_s
    return end_s is None or end_s >= load_s - 1e-6


def _ended_s(one: facts.FaultWindow) -> float:
    return one.end_s if one.held and one.end_s is not None else one.start_s


def _due_end_s(one: facts.FaultWindow) -> float:
    """When the fault was to end; a slow injection or undo does not shorten the time that it was observed."""
    return _ended_s(one) if one.planned_end_s is None else one.planned_end_s


def rto(done: pd.DataFrame, start_s: float, until_s: float) -> dict[str, float | None]:
    """Return the seconds without service after `start_s`, as this module's head defines them.

    `rto_s`: None where the last second with operations is not answered well, or none has any;
    `rto_at_least_s` is then the time that was observed. `first_success_s`: the first good second, whether or
    not it stays so.
    """
    due_s = done["due_s"].to_numpy(dtype=np.float64)
    due = (due_s >= start_s) & (due_s < until_s) & (done["status"] != REFUSED).to_numpy()
    if not due.any():
        return {"rto_s": None, "rto_at_least_s": None, "first_success_s": None}
    second = np.floor(due_s[due] - start_s).astype(np.int64)
    answered = (done["outcome"] == columns.OK).to_numpy()[due]
    planned, ok = np.bincount(second), np.bincount(second, weights=answered).astype(np.int64)
    good = ok * 100 >= planned * SUCCESS_PERCENT
    bad, fine = np.flatnonzero(~good), np.flatnonzero(good & (planned > 0))
    first = float(fine[0]) if len(fine) else None
    resumed_s = float(bad[-1] + 1) if len(bad) else 0.0
    stays = len(fine) > 0 and fine[-1] >= resumed_s
    return {
        "rto_s": resumed_s if stays else None,
        "rto_at_least_s": None if stays else resumed_s,
        "first_success_s": first,
    }


def rpo(findings: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, int]] | None:
    """Return kind of data -> acknowledged facts that were looked for and lost ones; None where none was."""
    kept: dict[str, dict[str, int]] = {}
    for finding in findings:
        kept.update(
            {kind: dict(counts) for kind, counts in finding.get("kept", {}).items() if counts["acknowledged"]}
        )
    return kept or None


def words_of(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the verdicts that count for the run: a recovery that was seen is no reason to pass one."""
    return [one["verdict"] for one in entries if one["verdict"] in (verdict.UNKNOWN, verdict.FAIL)]
