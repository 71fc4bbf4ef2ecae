"""The report: one HTML file that opens without network and without JavaScript.

`render` is a pure function of a run (and of its twin); `write` saves the page in the run's folder.
The template holds the texts and their order; this module only prepares rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import markupsafe

from reports import record
from reports.judge import validity, verdict
from reports.page import charts, svg, texts
from reports.page.view import View
from reports.stats import digits, histogram

TEMPLATES = Path(__file__).parent / "templates"
REPORT = "report.html"
SHOWN_VIOLATIONS = 5  # of each invariant; invariants.json has all of them

PATH_WORDS = {
    "push": "tweets fanned out on write to followers' timelines",
    "pull": "reads that merged pulled authors (fan-out on read)",
    "hit": "reads served from the cached timeline",
    "rebuild": "reads that rebuilt a missing timeline",
    "direct": "reads served from Cassandra while a rebuild was in progress",
    "tail": "reads beyond the 800 cached entries",
    "retry": "attempts after the first, by clients and workers",
}


BROKEN = {  # kind of a criterion -> color, consequence when it does not hold
    "void": ("void", "the run is void"),
    "overload": ("overloaded", "the system is overloaded"),
    "note": ("unknown", "informational"),
}


def write(run: record.Run) -> Path:
    """Render the run's report into its folder, atomically. Return the file."""
    path = run.path / REPORT
    record.write_text(path, render(run))
    return path


def render(run: record.Run) -> str:
    """Return the report of `run` as HTML."""
    view = View(run)
    document = run.document
    figures = charts.draw(view)
    return environment().get_template("report.html.j2").render(
        d=document,
        css=(TEMPLATES / "report.css").read_text(encoding="utf-8"),
        void=view.is_void,
        twin=run.twin is not None,
        tiles=tiles(view),
        keys=histogram.KEYS,
        counts=counts(document),
        percentiles=percentiles(view),
        headline=view.headline,
        main_figures=figures[:charts.MAIN],
        more_figures=figures[charts.MAIN:],
        findings=findings(document),
        errors=prediction_rows(document.get("prediction") or {}),
        processes=processes(document["summary"]),
        paths=paths(document["summary"]),
        recoveries=recoveries(document),
        disclosure=disclosure(document),
        overload="; ".join(_overloads(document)),
        broken=BROKEN,
    )


def _safe(value: Any) -> Any:
    """Return a template value with the characters that are invalid in a page escaped; our own markup unchanged."""
    is_markup = isinstance(value, markupsafe.Markup)
    return texts.xml_safe(value) if isinstance(value, str) and not is_markup else value


@cache
def environment() -> jinja2.Environment:
    loader = jinja2.FileSystemLoader(TEMPLATES)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, finalize=_safe
    )
    environment.filters.update(
        ms=ms,
        millis=millis,
        share=share,
        seconds=seconds,
        words=words,
        pname=pname,
        objective=objective,
        criterion=criterion,
    )
    return environment


def ms(value: float | None) -> str:
    """Format milliseconds for a table column: three significant digits, no unit."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}" if value >= 100 else f"{value:.2f}"


def millis(value: float | None) -> str:
    """Format milliseconds with a suitable unit."""
    return "–" if value is None else svg.millis(value)


def share(value: float | None) -> str:
    """Format a fraction as a percentage, with more digits near 0 and 1."""
    if value is None:
        return "–"
    near = min(abs(value), abs(1 - value))
    if near == 0:
        return f"{value * 100:g} %"
    return f"{value * 100:.{3 if 0 < near < 0.001 else 2 if 0 < near < 0.01 else 1}f} %"


def seconds(value: float | None) -> str:
    """Format seconds with a suitable unit."""
    return "–" if value is None else svg.millis(value * 1000)


def words(name: str) -> str:
    """Format an identifier as text: no_acknowledged_tweet_lost -> no acknowledged tweet lost."""
    return name.replace("_", " ")


def pname(key: str) -> str:
    """Format the key of a percentile: p999 -> p99.9."""
    return {"p999": "p99.9", "p9999": "p99.99"}.get(key, key)


def objective(one: Mapping[str, Any]) -> str:
    """Format an objective's measured value with its unit; `> 12 s` if it falls among unanswered operations."""
    value, more = (one["value"], "") if one["value"] is not None else (one.get("at_least"), "> ")
    if value is None:
        return "–"
    if one.get("unit") == "share":
        return digits.distinct_text(value, one["bound"], share, 100, " %")
    return more + digits.distinct_text(value, one["bound"], seconds, 1000, " ms")


