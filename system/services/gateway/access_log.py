"""The access log: one JSON object per line, on standard error, which the platform stores as the node's log.

Successful requests are sampled like traces (TWEETLAB_TRACE_RATIO; every traced request is logged). Every
refused or failed request is logged, up to ERRORS_PER_S a second: an attack must not fill the disk. The next
line's `left_out` counts those that were dropped. Lines are written in batches, at most FLUSH_S late.

The keys are those of every log line (`kernel/telemetry/logs.py`); `fields` holds:

| field | content |
|---|---|
| route, method, path | the route's name; the path without its query, which may contain search terms |
| status, ms, waited_ms | response status, time in the gateway, time in queues before it |
| user | id of the caller, absent without a token; never the token |
| error | title of a refusal |
| left_out | requests dropped from the log since the last line |
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
BUNDLE = 64      # lines per write
FLUSH_S = 0.5

Write = Callable[[bytes], object]


def _to_stderr(lines: bytes) -> object:
    return os.write(2, lines)


class AccessLog:
    """The log of one gateway. `ratio`: share of successful requests that is logged, 0 to 1."""

    def __init__(self, instance: str, ratio: float, write: Write = _to_stderr) -> None:
        self._instance, self._ratio, self._write = instance, ratio, write
        self._prefix, self._numbers = f"{instance}-a{secrets.token_hex(4)}", itertools.count(1)
        self._lines: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self._second, self._left_out = 0, 0
        self._errors = {400: 0, 500: 0}  # of this second, separately: a flood of 4xx must not hide 5xx

    def wants(self, status: int) -> bool:
        """Return whether to log a request with this status. Cheap: called for every request."""
        if status < 400:
            span = tracing.current()
            if span is not None and span.traceparent:
                return span.sampled
            return self._ratio > 0.0 and random.random() < self._ratio
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._errors = second, {400: 0, 500: 0}
        kind = 500 if status >= 500 else 400
        self._errors[kind] += 1
        self._left_out += self._errors[kind] > ERRORS_PER_S
        return self._errors[kind] <= ERRORS_PER_S

    def add(self, status: int, request_id: str, **fields: object) -> None:
        """Add a line. Fields that are None are left out."""
        row_fields = {name: value for name, value in fields.items() if value is not None} | {"status": status}
        if self._left_out:
            row_fields["left_out"], self._left_out = self._left_out, 0
        row: dict[str, object] = {
            "id": f"{self._prefix}-{next(self._numbers):x}", "time": logs.stamp(time.time()),
            "level": "info" if status < 400 else "warning" if status < 500 else "error", "service": "gateway",
            "instance": self._instance, "message": f"{row_fields.get('method')} {row_fields.get('route')} {status}",
            "request_id": request_id,
        }
        span = tracing.current()
        if span is not None and span.traceparent:
            row["trace_id"] = span.trace_id
        self._lines.append(orjson.dumps(row | {"fields": row_fields}) + b"\n")
        if len(self._lines) >= BUNDLE:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_S, self.flush)

    def flush(self) -> None:
        """Write the buffered lines.

        If they cannot be written (disk full) they are lost; requests continue.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lines, self._lines = b"".join(self._lines), []
        try:
            if lines:
                self._write(lines)
        except OSError:
            pass
