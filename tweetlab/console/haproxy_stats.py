"""HAProxy's statistics, from its runtime socket: requests, errors and times of each frontend, backend and server."""

from __future__ import annotations

import asyncio
import csv
from dataclasses import dataclass
from pathlib import Path

TIMEOUT_S = 1.0
MAX_BYTES = 1 << 20
COUNTED = {"FRONTEND": "req_tot", "BACKEND": "stot"}


@dataclass(frozen=True)
class Row:
    """One line of `show stat`. Counts since HAProxy started. `place`: FRONTEND, BACKEND or a server's name.

    `queued`, `inside`: requests waiting and in progress now. `answer_ms`: mean over the last 1,024 requests.
    """

    proxy: str
    place: str
    requests: int
    errors: int
    inside: int
    queued: int
    answer_ms: float
    status: str


async def ask(socket: Path) -> list[Row]:
    """Return all lines; empty if HAProxy does not answer."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            reader, writer = await asyncio.open_unix_connection(str(socket))
            writer.write(b"show stat\n")
            text = await reader.read(MAX_BYTES)
            while more := await reader.read(MAX_BYTES):
                text += more
            writer.close()
    except (OSError, TimeoutError):
        return []
    return parse(text.decode())


def parse(text: str) -> list[Row]:
    """Return the lines of a `show stat` reply. An error is a 5xx, a refused connection or no reply."""
    rows = []
    for line in csv.DictReader(text.lstrip("# ").splitlines()):
        place = line["svname"]
        requests = _whole(line.get(COUNTED.get(place, "stot")))
        errors = _whole(line.get("hrsp_5xx")) + (0 if place == "FRONTEND" else _whole(line.get("econ")))
        rows.append(Row(line["pxname"], place, requests, errors, _whole(line.get("scur")), _whole(line.get("qcur")),
                        float(_whole(line.get("ttime"))), line.get("status", "")))
    return rows


def _whole(text: str | None) -> int:
    return int(text) if text and text.isdigit() else 0
