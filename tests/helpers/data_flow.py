"""The table of docs/data-flow.md as data.

For each box of the data flow: the tests and scenarios that exercise it and the metrics that must change.

A metric is written as Prometheus selects it, `name{label="value"}`; `job` and `node` are the labels of its
file discovery.
"""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from system.kernel.telemetry.metric_table import METRICS
from system.platform.paths import Paths
from tweetlab.console import scrape

PAGE = Path(__file__).resolve().parents[2] / "docs" / "data-flow.md"
BOXES = ("1", "2", "3", "4A", "4B", "4C", "4D", "4E", "4F", "5", "6", "7", "8")
STARTED = "tweetlab_process_started_seconds"

Values = dict[str, dict[str, float]]  # node -> series in exposition format -> value


@dataclass(frozen=True)
class Selector:
    """One metric of the table. `labels`: labels that a series must have, including `job` and `node`."""

    name: str
    labels: dict[str, str]

    def query(self) -> str:
        """Return it as a Prometheus selector."""
        return self.name + "{" + ",".join(f'{label}="{value}"' for label, value in self.labels.items()) + "}"

    def picks(self, job: str, node: str, series: str) -> bool:
        """Return whether it selects this series of a process; of a histogram, its count."""
        histogram = self.name in METRICS and METRICS[self.name].kind == "histogram"
        name, labels = scrape.split(series)
        all_labels = {"node": node, **labels, "job": job}
        return name == self.name + "_count" * histogram and self.labels.items() <= all_labels.items()


@dataclass(frozen=True)
class Row:
    """One box. `tests`: (file, function)."""

    box: str
    scenarios: tuple[str, ...]
    tests: tuple[tuple[str, str], ...]
    metrics: tuple[Selector, ...]


def rows(text: str | None = None) -> dict[str, Row]:
    """Return the rows of the page's table of proofs, by box."""
    by_box = {}
    for line in (PAGE.read_text() if text is None else text).splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 4 and cells[0] in BOXES and "tweetlab_" in line:
            tests = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", cells[2])
            by_box[cells[0]] = Row(cells[0], tuple(re.findall(r"`(\w+)`", cells[1])), tuple(tests), tuple(selectors(cells[3])))
    return by_box


def selectors(cell: str) -> Iterable[Selector]:
    """Yield the metrics that a table cell names."""
    for name, labels in re.findall(r"`(tweetlab_\w+)(\{[^}]*\})?`", cell):
        yield Selector(name, dict(scrape.PAIR.findall(labels)))


def read(text: str) -> dict[str, float]:
    """Return every value in a response of /metrics."""
    pairs = (line.rpartition(" ") for line in text.splitlines() if line.startswith("tweetlab_"))
    return {series: float(value) for series, _, value in pairs}


def scraped(paths: Paths) -> Values:
    """Return the values of every process of the lab, by `job/node`, discovered as Prometheus discovers them."""
    values = {}
    for row in json.loads(paths.targets.read_text()):
        with urllib.request.urlopen(f"http://{row['targets'][0]}/metrics", timeout=10) as answer:
            values[f"{row['labels']['job']}/{row['labels']['node']}"] = read(answer.read().decode())
    return values


def moved(wanted: Selector, before: Values, after: Values) -> bool:
    """Return whether a selected series changed, or is above 0 in a process that started in between."""
    for process, values in after.items():
        was = before.get(process, {})
        job, node = process.split("/")
        fresh = job != "exporter" and was.get(STARTED) != values.get(STARTED)
        for series, value in values.items():
            if wanted.picks(job, node, series) and value != (0.0 if fresh else was.get(series, 0.0)):
                return True
    return False
