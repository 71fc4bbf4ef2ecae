"""The files of a sweep beside its record: a table for pandas, and a page that opens without network."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reports import publish as publishing
from reports import record
from reports.page import render
from tweetlab.api.sweeps import Sweep
from tweetlab.sweep import asked, folder

TABLE, FIGURE, PAGE = "replications.parquet", "figure.svg", "report.html"
TEMPLATE = Path(__file__).with_name("sweep.html.j2")
READS = "home p99"  # drawn beside every other figure, even where it does not vary: what readers notice
MORE_FIGURES = ("throughput", "utilization", "writes per tweet")


def write(sweep: Sweep) -> Path:
    """Write table, figure and page of a sweep into its folder; return the page. A sweep without a result has no figure."""
    table = sweep.replications()
    if len(table):
        table.to_parquet(sweep.path / TABLE)
        sweep.plot().save(sweep.path / FIGURE)
    page = sweep.path / PAGE
    record.write_text(page, html(sweep))
    return page


def publish(sweep: Sweep, name: str, gallery: Path = publishing.GALLERY, owner: publishing.Owner | None = None) -> Path:
    """Write page and record of a sweep to `gallery`/<name> as `reports.publish` does a run's; return the folder."""
    owner = owner or publishing.Owner.of_this_machine()
    redacted = Sweep(sweep.path)
    redacted.document = publishing.redact(sweep.document, owner)
    document = json.dumps(redacted.document, separators=(",", ":"), ensure_ascii=False) + "\n"
    files = {PAGE: html(redacted), folder.DOCUMENT: document}
    return publishing.put(files, name or sweep.document["scenario"]["name"], gallery, owner)


def html(sweep: Sweep) -> str:
    """Return the page of a sweep."""
    document = sweep.document
    played = [point for point in document["points"] if point["figures"]]
    drawn: list[Any] = []
    if played and sweep.keys:
        read = [READS] if any(READS in point["figures"] for point in played) else []
        names = dict.fromkeys([sweep.figure, *read, *(name for name in MORE_FIGURES if varies(sweep, name))])  # each once
        drawn = [{"title": name, "svg": sweep.plot(name).svg()} for name in names]
    return render.environment().from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        d=document, css=(render.TEMPLATES / "report.css").read_text(encoding="utf-8"), figures=drawn, keys=sweep.keys,
        sentences=sweep.sentences(), columns=columns(sweep), rows=cells(sweep), missing=len(sweep.missing))


def markdown(sweep: Sweep) -> str:
    """Return question, answers and table of a sweep as Markdown."""
    heads = columns(sweep)
    rows = ["| " + " | ".join(line) + " |" for line in (heads, ["---"] * len(heads), *cells(sweep))]
    answers = [f"- {line.strip()}" for line in sweep.sentences()]
    return "\n".join([f"## {sweep.document['scenario']['question']}", "", *answers, "", *rows])


def varies(sweep: Sweep, figure: str) -> bool:
    """Return whether a figure differs between points by more than a tenth."""
    means = [point["figures"][figure][0] for point in sweep.document["points"] if figure in point["figures"]]
    return bool(means) and max(means) > 1.1 * min(means)


def columns(sweep: Sweep) -> list[str]:
    """Return the headings of the table: settings, figures with units, replications and labels."""
    unit = asked.unit(sweep.figure)
    return [*sweep.keys, f"{sweep.figure}{f', {unit}' if unit else ''}", "95 % interval", "errors, %", "completed, /s",
            "CPU, %", "replications", "labels"]


def cells(sweep: Sweep) -> list[list[str]]:
    """Return the table as texts, one row per point; a missing point says so and why."""
    found = []
    for point in sweep.document["points"]:
        shown = [point["values"][key] for key in sweep.keys]
        figure = point["figures"].get(sweep.figure)
        if point["state"] != "ok" and not figure:
            found.append([*shown, point["state"], "", "", "", "", str(point["replications"]), point["why"]])
            continue
        mean, low, high = figure or (None, None, None)
        reached = "" if point["reached"] or sweep.document["on"] != "twin" else " (not reached)"
        interval = "–" if mean is None else f"{asked.number(low)} to {asked.number(high)}{reached}"
        found.append([*shown, asked.number(mean), interval, *(asked.number(point["figures"].get(name, (None,))[0])
                                                      for name in ("errors", "throughput", "utilization")),
                      str(point["replications"]), _labels(point)])
    return found


def _labels(point: Mapping[str, Any]) -> str:
    """Return the labels of a point in few words; the record has the sentences."""
    beyond = [label.partition(" ")[0] for label in point["labels"] if "extrapolated" in label]
    found = [label for label in point["labels"] if "extrapolated" not in label]
    if beyond:
        found.append(f"extrapolated: {', '.join(beyond)}")
    if point["state"] == "missing":
        found.append(f"missing: {point['why']}")
    return "; ".join(found)
