"""The access log: one JSON object a line, on standard error, which the platform keeps as the node's log.

Requests that went well are sampled like traces (TWEETLAB_TRACE_RATIO; those that are traced are all here); every request
that was refused or failed is told, up to ERRORS_PER_S a second: an attack must not fill the disk. What was left out is told
in the next line's `left_out`. Lines are written in bundles, at most FLUSH_S late.

The keys are those of every log line (`kernel/telemetry/logs.py`); `fields` holds:

| field | is |
|---|---|
| route, method, path | the route's name; the path without its query, which may hold what somebody searches for |
| status, ms, waited_ms | answer, time inside the gateway, time in queues before it |
| user | id of the caller, absent without a token; never the token |
| error | title of a refusal |
| left_out | rows that were not told since the last one |
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import secrets
import time
from collections.abc import Callable

import orjson

from system.kernel.telemetry import logs, tracing

ERRORS_PER_S = 200
BUNDLE = 64      # lines written at once
FLUSH_S = 0.5

Write = Callable[[bytes], object]


def _to_stderr(lines: bytes) -> object:
    return os.write(2, lines)


class AccessLog:
    """Rows of one gateway. `ratio`: share of the good requests that is told, 0 to 1."""

    def __init__(self, instance: str, ratio: float, write: Write = _to_stderr) -> None:
        self._instance, self._ratio, self._write = instance, ratio, write
        self._prefix, self._numbers = f"{instance}-a{secrets.token_hex(4)}", itertools.count(1)
        self._lines: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self._second, self._left_out = 0, 0
        self._told = {400: 0, 500: 0}  # of this second: a flood of refusals must not hide what failed

    def wants(self, status: int) -> bool:
        """Is a request with this answer told? Cheap: asked for every request."""
        if status < 400:
            span = tracing.current()
            if span is not None and span.traceparent:
                return span.sampled
            return self._ratio > 0.0 and random.random() < self._ratio
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._told = second, {400: 0, 500: 0}
        kind = 500 if status >= 500 else 400
        self._told[kind] += 1
        self._left_out += self._told[kind] > ERRORS_PER_S
        return self._told[kind] <= ERRORS_PER_S

    def tell(self, status: int, request_id: str, **fields: object) -> None:
        """Add a row. Fields that are None are left out."""
        told = {name: value for name, value in fields.items() if value is not None} | {"status": status}
        if self._left_out:
            told["left_out"], self._left_out = self._left_out, 0
        row: dict[str, object] = {
            "id": f"{self._prefix}-{next(self._numbers):x}", "time": logs.stamp(time.time()),
            "level": "info" if status < 400 else "warning" if status < 500 else "error", "service": "gateway",
            "instance": self._instance, "message": f"{told.get('method')} {told.get('route')} {status}", "request_id": request_id,
        }
        span = tracing.current()
        if span is not None and span.traceparent:
            row["trace_id"] = span.trace_id
        self._lines.append(orjson.dumps(row | {"fields": told}) + b"\n")
        if len(self._lines) >= BUNDLE:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_S, self.flush)

    def flush(self) -> None:
        """Write what waits. A log that cannot be written (disk full) is lost; requests go on."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lines, self._lines = b"".join(self._lines), []
        try:
            if lines:
                self._write(lines)
        except OSError:
            pass
