"""The report functions behind the commands of `commands/results.py`, each from a run's folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reports import exports, record
from reports import publish as publishing
from reports.judge import verdict
from reports.page import render
from reports.stats import compare as comparing
from reports.stats import histogram

EXIT_OF = {"changed": 1, "not changed": 0, "cannot tell": 2}


def write(directory: Path) -> Path:
    """Render the report again; return the file."""
    return render.write(record.read(directory))


def markdown(directory: Path) -> str:
    """Return the run as Markdown."""
    return exports.markdown(record.read(directory))


def junit(directory: Path) -> str:
    """Return the run as JUnit XML."""
    return exports.junit(record.read(directory))


def compare(a: Sequence[Path], b: Sequence[Path], across_providers: bool = False) -> dict[str, Any]:
    """Return the comparison as plain values, with its `text` and `exit_code` (0 not changed, 1 changed, 2 cannot tell).

    `across_providers`: the sides may differ in their provider.
    """
    comparison = comparing.compare([record.read(p) for p in a], [record.read(p) for p in b],
                                   across_providers=across_providers)
    document = comparing.document(comparison)
    text = comparing.text(comparison)
    return document | {"text": text, "markdown": text, "exit_code": EXIT_OF.get(str(document.get("answer")), 2)}


def medians(runs: Sequence[record.Run], side: str = "") -> str:
    """Return as text the median of each route's steady percentiles (OK operations only) over `runs`, busiest route
    first. Void runs are left out.
    """
    valid = [run.document for run in runs if run.document["validity"]["verdict"] != verdict.VOID]
    routes = [document["summary"]["routes"] for document in valid]
    lines = [f"median of {len(routes)} runs{f' of side {side}' if side else ''}, steady response, OK only:"]
    for route in sorted(routes[0], key=lambda name: -routes[0][name]["planned"]) if routes else ():
        steady = [summaries[route]["steady"] for summaries in routes if route in summaries]
        median = histogram.of_repeats([render.supported_percentiles(summary, "response_ms") for summary in steady])
        lines.append(f"  {route:<12} " + "  ".join(f"{key} {render.millis(median.get(key))}" for key in ("p50", "p95", "p99")))
    return "\n".join(lines)


def publish(directory: Path, name: str) -> Path:
    """Copy a run into the gallery; return the folder."""
    run = record.read(directory)
    return publishing.publish(run, name or run.scenario)
