"""Writes the addresses of all nodes, and those of /metrics for Prometheus' file discovery (no restart)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from system.platform.paths import Paths
from system.platform.process.child import Child


def write(paths: Paths, children: Sequence[Child]) -> None:
    """Write the lists that changed. A dead process stays on them: the alert needs its failed scrapes.

    A process that starts for the first time or was stopped on command is scraped too, but marked as not
    expected.
    """
    ours = [child for child in children if child.node.module]
    rows = [{"targets": [child.ctx.address], "labels": {"job": child.node.kind, "node": child.node.name}} for child in ours]
    _write_if_changed(paths.targets, json.dumps(rows, indent=1))
    _write_if_changed(paths.expected, json.dumps({child.node.name: child.expected for child in ours}))
    _write_if_changed(paths.addresses, json.dumps({child.node.name: child.ctx.address for child in children}, indent=1))


def address(paths: Paths, node: str) -> str:
    """Return where a node of a running lab listens, host:port; "" if the lab has no such node."""
    try:
        return str(json.loads(paths.addresses.read_text()).get(node, ""))
    except (OSError, ValueError):
        return ""


def _write_if_changed(path: Path, text: str) -> None:
    if path.exists() and path.read_text() == text:
        return
    part = path.with_suffix(".part")
    part.write_text(text)
    part.replace(path)
