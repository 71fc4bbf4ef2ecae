"""Where each node listens, and where our processes answer /metrics: as Prometheus' file discovery reads it, with no restart."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from system.platform.paths import Paths
from system.platform.process.children import Child


def write(paths: Paths, children: Sequence[Child]) -> None:
    """Write the lists where they changed. A dead process stays on them: its silence is what an alert needs.

    Who starts for the first time, or was stopped as asked, is asked too, but nobody misses it.
    """
    ours = [child for child in children if child.node.module]
    rows = [{"targets": [child.ctx.address], "labels": {"job": child.node.kind, "node": child.node.name}} for child in ours]
    _keep(paths.targets, json.dumps(rows, indent=1))
    _keep(paths.expected, json.dumps({child.node.name: child.expected for child in ours}))
    _keep(paths.addresses, json.dumps({child.node.name: child.ctx.address for child in children}, indent=1))


def address(paths: Paths, node: str) -> str:
    """Return where a node of a lab that is up listens, host:port; "" where it has none of this name."""
    try:
        return str(json.loads(paths.addresses.read_text()).get(node, ""))
    except (OSError, ValueError):
        return ""


def _keep(path: Path, text: str) -> None:
    if path.exists() and path.read_text() == text:
        return
    part = path.with_suffix(".part")
    part.write_text(text)
    part.replace(path)
