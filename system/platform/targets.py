"""Where each of our processes answers /metrics, as Prometheus' file discovery reads it: no restart when a node comes or goes."""

from __future__ import annotations

import json
from collections.abc import Sequence

from system.platform.children import Child
from system.platform.places import Places


def write(places: Places, children: Sequence[Child]) -> None:
    """Write the list where it changed. A dead process stays on it: its silence is what an alert needs."""
    ours = [child for child in children if child.node.module]
    rows = [{"targets": [child.ctx.address], "labels": {"job": child.node.kind, "node": child.node.name}} for child in ours]
    text = json.dumps(rows, indent=1)
    if places.targets.exists() and places.targets.read_text() == text:
        return
    part = places.targets.with_suffix(".part")
    part.write_text(text)
    part.replace(places.targets)
