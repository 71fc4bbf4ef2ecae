"""The report: one HTML file that opens without network and without JavaScript.

`render` is a pure function of a run (and of the twin beside it); `write` puts it into the run's folder.
The template holds the words and their order; this module only prepares rows.
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
    "push": "tweets pushed into followers' timelines",
    "pull": "reads that merged authors who are not pushed",
    "hit": "reads served from the cached timeline",
    "rebuild": "reads that rebuilt a lost timeline",
    "direct": "reads served from Cassandra while a rebuild stood",
    "tail": "reads beyond the cached 800",
    "retry": "attempts beyond the first, of clients and workers",
}


BROKEN = {  # kind of a criterion -> colour, what follows when it does not hold
    "void": ("void", "the run is void"),
    "overload": ("overloaded", "the system is overloaded"),
    "note": ("unknown", "a note"),
}


def write(run: record.Run) -> Path:
    """Render the run's report into its folder, in one step. Returns the file."""
    path = run.path / REPORT
    record.write_text(path, render(run))
    return path


def render(run: record.Run) -> str:
    """The report of `run` as HTML."""
    view = View(run)
    document = run.document
    figures = charts.draw(view)
    return _environment().get_template("report.html.j2").render(
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
        errors=errors_of(document.get("prediction") or {}),
        processes=processes(document["summary"]),
        paths=paths(document["summary"]),
        recoveries=recoveries(document),
        disclosure=disclosure(document),
        overload="; ".join(_overloads(document)),
        broken=BROKEN,
    )


def _safe(value: Any) -> Any:
    """Return a text of the template without characters that no page may hold; markup of ours as it is."""
    is_markup = isinstance(value, markupsafe.Markup)
    return texts.xml_safe(value) if isinstance(value, str) and not is_markup else value


@cache
def _environment() -> jinja2.Environment:
    loader = jinja2.FileSystemLoader(TEMPLATES)
    made = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, finalize=_safe
    )
    made.filters.update(
        ms=ms, millis=millis, share=share, seconds=seconds, words=words, pname=pname, objective=objective, criterion=criterion
    )
    return made


def ms(value: float | None) -> str:
    """Milliseconds for a column: three significant digits, no unit."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}" if value >= 100 else f"{value:.2f}"


def millis(value: float | None) -> str:
    """Milliseconds with a fitting unit."""
    return "–" if value is None else svg.millis(value)


def share(value: float | None) -> str:
    """A fraction as percent, with as many digits as it needs near 0 and 1."""
    if value is None:
        return "–"
    near = min(abs(value), abs(1 - value))
    if near == 0:
        return f"{value * 100:g} %"
    return f"{value * 100:.{3 if 0 < near < 0.001 else 2 if 0 < near < 0.01 else 1}f} %"


def seconds(value: float | None) -> str:
    """Seconds with a fitting unit."""
    return "–" if value is None else svg.millis(value * 1000)


def words(name: str) -> str:
    """no_acknowledged_tweet_lost -> no acknowledged tweet lost."""
    return name.replace("_", " ")


def pname(key: str) -> str:
    """p999 -> p99.9."""
    return {"p999": "p99.9", "p9999": "p99.99"}.get(key, key)


def objective(one: Mapping[str, Any]) -> str:
    """An objective's measured value with its unit; `> 12 s` where it falls among operations without an
    answer.
    """
    value, more = (one["value"], "") if one["value"] is not None else (one.get("at_least"), "> ")
    if value is None:
        return "–"
    if one.get("unit") == "share":
        return digits.apart(value, one["bound"], share, 100, " %")
    return more + digits.apart(value, one["bound"], seconds, 1000, " ms")


def criterion(one: Mapping[str, Any]) -> str:
    """A criterion's value with its unit, with the digits that separate it from its bound."""
    value, unit = one["value"], one.get("unit", "")
    if value is None:
        return "not recorded" if one["holds"] is False else "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    shown = {"share": (share, 100, " %"), "s": (seconds, 1000, " ms"), "ms": (millis, 1, " ms")}
    return digits.apart(value, one.get("limit"), *shown[unit]) if unit in shown else f"{value:g}"


def tiles(view: View) -> list[dict[str, str]]:
    """The five or six numbers on top."""
    block, totals = view.document["summary"], view.document["summary"]["totals"]
    found = [
        {"value": f"{totals['offered_per_s']:.4g}/s", "words": f"offered, {totals['planned']} operations"},
        {"value": share(totals["ok"] / totals["planned"]) if totals["planned"] else "–", "words": "answered well"},
    ]
    if totals.get("refused"):
        refused = share(totals["refused"] / totals["planned"])
        found.append({"value": refused, "words": "refused (429) under the scenario's own limits"})
    if view.headline:
        calm = block["routes"][view.headline]["steady"]["response_ms"]
        found += [
            {"value": millis(calm["p50"]), "words": f"{view.headline} median, steady, OK only"},
            {"value": millis(calm["p99"]), "words": f"{view.headline} p99, steady, OK only"},
        ]
    if block["delivery"]["n"]:
        label = "delivery p99, delivered only: post to all timelines"
        found.append({"value": seconds(block["delivery"]["p99_s"]), "words": label})
    core_s = sum(one["core_s"] for one in block["cpu"].values())
    if core_s:
        average = core_s / max(view.windows.load_s, 1e-9)
        cores = view.document["host"].get("cores") or view.document["platform"].get("cores")
        found.append({"value": f"{average:.2f}", "words": f"cores used of {cores}" if cores else "cores used"})
    return found