def criterion(one: Mapping[str, Any]) -> str:
    """Format a criterion's value with its unit, with enough digits to distinguish it from its bound."""
    value, unit = one["value"], one.get("unit", "")
    if value is None:
        return "not recorded" if one["holds"] is False else "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    shown = {"share": (share, 100, " %"), "s": (seconds, 1000, " ms"), "ms": (millis, 1, " ms")}
    return digits.distinct_text(value, one.get("limit"), *shown[unit]) if unit in shown else f"{value:g}"


def tiles(view: View) -> list[dict[str, str]]:
    """Return the headline numbers, at most seven."""
    block, totals = view.document["summary"], view.document["summary"]["totals"]
    success_rate = share(totals["ok"] / totals["planned"]) if totals["planned"] else "–"
    rows = [
        {"value": f"{totals['offered_per_s']:.4g}/s", "words": f"offered load, {totals['planned']} operations"},
        {"value": success_rate, "words": "success rate, OK of planned"},
    ]
    if totals.get("refused"):
        refused = share(totals["refused"] / totals["planned"])
        rows.append({"value": refused, "words": "refused (429) under the scenario's own limits"})
    if view.headline:
        steady = block["routes"][view.headline]["steady"]["response_ms"]
        rows += [
            {"value": millis(steady["p50"]), "words": f"{view.headline} median, steady, OK only"},
            {"value": millis(steady["p99"]), "words": f"{view.headline} p99, steady, OK only"},
        ]
    if block["delivery"]["n"]:
        label = "delivery p99, delivered only: post to all timelines"
        rows.append({"value": seconds(block["delivery"]["p99_s"]), "words": label})
    core_s = sum(usage["core_s"] for usage in block["cpu"].values())
    if core_s:
        average = core_s / max(view.windows.load_s, 1e-9)
        cores = view.document["host"].get("cores") or view.document["platform"].get("cores")
        rows.append({"value": f"{average:.2f}", "words": f"cores used of {cores}" if cores else "cores used"})
    return rows


