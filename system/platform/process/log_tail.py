"""The end of a node's log, for error messages and `tweetlab logs`."""

from __future__ import annotations

import re
from pathlib import Path

from system.kernel.telemetry import logs

LOG_LINES = 15


def log_end(path: Path, lines: int = LOG_LINES) -> str:
    """Return the last lines of a log; "" if there is none."""
    return "\n".join(_tail(path)[-lines:])


def log_end_with_reason(path: Path) -> str:
    """Return the last lines of a log, after the first of its last 200 lines that names an error.

    A JVM prints the reason first, then a stack trace that is longer than the last lines.
    """
    tail = _tail(path)
    end = tail[-LOG_LINES:]
    reason = next((line for line in tail[-200:] if re.search(r"error|exception|fatal|panic", line, re.I)), "")
    return "\n".join(end if not reason or reason in end else [reason[:500], "...", *end])


def _tail(path: Path) -> list[str]:
    try:
        with path.open("rb") as handle:
            handle.seek(max(0, path.stat().st_size - 65536))
            lines = handle.read().decode(errors="replace").rstrip().splitlines()
            return [part for line in lines for part in logs.readable(line).splitlines()]
    except OSError:
        return []
