"""Exports of a run: Markdown for a pull request, JUnit XML for a CI server, text lines for a terminal.

HdrHistogram V2 logs are in the run's folder (histograms/). No export shows a headline number of a void run.
All of them agree with the exit code of the run; `junit` documents what a CI server counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

from reports import record
from reports.judge import validity, verdict
from reports.page import render, texts
from reports.page.view import View

MARKS = {verdict.PASS: "✓", verdict.UNKNOWN: "?", verdict.FAIL: "✗", verdict.NOT_APPLICABLE: "–"}
RECOVERY = ("fault", "recovery", "time to recovery", "RTO", "RPO")
TAGS = {"fail": "failure", "unknown": "error", "skip": "skipped", verdict.NOT_APPLICABLE: "skipped"}


def markdown(run: record.Run) -> str:
    """Return verdict, objectives, invariants, recovery, broken criteria and percentiles as Markdown tables."""
    view, d = View(run), run.document
    parts = [
        f"# {d['scenario']['name']}: {d['verdict']}",
        texts.markdown_line(d["scenario"].get("question", "")),
        f"**{texts.markdown_line(d['decided_by'])}** This run is {d['validity']['verdict']}; "
        f"exit code {d['exit_code']}.",
        _table(("objective", "verdict", "measured", "n", "note"),
               [_objective(one, view.is_void) for one in d["objectives"]]),
        _table(("invariant", "verdict", "checked", "note"), [_invariant(one) for one in d["invariants"]]),
        _table(RECOVERY, [_recovery(one) for one in render.recoveries(d)]),
        _table(("criterion that does not hold", "value", "bound", "fix"), _broken(d)),
        "" if view.is_void else _latencies(view),
        _reproduce(d),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _reproduce(d: Mapping[str, Any]) -> str:
    command = texts.markdown_code(d["command"])
    return f"Reproduce: {command} (seed {d['seed']}, commit {d['commit'] or 'unknown'})" if command else ""


def _latencies(view: View) -> str:
    rows = []
    for name in view.routes:
        steady = view.document["summary"]["routes"][name]["steady"]
        response_ms = render.supported_percentiles(steady, "response_ms")
        shown = [render.ms(response_ms[key]) for key in ("p50", "p95", "p99", "p999", "max")]
        rows.append((name, steady["planned"], steady["ok"], *shown))
    head = ("route, steady response in ms, OK only", "planned", "ok", "p50", "p95", "p99", "p99.9", "max")
    return _table(head, rows)


def _objective(one: Mapping[str, Any], void: bool) -> tuple[Any, ...]:
    if void:
        return one["text"], "void", "withheld", one["n"], ""
    return one["text"], _word(one["verdict"]), render.objective(one), one["n"], one.get("note", "")


def _invariant(one: Mapping[str, Any]) -> tuple[Any, ...]:
    note = one["note"] or "; ".join(one["violations"][:3])
    return render.words(one["name"]), _word(one["verdict"]), one["checked"], note


def _recovery(one: Mapping[str, Any]) -> tuple[Any, ...]:
    note = f": {one['note']}" if one["note"] else ""
    return one["name"], _word(one["verdict"]) + note, one["took"], one["rto"], one["rpo"]


def _broken(d: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    bad = [one for one in d["validity"]["criteria"] if one["holds"] is False]
    return [(one["name"], render.criterion(one), one["bound"], one["fix"]) for one in bad]


def _word(word: str) -> str:
    return f"{MARKS.get(word, '?')} {render.words(word)}"


def _table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    if not rows:
        return ""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(map(texts.markdown_line, line)) + " |" for line in lines)


def junit(run: record.Run) -> str:
    """Return one test case per validity criterion, objective, invariant and fault (its recovery) as JUnit XML.

    The counts agree with the run's verdict. PASS: no failure and no error. FAIL: at least one failure. UNKNOWN
    and VOID: no failure and at least one error, since a CI server has no third color and neither may be green.
    Criteria that were not judged and findings that do not apply are skipped.
    """
    d = run.document
    void = d["validity"]["verdict"] == verdict.VOID
    suite = ElementTree.Element("testsuite", name=run.run_id, timestamp=d["started_at"].rstrip("Z"))
    _properties(suite, d)
    for one in d["validity"]["criteria"]:
        word = _criterion_word(one, d)
        _case(suite, "validity", one["name"], word, f"{render.criterion(one)}, bound {one['bound']}. {one['fix']}")
    for one in d["objectives"]:
        word = "unknown" if void else one["verdict"]
        message = f"measured {render.objective(one)} of {one['n']}. {one.get('note', '')}"
        _case(suite, "objectives", one["text"], word, "withheld: the run is void" if void else message)
    for one in d["invariants"]:
        word = "unknown" if void and one["verdict"] == verdict.FAIL else one["verdict"]
        _case(suite, "invariants", one["name"], word, one["note"] or "; ".join(one["violations"]))
    for one in d.get("recovery", ()):
        word = "unknown" if void and one["verdict"] == verdict.FAIL else one["verdict"]
        _case(suite, "recovery", one["name"], word, f"{one['name']} {one['note']}")
    if d["verdict"] != "PASS" and not suite.findall("testcase/failure") + suite.findall("testcase/error"):
        _case(suite, "verdict", "verdict", "fail" if d["verdict"] == "FAIL" else "unknown", d["decided_by"])
    counts = {tag: len(suite.findall(f"testcase/{tag}")) for tag in ("failure", "error", "skipped")}
    suite.set("tests", str(len(suite.findall("testcase"))))
    suite.set("failures", str(counts["failure"]))
    suite.set("errors", str(counts["error"]))
    suite.set("skipped", str(counts["skipped"]))
    for element in suite.iter():
        element.attrib.update({name: texts.xml_safe(value) for name, value in element.attrib.items()})
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def _properties(suite: ElementTree.Element, d: Mapping[str, Any]) -> None:
    properties = ElementTree.SubElement(suite, "properties")
    for name in ("verdict", "exit_code"):
        ElementTree.SubElement(properties, "property", name=name, value=str(d[name]))


def _criterion_word(one: Mapping[str, Any], d: Mapping[str, Any]) -> str:
    """Return pass, unknown or skip: a broken criterion makes the verdict VOID or UNKNOWN, never FAIL."""
    if one["holds"] is None:
        return "skip"
    expected = d["verdict"] == "PASS" or validity.expects_overload(d["scenario"])
    ignored = one.get("kind") == validity.NOTES or (one.get("kind") == validity.OVERLOADS and expected)
    return "pass" if one["holds"] or ignored else "unknown"


def _case(suite: ElementTree.Element, group: str, name: str, word: str, message: str) -> None:
    case = ElementTree.SubElement(suite, "testcase", classname=f"{suite.get('name')}.{group}", name=name)
    tag = TAGS.get(word)
    if tag:
        ElementTree.SubElement(case, tag, message=" ".join(message.split()))


def brief(run: record.Run) -> list[str]:
    """Return a few lines for a terminal: the verdict, its reason, and the headline numbers (unless void)."""
    view, d = View(run), run.document
    lines = [f"{d['verdict']}  {d['decided_by']}"]
    if d["validity"]["verdict"] == verdict.OVERLOADED:
        lines.append("OVERLOADED  the offered load exceeded capacity; the numbers are valid")
    if not view.is_void:
        lines.extend(f"  {tile['value']:>10}  {tile['words']}" for tile in render.tiles(view))
    return lines