def findings(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one row an invariant, the worst verdict first, then in the order of the record.

    `open`: it does not hold. `violations`: the first SHOWN_VIOLATIONS of them; `more`: how many further
    ones there are.
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
    """Routes, busiest first, and all of them together; `fail` without the refusals that the scenario
    configures.
    """
    table = document["summary"]["routes"]
    ordered = sorted(table.items(), key=lambda pair: -pair[1]["planned"])
    return [(name, _refused_apart(row)) for name, row in (*ordered, ("all", document["summary"]["totals"]))]


def _refused_apart(row: Mapping[str, Any]) -> Mapping[str, Any]:
    refused = row.get("refused", 0)  # records of before have no such count
    return {**row, "fail": row["fail"] - refused, "refused": refused}


def percentiles(view: View) -> list[tuple[str, list[dict[str, Any]]]]:
    """Per route: response steady, service steady, response whole."""
    table = view.document["summary"]["routes"]
    found = []
    for name in view.routes:
        whole, calm = table[name], table[name]["steady"]
        rows = [
            {"words": "response, steady, OK only", "n": calm["ok"], **borne(calm, "response_ms")},
            {"words": "service, steady, OK only", "n": calm["ok"], **borne(calm, "service_ms")},
            {"words": "response, whole run, OK only", "n": whole["ok"], **borne(whole, "response_ms")},
        ]
        found.append((name, rows))
    return found


def borne(block: Mapping[str, Any], kind: str) -> dict[str, float | None]:
    """The percentiles that so many operations can bear; the others would only repeat the maximum."""
    return {key: value if histogram.enough(block["ok"], key) else None for key, value in block[kind].items()}


def errors_of(prediction: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of predicted against measured; `left` and `width` (percent) draw the signed error, clipped at 50 %."""
    rows = []
    for route, block in prediction.get("routes", {}).items():
        for key in ("p50", "p99"):
            rows.append(_error_row(f"{route} {key}", block["response_ms"][key], millis))
    for key, pair in prediction.get("delivery", {}).items():
        rows.append(_error_row(f"delivery {key.removesuffix('_s')}", pair, seconds))
    for node, pair in prediction.get("cpu", {}).items():
        rows.append(_error_row(f"CPU {node}", pair, lambda value: "–" if value is None else f"{value:.2f} core s"))
    return [row for row in rows if row["measured"] != "–" or row["predicted"] != "–"]


def _error_row(name: str, pair: Mapping[str, float | None], told: Any) -> dict[str, Any]:
    error = pair["error"]
    clipped = None if error is None else max(-0.5, min(0.5, error)) * 100
    return {
        "name": name,
        "measured": told(pair["measured"]),
        "predicted": told(pair["predicted"]),
        "error": "–" if error is None else f"{error * 100:+.1f} %",
        "left": None if clipped is None else 50 + min(0.0, clipped),
        "width": None if clipped is None else abs(clipped),
    }


def processes(block: Mapping[str, Any]) -> list[dict[str, Any]]:
    """CPU and peak memory of each process, most CPU first."""
    names = [*block["cpu"], *(name for name in block["rss_mib"] if name not in block["cpu"])]
    rows = []
    for name in names:
        used = block["cpu"].get(name, {"core_s": 0.0, "share": 0.0})
        rss = block["rss_mib"].get(name)
        told = "–" if rss is None else f"{rss:,.0f}"
        rows.append({"name": name, "core_s": f"{used['core_s']:.2f}", "share": used["share"], "rss": told})
    return rows


def paths(block: Mapping[str, Any]) -> list[dict[str, Any]]:
    """How often each path was taken."""
    return [{"name": name, "n": block["paths"].get(name, 0), "words": told} for name, told in PATH_WORDS.items()]


def recoveries(document: Mapping[str, Any]) -> list[dict[str, str]]:
    """Rows of faults: verdict and note, time to recovery, RTO and RPO in words; a dash where not known.

    Of a void run neither verdict nor numbers are given.
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
    """What was lost of what was acknowledged: `2 of 310 tweets, 0 of 41 likes`."""
    parts = [f"{counts['lost']} of {counts['acknowledged']} {kind}" for kind, counts in (rpo or {}).items()]
    return ", ".join(parts) or "–"


def disclosure(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What another person needs to judge or repeat the run."""
    clock = {"started": document["started_at"], "warm-up": f"{document['windows']['warm_up_s']:g} s",
             "load": f"{document['windows']['load_s']:g} s"}  # fmt: skip
    groups = {
        "run": {"kind": document["kind"], "seed": document["seed"], "commit": document["commit"] or "unknown", **clock},
        "host": document["host"],
        "servers": document["versions"],
        "platform": {key: value for key, value in document["platform"].items() if key != "traces"},
        "population": document["population"],
    }
    return [(name, _told(values)) for name, values in groups.items() if values]


LONGEST = 260  # letters of one nested value in the disclosure; the whole of it stands in record.json


def _told(value: Any) -> str:
    if isinstance(value, Mapping):
        return " · ".join(f"{words(str(key))} {_short(_told(each))}" for key, each in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_told(each) for each in value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST].rstrip()} … (whole in record.json)"


def _overloads(document: Mapping[str, Any]) -> list[str]:
    broken = validity.overloads(document["validity"])
    return [f"{one['name']} {criterion(one)} (bound {one['bound']})" for one in broken]
