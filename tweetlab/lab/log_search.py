"""Log lines of all services and workers: searched in Elasticsearch if rsyslog ships them there, else in the files."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from system.kernel.errors import LabError, WrongInput
from system.kernel.telemetry import logs
from system.observe import log_index
from system.observe.log_index import LEVELS, LogIndex
from system.platform.servers import rsyslog

if TYPE_CHECKING:
    from system.platform.native import Lab

SHIPPED = "searched in Elasticsearch, where rsyslog ships each line within about 3 s"
MAX_FILE_BYTES = 64 * 2**20  # of each file, read from its end


@dataclass(frozen=True)
class Ask:
    """What to search for; empty fields match everything.

    `level`: this or above. `since_s`: maximum age; None is any age.
    """

    words: str = ""
    trace: str = ""
    request: str = ""
    level: str = ""
    service: str = ""
    since_s: float | None = None

    def __post_init__(self) -> None:
        if self.level and self.level not in LEVELS:
            raise WrongInput(f"The level {self.level!r} is unknown; known are {', '.join(LEVELS)}.")
        kinds = sorted(name.removesuffix("-*") for name in rsyslog.OURS)
        if self.service and re.sub(r"-\d+$", "", self.service) not in kinds:
            raise WrongInput(f"There is no service {self.service!r}; known are {', '.join(kinds)}, "
                             "or one instance such as users-1.")


async def find(lab: Lab, ask: Ask, limit: int) -> tuple[list[dict[str, Any]], str]:
    """Return (the newest `limit` lines, oldest first, and where they were searched, as a sentence)."""
    shipped = any(node.kind == "rsyslog" for node in await lab.status())
    why = "the logs of this lab are not shipped (`tweetlab up --observe` ships them)"
    if shipped:
        try:
            return await shipped_lines(lab, ask, limit), SHIPPED
        except LabError as problem:
            why = problem.detail
    folder = lab.log_path("x").parent
    rows, files = in_files(folder, ask, limit)
    return rows, f"searched {files} files in {folder}: {why}"


async def shipped_lines(lab: Lab, ask: Ask, limit: int) -> list[dict[str, Any]]:
    """Return the lines that Elasticsearch finds. Raises StoreUnavailable."""
    index = LogIndex(f"http://{lab.address('elasticsearch')}", "tweetlab")
    rows = await index.find(log_index.query(ask.words, ask.trace, ask.request, ask.level, ask.service, ask.since_s), limit)
    return [logs.completed(row) for row in rows]


def in_files(folder: Path, ask: Ask, limit: int) -> tuple[list[dict[str, Any]], int]:
    """Return (the newest matching lines in the files of `folder`, the number of files).

    Lines that are not JSON are `raw`.
    """
    files = sorted(path for name in rsyslog.OURS for path in folder.glob(f"{name}.log"))
    rows = [row for path in files for row in _lines(path) if matches(row, ask)]
    rows.sort(key=lambda row: str(row["time"]))
    return rows[-limit:], len(files)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    node, last = path.stem, ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - MAX_FILE_BYTES))
        for raw in file:
            text = raw.decode(errors="replace").rstrip("\n")
            row = logs.parsed(text)
            if row is None:  # it gets the time of the line before it
                row = {"time": last, "level": "raw", "instance": node, "message": text} if text else None
            if row is not None:
                last = str(row["time"])
                yield row


def matches(row: dict[str, Any], ask: Ask, now_s: float | None = None) -> bool:
    """Return whether a line matches, by the rules of Elasticsearch (whole words, case-insensitive)."""
    if (ask.trace and row.get("trace_id") != ask.trace) or (ask.request and row.get("request_id") != ask.request):
        return False
    if ask.level and LEVELS.index(str(row.get("level", "raw"))) < LEVELS.index(ask.level):
        return False
    instance = str(row.get("instance", ""))
    if ask.service and ask.service not in (instance, row.get("service"), instance.rpartition("-")[0]):
        return False
    if ask.since_s is not None:
        oldest = logs.stamp((time.time() if now_s is None else now_s) - ask.since_s)
        if str(row["time"])[:19] < oldest[:19]:
            return False
    wanted = set(_words(ask.words))
    return not wanted or any(wanted <= set(_words(str(row.get(name, "")))) for name in ("message", "error", "path"))


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())
