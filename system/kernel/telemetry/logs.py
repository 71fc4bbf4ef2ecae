"""Log lines as JSON, one object per line, on standard error; the supervisor writes them to the node's file.

| key | meaning |
|---|---|
| id | unique per line: a line that is shipped twice is the same document |
| time | wall time, UTC, to the millisecond |
| level | debug, info, warning, error or critical |
| service, instance, logger | source of the line |
| message | text |
| request_id, trace_id, span_id | the request or event that was being handled, if any |
| error | traceback, if any |
| fields | further values, from `extra={"fields": {...}}` |

Connection errors of clients are counted, not repeated: `Repeats` holds them back and writes one line per kind
and target (`kernel/telemetry/connection_errors.py`), in the processes of the lab and in that of the command.

This is a custom formatter rather than structlog: structlog imports `rich` if that is installed, 8 MiB in each
of a dozen processes.
"""

from __future__ import annotations

import atexit
import itertools
import json
import logging
import os
import secrets
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from system.kernel.errors import Unavailable
from system.kernel.telemetry import connection_errors, tracing

MAX_MESSAGE, MAX_ERROR = 8_000, 16_000  # characters; rsyslog takes lines of 64 KiB
NOISY = ("uvicorn.error", "cassandra", "aiokafka", "elastic_transport", "urllib3")
CLIENTS = frozenset({"aiohttp", "aiokafka", "cassandra", "elastic_transport", "elasticsearch", "minio",
                     "psycopg", "redis", "urllib3"})
OWN_LOGGER = "tweetlab"


class Json(logging.Formatter):
    """One record as one line of JSON."""

    def __init__(self, service: str, instance: str) -> None:
        super().__init__()
        self._service, self._instance = service, instance
        self._prefix = f"{instance}-{secrets.token_hex(4)}"
        self._numbers = itertools.count(1)

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "id": f"{self._prefix}-{next(self._numbers):x}", "time": stamp(record.created), "level": record.levelname.lower(),
            "service": self._service, "instance": self._instance, "logger": record.name,
            "message": record.getMessage()[:MAX_MESSAGE],
        }
        span = tracing.current()
        if span is not None:
            if span.request_id:
                line["request_id"] = span.request_id
            if span.traceparent:
                line["trace_id"], line["span_id"] = span.trace_id, span.traceparent[36:52]
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = self.formatException(record.exc_info)[-MAX_ERROR:]
        fields = getattr(record, "fields", None)
        if fields:
            line["fields"] = fields
        return json.dumps(line, default=str, ensure_ascii=False, separators=(",", ":"))


def _store_error(record: logging.LogRecord) -> connection_errors.ClientError | None:
    """Return the error of a record that reports an unavailable store without the wording of a client library.
    """
    if isinstance(record.args, tuple) and any(isinstance(value, Unavailable) for value in record.args):
        return connection_errors.ClientError(connection_errors.UNREACHABLE, "")
    return None


class Repeats(logging.Filter):
    """Suppresses connection errors and logs one summary line per burst; everything else passes.

    From a client library every such record is counted, by kind and target. From our own code the first record
    of a message passes unchanged, because it states the consequence of the error, and its repeats are
    counted. `clock` formats a wall time (s).
    """

    def __init__(self, clock: Callable[[float], str]) -> None:
        super().__init__()
        self._clock, self._counter = clock, connection_errors.Counter()
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        atexit.register(self.flush)

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is written unchanged."""
        library = record.name.partition(".")[0]
        is_problem = logging.WARNING <= record.levelno < logging.CRITICAL
        if getattr(record, "counted", False) or not is_problem or library not in CLIENTS | {OWN_LOGGER}:
            return True
        message = record.getMessage()
        text = f"{message} {record.exc_info[1]!r}" if record.exc_info else message
        error = connection_errors.connection_error(text) or _store_error(record)
        if error is None:
            return True
        description = f"{error.kind} {error.target or f'a server of {library}'}"
        with self._lock:
            if library == OWN_LOGGER:
                key, words = (record.msg, description), message[:MAX_MESSAGE]
                passes = self._counter.add(key, words, record.created, shown=True)
            else:
                passes = False
                self._counter.add(description, description, record.created)
            self._arm()
        return passes

    def flush(self, now_s: float = float("inf")) -> None:
        """Write the bursts that are due at `now_s`; by default all of them."""
        with self._lock:
            bursts = self._counter.due(now_s)
            self._timer = None
            if len(self._counter):
                self._arm()
        for burst in bursts:
            line = burst.line(self._clock)
            logging.getLogger(OWN_LOGGER).warning("%s", line, extra={"counted": True})

    def _arm(self) -> None:
        """Start the timer that checks open bursts, unless it is running."""
        if self._timer is None:
            self._timer = threading.Timer(connection_errors.QUIET_S, lambda: self.flush(time.time()))
            self._timer.daemon = True
            self._timer.start()


def setup(instance: str = "") -> None:
    """Log as JSON from now on; libraries only from level warning. `instance`: "" for TWEETLAB_INSTANCE."""
    instance = instance or os.environ.get("TWEETLAB_INSTANCE", "local-1")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Json(instance.rpartition("-")[0] or instance, instance))
    handler.addFilter(Repeats(lambda wall_s: stamp(wall_s)[11:21]))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.captureWarnings(True)
    for noisy in NOISY:
        logging.getLogger(noisy).setLevel(logging.WARNING)
    sys.excepthook = _log_crash


def count_on_terminal() -> None:
    """Count connection errors in a process without log setup, by Python's last-resort handler.

    Times are seconds since this call, as in progress lines.
    """
    began_s = time.time()
    handler = logging.lastResort
    if handler is not None and not any(isinstance(existing, Repeats) for existing in handler.filters):
        handler.addFilter(Repeats(lambda wall_s: f"{wall_s - began_s:.1f} s"))


def _log_crash(kind: type[BaseException], problem: BaseException, trace: TracebackType | None) -> None:
    logging.getLogger("tweetlab").critical("the process exits: %s", problem, exc_info=(kind, problem, trace))


def stamp(wall_s: float) -> str:
    """Return a wall time as 2026-01-31T12:00:00.123Z."""
    seconds, ms = divmod(int(wall_s * 1000), 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{ms:03d}Z"


def parsed(line: str) -> dict[str, Any] | None:
    """Parse a line of a JSON log; None for any other line."""
    if not line.startswith("{"):
        return None
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    if not isinstance(entry, dict) or "time" not in entry:
        return None
    return entry if "message" in completed(entry) else None


def completed(entry: dict[str, Any]) -> dict[str, Any]:
    """Add a message to a line of the gateway's access log, which has only fields; return `entry`."""
    if "message" not in entry and entry.get("logger") == "access":
        parts = (entry.get(name, "") for name in ("method", "path", "status", "ms"))
        entry["message"] = "{} {} {} {} ms".format(*parts)
    return entry


def readable(line: str) -> str:
    """Return a log line formatted for people; a line in another format unchanged."""
    entry = parsed(line)
    return line if entry is None else pretty(entry)


def pretty(entry: dict[str, Any]) -> str:
    """Format one log object for people: a line, its fields, and the traceback below it."""
    where = " ".join(f"{name}={entry[name]}" for name in ("request_id", "trace_id") if entry.get(name))
    more = " ".join(f"{name}={value}" for name, value in (entry.get("fields") or {}).items())
    text = " ".join(part for part in (str(entry["time"]), f"{entry.get('instance', '')}", str(entry.get("level", "")).upper(),
                                      str(entry["message"]), more, f"[{where}]" if where else "") if part)
    return f"{text}\n{entry['error']}" if entry.get("error") else text
