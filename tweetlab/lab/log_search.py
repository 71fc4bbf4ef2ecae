"""Log lines of all our processes: searched in Elasticsearch where rsyslog ships them, else in the files."""

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

SHIPPED = "searched what rsyslog shipped to Elasticsearch; a line is there about 3 s after it was written"
MAX_FILE_BYTES = 64 * 2**20  # read of each file, from its end


@dataclass(frozen=True)
class Ask:
    """What to look for; what is empty does not matter. `level`: this or graver. `since_s`: at most so old; None is any age."""

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
            raise WrongInput(f"No service {self.service!r} writes lines; known are {', '.join(kinds)}, or one instance: users-1.")


async def find(lab: Lab, ask: Ask, limit: int) -> tuple[list[dict[str, Any]], str]:
    """Return (the newest `limit` lines, oldest first, and where they were looked for, as a sentence)."""
    shipped = any(node.kind == "rsyslog" for node in await lab.status())
    why = "nothing ships the logs of this lab (`tweetlab up --observe` would)"
    if shipped:
        try:
            return await shipped_lines(lab, ask, limit), SHIPPED
        except LabError as problem:
            why = problem.detail
    folder = lab.log_path("x").parent
    found, files = in_files(folder, ask, limit)
    return found, f"searched {files} files in {folder}: {why}"


async def shipped_lines(lab: Lab, ask: Ask, limit: int) -> list[dict[str, Any]]:
    """Return the lines that Elasticsearch finds. Raises StoreUnavailable."""
    index = LogIndex(f"http://{lab.address('elasticsearch')}", "tweetlab")
    found = await index.find(log_index.query(ask.words, ask.trace, ask.request, ask.level, ask.service, ask.since_s), limit)
    return [logs.completed(told) for told in found]


def in_files(folder: Path, ask: Ask, limit: int) -> tuple[list[dict[str, Any]], int]:
    """Return (the newest lines that match in the files of `folder`, the number of files). Lines that are no JSON are `raw`."""
    files = sorted(path for name in rsyslog.OURS for path in folder.glob(f"{name}.log"))
    found = [told for path in files for told in _lines(path) if matches(told, ask)]
    found.sort(key=lambda told: str(told["time"]))
    return found[-limit:], len(files)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    node, last = path.stem, ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - MAX_FILE_BYTES))
        for raw in file:
            text = raw.decode(errors="replace").rstrip("\n")
            told = logs.parsed(text)
            if told is None:  # it is as old as the line before it
                told = {"time": last, "level": "raw", "instance": node, "message": text} if text else None
            if told is not None:
                last = str(told["time"])
                yield told


def matches(told: dict[str, Any], ask: Ask, now_s: float | None = None) -> bool:
    """Does a line match, as Elasticsearch would say it (words are whole words, case does not matter)?"""
    if (ask.trace and told.get("trace_id") != ask.trace) or (ask.request and told.get("request_id") != ask.request):
        return False
    if ask.level and LEVELS.index(str(told.get("level", "raw"))) < LEVELS.index(ask.level):
        return False
    instance = str(told.get("instance", ""))
    if ask.service and ask.service not in (instance, told.get("service"), instance.rpartition("-")[0]):
        return False
    if ask.since_s is not None:
        oldest = logs.stamp((time.time() if now_s is None else now_s) - ask.since_s)
        if str(told["time"])[:19] < oldest[:19]:
            return False
    wanted = set(_words(ask.words))
    return not wanted or any(wanted <= set(_words(str(told.get(name, "")))) for name in ("message", "error", "path"))


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())
