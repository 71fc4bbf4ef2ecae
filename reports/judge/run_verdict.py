"""The verdict of a run: first its own validity, then the system's objectives and invariants.

The invariants' verdicts come from the checkers, with one rule added: a pass that checked nothing is unknown.
A fault that did not recover counts, too (`recovery`). An OVERLOADED run whose parts all pass is UNKNOWN,
unless its scenario sets `expect_overload: true`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any

from reports import facts
from reports.judge import objectives, recovery, validity, verdict
from reports.stats import digits

SHOWN_VIOLATIONS = 20  # per invariant; the checkers' full lists are in invariants.json


@dataclass(frozen=True)
class Judgment:
    """`verdict`: PASS, FAIL, UNKNOWN or VOID. `decided_by`: the sentence that explains it."""

    validity: dict[str, Any]
    objectives: list[dict[str, Any]]
    invariants: list[dict[str, Any]]
    recovery: list[dict[str, Any]]
    verdict: str
    exit_code: int
    decided_by: str


def judge(run_facts: facts.Facts, summary: Mapping[str, Any]) -> Judgment:
    """Judge one run from its facts and its summary."""
    self_check = validity.judge(run_facts, summary)
    results = objectives.judge(run_facts, summary)
    findings = [finding(one) for one in run_facts.invariants]
    recoveries = recovery.judge(run_facts, findings, run_facts.operations)
    merged = verdict.merge(one["verdict"] for one in [*results, *findings])
    expected = validity.expects_overload(run_facts.scenario_doc)
    word = verdict.of_run(self_check["verdict"], [merged, *recovery.deciding_verdicts(recoveries)], expected)
    reason = _reason(word, self_check, results, findings, recoveries)
    if overloads := validity.overloads(self_check):
        reason = _with_overload(word, reason, overloads, [*results, *findings, *recoveries], expected)
    return Judgment(self_check, results, findings, recoveries, word, verdict.exit_code(word), reason)


def finding(one: Any, shown: int | None = SHOWN_VIOLATIONS) -> dict[str, Any]:
    """Return an invariant's finding (dataclass or mapping) as a block of the record.

    `shown`: the number of violations to keep, None for all. An invalid verdict, and a pass that checked nothing,
    become unknown.
    """
    raw: dict[str, Any] = asdict(one) if is_dataclass(one) and not isinstance(one, type) else dict(one)
    checked, note = int(raw.get("checked", 0)), str(raw.get("note", ""))
    word = str(raw.get("verdict", verdict.UNKNOWN)).lower()
    if word not in verdict.FINDINGS:
        word, note = verdict.UNKNOWN, f"{note} (the checker returned {raw.get('verdict')!r})".strip()
    if word == verdict.PASS and checked == 0:
        word, note = verdict.UNKNOWN, note or "no operation could be checked"
    violations = [str(each) for each in raw.get("violations", ())]
    return {
        "name": str(raw["name"]),
        "verdict": word,
        "checked": checked,
        "violations": violations[:shown],
        "violations_n": len(violations),
        "note": note,
        "kept": {str(kind): dict(counts) for kind, counts in (raw.get("kept") or {}).items()},
    }


def _reason(
    word: str,
    self_check: Mapping[str, Any],
    results: list[dict[str, Any]],
    findings: list[dict[str, Any]],
    recoveries: list[dict[str, Any]],
) -> str:
    """Return the sentence that explains the verdict `word`."""
    if word == verdict.VOID:
        broken = [c for c in self_check["criteria"] if c["holds"] is False and c["kind"] == validity.VOIDS]
        return f"{broken[0]['name']}: {_value_text(broken[0])} (bound {broken[0]['bound']}); {broken[0]['fix']}."
    if word == "PASS":
        return _passed(results, findings)
    unrecovered = [one for one in recoveries if one["verdict"].upper() == word]
    deciding = [one for one in [*findings, *results] if one["verdict"].upper() == word]
    if unrecovered:
        others = f" (and {len(deciding)} more)" if deciding else ""
        return "; ".join(f"{one['name']} {one['note']}" for one in unrecovered) + f"{others}."
    if not deciding:
        checked = "no invariant applies to its plan" if findings else "no invariant was checked"
        return f"Nothing to judge: the scenario has no objectives and {checked}."
    names = [one.get("text") or one["name"].replace("_", " ") for one in deciding]
    why = _why(deciding[0])
    others = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
    outcome = "does not hold" if word == "FAIL" else "is unknown"
    return f"{names[0]} {outcome}{': ' + why.removesuffix('.') if why else ''}{others}."


def _passed(results: list[dict[str, Any]], findings: list[dict[str, Any]]) -> str:
    hold = f"{_count(results, 'objective')} {'holds' if len(results) == 1 else 'hold'}"
    if not findings:
        return f"{hold}; no invariant was checked."
    applicable = [one for one in findings if one["verdict"] != verdict.NOT_APPLICABLE]
    others = len(findings) - len(applicable)
    are = "is" if others == 1 else "are"
    rest = f"; {_count(findings[:others], 'invariant')} {are} not applicable" if others else ""
    if not applicable:
        return f"{hold}{rest}."
    return f"{_count(results, 'objective')} and {_count(applicable, 'invariant')} hold{rest}."


def _why(one: Mapping[str, Any]) -> str:
    """Return an objective's measured value and note, or an invariant's note or first violation."""
    if "op" in one:
        return "; ".join(part for part in (_measured(one), one["note"]) if part)
    return str(one.get("note") or (one.get("violations") or [""])[0])


def _with_overload(
    word: str, reason: str, overloads: list[dict[str, Any]], parts: list[dict[str, Any]], expected: bool
) -> str:
    """Return `reason` with the criteria of an overload, if they affect the verdict."""
    if word not in ("PASS", "UNKNOWN") or (word == "UNKNOWN" and expected):
        return reason
    criteria = "; ".join(f"{one['name']}: {_value_text(one)} (bound {one['bound']})" for one in overloads)
    if word == "PASS":
        return f"{reason} The run is OVERLOADED, as the scenario expects: {criteria}."
    others = f" {reason}" if any(one["verdict"] == verdict.UNKNOWN for one in parts) or not parts else ""
    return (f"The run is OVERLOADED, so no result counts as a pass: {criteria}. Lower workload.rate, or set "
            f"`expect_overload: true` if the overload is intended.{others}")  # fmt: skip


def _count(parts: list[dict[str, Any]], noun: str) -> str:
    return f"{len(parts)} {noun}{'' if len(parts) == 1 else 's'}"


def _value_text(criterion: Mapping[str, Any]) -> str:
    value = criterion["value"]
    if value is None:
        return "not recorded"
    if isinstance(value, bool):
        return "yes" if value else "no"
    limit = criterion.get("limit")
    if criterion["unit"] == "share":
        return digits.distinct_text(value, limit, "{:.1%}".format, 100, "%")
    unit = f" {criterion['unit']}" if criterion["unit"] else ""
    return digits.distinct_text(value, limit, lambda each: f"{each:.4g}{unit}", 1, unit)


def _measured(one: Mapping[str, Any]) -> str:
    value, more = (one["value"], "") if one["value"] is not None else (one["at_least"], "more than ")
    if value is None:
        return ""
    if one["unit"] == "share":
        return f"measured {digits.distinct_text(value, one['bound'], '{:.2%}'.format, 100, '%')}"
    return f"measured {more}{digits.distinct_text(value, one['bound'], _duration, 1000, ' ms')}"


def _duration(value_s: float) -> str:
    return f"{value_s * 1000:.4g} ms" if value_s < 1 else f"{value_s:.4g} s"