def findings(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one row per invariant, worst verdict first, then in the order of the record.

    `open`: whether the row is expanded, that is, the invariant failed or is unknown. `violations`: the first
    SHOWN_VIOLATIONS of them; `more`: the number of the others.
    """
    rows = []
    for one in document["invariants"]:
        violations = one["violations"][:SHOWN_VIOLATIONS]
        total = one.get("violations_n", len(one["violations"]))
        rank = verdict.RANK.get(one["verdict"], 0)
        more = total - len(violations)
        rows.append({**one, "rank": rank, "open": rank > 0, "violations": violations, "more": more})
    return sorted(rows, key=lambda row: -row["rank"])


def counts(document: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the counts of each route, busiest first, then the totals; `fail` excludes configured refusals."""
    table = document["summary"]["routes"]
    ordered = sorted(table.items(), key=lambda pair: -pair[1]["planned"])
    return [(name, _without_refusals(row)) for name, row in (*ordered, ("all", document["summary"]["totals"]))]


def _without_refusals(row: Mapping[str, Any]) -> Mapping[str, Any]:
    refused = row.get("refused", 0)  # older records lack this count
    return {**row, "fail": row["fail"] - refused, "refused": refused}


def percentiles(view: View) -> list[tuple[str, list[dict[str, Any]]]]:
    """Return per route three rows of percentiles: response (steady), service (steady), response (whole run)."""
    table = view.document["summary"]["routes"]
    tables = []
    for name in view.routes:
        overall, steady = table[name], table[name]["steady"]
        rows = [
            {"words": "response, steady, OK only", "n": steady["ok"], **supported_percentiles(steady, "response_ms")},
            {"words": "service, steady, OK only", "n": steady["ok"], **supported_percentiles(steady, "service_ms")},
            {"words": "response, whole run, OK only", "n": overall["ok"], **supported_percentiles(overall, "response_ms")},
        ]
        tables.append((name, rows))
    return tables


def supported_percentiles(block: Mapping[str, Any], kind: str) -> dict[str, float | None]:
    """Return the percentiles; None for those that need more operations and would only repeat the maximum."""
    return {key: value if histogram.enough(block["ok"], key) else None for key, value in block[kind].items()}


def prediction_rows(prediction: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return rows of predicted vs. measured; `left` and `width` (percent) draw the signed error, clipped at 50 %."""
    rows = []
    for route, block in prediction.get("routes", {}).items():
        for key in ("p50", "p99"):
            rows.append(_error_row(f"{route} {key}", block["response_ms"][key], millis))
    for key, pair in prediction.get("delivery", {}).items():
        rows.append(_error_row(f"delivery {key.removesuffix('_s')}", pair, seconds))
    for node, pair in prediction.get("cpu", {}).items():
        rows.append(_error_row(f"CPU {node}", pair, lambda value: "–" if value is None else f"{value:.2f} core s"))
    return [row for row in rows if row["measured"] != "–" or row["predicted"] != "–"]


def _error_row(name: str, pair: Mapping[str, Any], formatted: Any) -> dict[str, Any]:
    error, interval = pair["error"], pair.get("interval")
    bounds = f" ({formatted(interval[0])} to {formatted(interval[1])})" if interval else ""
    clipped = None if error is None else max(-0.5, min(0.5, error)) * 100
    return {
        "name": name,
        "measured": formatted(pair["measured"]),
        "predicted": formatted(pair["predicted"]) + bounds,
        "error": "–" if error is None else f"{error * 100:+.1f} %",
        "left": None if clipped is None else 50 + min(0.0, clipped),
        "width": None if clipped is None else abs(clipped),
    }


def processes(block: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return CPU and peak memory of each process, most CPU first."""
    names = [*block["cpu"], *(name for name in block["rss_mib"] if name not in block["cpu"])]
    rows = []
    for name in names:
        used = block["cpu"].get(name, {"core_s": 0.0, "share": 0.0})
        rss_mib = block["rss_mib"].get(name)
        memory = "–" if rss_mib is None else f"{rss_mib:,.0f}"
        rows.append({"name": name, "core_s": f"{used['core_s']:.2f}", "share": used["share"], "rss": memory})
    return rows


def paths(block: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the count of each read and write path."""
    return [{"name": name, "n": block["paths"].get(name, 0), "words": text} for name, text in PATH_WORDS.items()]


def recoveries(document: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return one row per fault: verdict, note, time to recovery, RTO and RPO as text; a dash if unknown.

    For a void run, verdict and numbers are withheld.
    """
    faults = document.get("recovery", ())
    if document["validity"]["verdict"] == verdict.VOID:
        withheld = dict.fromkeys(("note", "took", "rto", "rpo"), "–")
        return [{"name": one["name"], "verdict": "void", **withheld} for one in faults]
    return [
        {
            "name": one["name"],
            "verdict": one["verdict"],
            "note": one["note"],
            "took": seconds(one["time_to_recovery_s"]),
            "rto": _rto(one),
            "rpo": _lost(one["rpo"]),
        }
        for one in faults
    ]


def _rto(one: Mapping[str, Any]) -> str:
    if one["rto_s"] is not None:
        return f"{one['rto_s']:g} s"
    return "–" if one["rto_at_least_s"] is None else f"> {one['rto_at_least_s']:g} s"


def _lost(rpo: Mapping[str, Mapping[str, int]] | None) -> str:
    """Format the acknowledged writes that were lost: `2 of 310 tweets, 0 of 41 likes`."""
    parts = [f"{counts['lost']} of {counts['acknowledged']} {kind}" for kind, counts in (rpo or {}).items()]
    return ", ".join(parts) or "–"


def disclosure(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the facts that a reader needs to assess or reproduce the run."""
    clock = {"started": document["started_at"], "warm-up": f"{document['windows']['warm_up_s']:g} s",
             "load": f"{document['windows']['load_s']:g} s"}  # fmt: skip
    groups = {
        "run": {"kind": document["kind"], "seed": document["seed"], "commit": document["commit"] or "unknown", **clock},
        "host": document["host"],
        "servers": document["versions"],
        "platform": {key: value for key, value in document["platform"].items() if key != "traces"},
        "population": document["population"],
    }
    return [(name, _as_text(values)) for name, values in groups.items() if values]


LONGEST = 260  # characters of one nested value in the disclosure; record.json has the full value


def _as_text(value: Any) -> str:
    if isinstance(value, Mapping):
        return " · ".join(f"{words(str(key))} {_truncated(_as_text(each))}" for key, each in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_as_text(each) for each in value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _truncated(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST].rstrip()} … (full value in record.json)"


def _overloads(document: Mapping[str, Any]) -> list[str]:
    broken = validity.overloads(document["validity"])
    return [f"{one['name']} {criterion(one)} (bound {one['bound']})" for one in broken]
