"""The recovery from each fault of a run: in time or not, how long the service was down, what was lost.

    time to recovery   from the end of the fault (undo of a held one, injection of an instant one) until its
                       recovery probe succeeds
    RTO                zones and regions only: measured, in whole seconds from the injection until service is
                       back for good: from then until the load ends or the next fault is injected, at least
                       99 % of the operations due in each second succeed. Seconds without operations are
                       ignored, and so are 429 responses (a rate limit of the scenario)
    RPO                zones and regions only: measured, as acknowledged writes that are not in the stores at
                       the end, per kind of data

A fault that did not recover although its whole recovery time was observed fails the run, whatever the
objectives. If observation ended earlier, the recovery is unknown. Recovery does not apply to a fault that is
meant to last until the end of the load.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from reports import columns, facts
from reports.judge import verdict
from scenarios import vocabulary

SUCCESS_PERCENT = 99  # of the operations due in a second; also the goodput below which a run is OVERLOADED
REFUSED = 429


def judge(
    run_facts: facts.Facts, findings: Sequence[Mapping[str, Any]], done: pd.DataFrame
) -> list[dict[str, Any]]:
    """Return one entry per fault of `run_facts.windows`, in their order; times in seconds, None if unknown.

    `findings`: the invariants, whose `kept` has the acknowledged and lost writes. `done`: the operations.
    """
    return [_entry(fault, run_facts, findings, done) for fault in run_facts.windows.faults]


def _entry(
    fault: facts.FaultWindow, run_facts: facts.Facts, findings: Sequence[Mapping[str, Any]], done: pd.DataFrame
) -> dict[str, Any]:
    kind = vocabulary.FAULT_KINDS.get(fault.kind)
    word, note = verdict_of(fault, run_facts.windows.load_s)
    is_domain = kind is not None and kind.is_domain
    later = [other.start_s for other in run_facts.windows.faults if other.start_s > fault.start_s]
    outage = rto(done, fault.start_s, min([*later, run_facts.windows.load_s])) if is_domain else {}
    recovered_s = fault.recovered_s
    return {
        "name": f"{fault.kind} of {fault.target}",
        "kind": fault.kind,
        "target": fault.target,
        "verdict": word,
        "recovers_within_s": allowed_s(fault),
        "time_to_recovery_s": None if recovered_s is None else max(0.0, recovered_s - _ended_s(fault)),
        "rto_s": outage.get("rto_s"),
        "rto_at_least_s": outage.get("rto_at_least_s"),
        "first_success_s": outage.get("first_success_s"),
        "rpo": rpo(findings) if is_domain and run_facts.kind == "system" else None,
        "note": note,
    }


def allowed_s(fault: facts.FaultWindow) -> float | None:
    """Return how long the recovery from a fault may take, s; None for an unknown kind without a recorded time."""
    if fault.recovers_within_s is not None:
        return fault.recovers_within_s
    kind = vocabulary.FAULT_KINDS.get(fault.kind)
    return None if kind is None else kind.recovers_within_s


def verdict_of(fault: facts.FaultWindow, load_s: float) -> tuple[str, str]:
    """Return the verdict on a fault's recovery and the sentence that explains it."""
    within_s = allowed_s(fault)
    if fault.void:
        return verdict.UNKNOWN, f"the fault proves nothing: {fault.void}"
    if lasts_to_end(fault, load_s):
        return verdict.NOT_APPLICABLE, "the fault is meant to last until the end of the load"
    if fault.recovered_s is not None:
        took_s = fault.recovered_s - max(fault.start_s, fault.end_s or 0.0)
        if within_s is not None and took_s > within_s:
            return verdict.FAIL, f"recovered only after {took_s:.4g} s; {within_s:g} s were allowed"
        return verdict.PASS, ""
    if within_s is None:
        return verdict.UNKNOWN, f"the fault {fault.kind!r} has no known recovery time"
    observed_s = (load_s if fault.observed_until_s is None else fault.observed_until_s) - _due_end_s(fault)
    if observed_s >= within_s - 1e-6:
        return verdict.FAIL, f"did not recover within {within_s:g} s"
    into = f"{max(0.0, observed_s):.4g} s into the allowed {within_s:g} s"
    return verdict.UNKNOWN, f"was not recovered when the run ended, {into}"


def lasts_to_end(fault: facts.FaultWindow, load_s: float) -> bool:
    """Return whether a fault is held, by plan, until the end of the load or longer."""
    if not fault.held:
        return False
    end_s = fault.end_s if fault.planned_end_s is None else fault.planned_end_s
    return end_s is None or end_s >= load_s - 1e-6


def _ended_s(fault: facts.FaultWindow) -> float:
    return fault.end_s if fault.held and fault.end_s is not None else fault.start_s


def _due_end_s(fault: facts.FaultWindow) -> float:
    """Return when the fault was planned to end: slow injection or undo does not shorten the observed time."""
    return _ended_s(fault) if fault.planned_end_s is None else fault.planned_end_s


def rto(done: pd.DataFrame, start_s: float, until_s: float) -> dict[str, float | None]:
    """Return the seconds without service after `start_s`, as defined in this module's docstring.

    `rto_s`: None if the last second with operations is not good, or if there are no operations;
    `rto_at_least_s` is then the observed time (None without operations). `first_success_s`: the first good second,
    whether or not later ones are good, too.
    """
    due_s = done["due_s"].to_numpy(dtype=np.float64)
    due = (due_s >= start_s) & (due_s < until_s) & (done["status"] != REFUSED).to_numpy()
    if not due.any():
        return {"rto_s": None, "rto_at_least_s": None, "first_success_s": None}
    second = np.floor(due_s[due] - start_s).astype(np.int64)
    answered = (done["outcome"] == columns.OK).to_numpy()[due]
    planned, ok = np.bincount(second), np.bincount(second, weights=answered).astype(np.int64)
    is_good = ok * 100 >= planned * SUCCESS_PERCENT
    bad, good = np.flatnonzero(~is_good), np.flatnonzero(is_good & (planned > 0))
    first = float(good[0]) if len(good) else None
    resumed_s = float(bad[-1] + 1) if len(bad) else 0.0
    recovered = len(good) > 0 and good[-1] >= resumed_s
    return {
        "rto_s": resumed_s if recovered else None,
        "rto_at_least_s": None if recovered else resumed_s,
        "first_success_s": first,
    }


def rpo(findings: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, int]] | None:
    """Return kind of data -> counts of acknowledged and of lost writes; None if none were looked for."""
    kept: dict[str, dict[str, int]] = {}
    for finding in findings:
        kept.update(
            {kind: dict(counts) for kind, counts in finding.get("kept", {}).items() if counts["acknowledged"]}
        )
    return kept or None


def deciding_verdicts(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the verdicts that count for the run: unknown and fail. A recovery alone does not make a run pass."""
    return [one["verdict"] for one in entries if one["verdict"] in (verdict.UNKNOWN, verdict.FAIL)]
