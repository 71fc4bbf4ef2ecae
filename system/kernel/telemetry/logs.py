"""Log lines as JSON, one object a line, on standard error; the supervisor writes them to the node's file.

| key | is |
|---|---|
| id | unique to the line: whoever ships it twice writes the same document |
| time | wall time, UTC, to the millisecond |
| level | debug, info, warning, error or critical |
| service, instance, logger | who says it |
| message | what |
| request_id, trace_id, span_id | for whom; only inside a request or an event |
| error | the traceback, where there is one |
| fields | further values, from `extra={"fields": {...}}` |

Connection errors of clients are counted, not repeated: `Repeats` holds them back and writes one line a kind
and target (`kernel/telemetry/connection_errors.py`), in the processes of the lab and in that of the command.

A formatter of our own, not structlog: that one imports `rich` where it is installed, 8 MiB in each of a dozen processes.
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
OURS = "tweetlab"


class Json(logging.Formatter):
    """One record as one line of JSON."""

    def __init__(self, service: str, instance: str) -> None:
        super().__init__()
        self._service, self._instance = service, instance
        self._prefix = f"{instance}-{secrets.token_hex(4)}"
        self._numbers = itertools.count(1)

    def format(self, record: logging.LogRecord) -> str:
        told: dict[str, Any] = {
            "id": f"{self._prefix}-{next(self._numbers):x}", "time": stamp(record.created), "level": record.levelname.lower(),
            "service": self._service, "instance": self._instance, "logger": record.name,
            "message": record.getMessage()[:MAX_MESSAGE],
        }
        span = tracing.current()
        if span is not None:
            if span.request_id:
                told["request_id"] = span.request_id
            if span.traceparent:
                told["trace_id"], told["span_id"] = span.trace_id, span.traceparent[36:52]
        if record.exc_info and record.exc_info[0] is not None:
            told["error"] = self.formatException(record.exc_info)[-MAX_ERROR:]
        fields = getattr(record, "fields", None)
        if fields:
            told["fields"] = fields
        return json.dumps(told, default=str, ensure_ascii=False, separators=(",", ":"))


def _of_store(record: logging.LogRecord) -> connection_errors.ClientError | None:
    """Return the error of a record that names an unavailable store in words that no client library uses."""
    if isinstance(record.args, tuple) and any(isinstance(each, Unavailable) for each in record.args):
        return connection_errors.ClientError(connection_errors.UNREACHABLE, "")
    return None


class Repeats(logging.Filter):
    """Holds back connection errors and logs one counted line for each burst of them; everything else passes.

    Of a client library every such record is counted, by kind and target. Of our own code the first one of a
    message passes as it is, since it says what follows from the error, and its repeats are counted. `clock`
    writes a wall time (s).
    """

    def __init__(self, clock: Callable[[float], str]) -> None:
        super().__init__()
        self._clock, self._counter = clock, connection_errors.Counter()
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        atexit.register(self.flush)

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is written as it is."""
        library = record.name.partition(".")[0]
        weight = logging.WARNING <= record.levelno < logging.CRITICAL
        if getattr(record, "counted", False) or not weight or library not in CLIENTS | {OURS}:
            return True
        message = record.getMessage()
        text = f"{message} {record.exc_info[1]!r}" if record.exc_info else message
        error = connection_errors.connection_error(text) or _of_store(record)
        if error is None:
            return True
        named = f"{error.kind} {error.target or f'a server of {library}'}"
        with self._lock:
            if library == OURS:
                key, words = (record.msg, named), message[:MAX_MESSAGE]
                passes = self._counter.add(key, words, record.created, shown=True)
            else:
                passes = False
                self._counter.add(named, named, record.created)
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
            logging.getLogger(OURS).warning("%s", line, extra={"counted": True})

    def _arm(self) -> None:
        """See to it that open bursts are looked at again."""
        if self._timer is None:
            self._timer = threading.Timer(connection_errors.QUIET_S, lambda: self.flush(time.time()))
            self._timer.daemon = True
            self._timer.start()


def setup(instance: str = "") -> None:
    """Write this process' log as JSON from now on; libraries only from warnings on. `instance`: default TWEETLAB_INSTANCE."""
    instance = instance or os.environ.get("TWEETLAB_INSTANCE", "local-1")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Json(instance.rpartition("-")[0] or instance, instance))
    handler.addFilter(Repeats(lambda wall_s: stamp(wall_s)[11:21]))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.captureWarnings(True)
    for noisy in NOISY:
        logging.getLogger(noisy).setLevel(logging.WARNING)
    sys.excepthook = _last_words


def count_on_terminal() -> None:
    """Count connection errors in a process that sets up no log: Python's last resort writes its warnings.

    Times are seconds since this call, as in the lines of progress.
    """
    began_s = time.time()
    handler = logging.lastResort
    if handler is not None and not any(isinstance(each, Repeats) for each in handler.filters):
        handler.addFilter(Repeats(lambda wall_s: f"{wall_s - began_s:.1f} s"))


def _last_words(kind: type[BaseException], problem: BaseException, trace: TracebackType | None) -> None:
    logging.getLogger("tweetlab").critical("the process ends: %s", problem, exc_info=(kind, problem, trace))


def stamp(wall_s: float) -> str:
    """Return a wall time as 2026-01-31T12:00:00.123Z."""
    whole, ms = divmod(int(wall_s * 1000), 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{ms:03d}Z"


def parsed(line: str) -> dict[str, Any] | None:
    """Return the object in a line of our log; None for any other line."""
    if not line.startswith("{"):
        return None
    try:
        told = json.loads(line)
    except ValueError:
        return None
    if not isinstance(told, dict) or "time" not in told:
        return None
    return told if "message" in completed(told) else None


def completed(told: dict[str, Any]) -> dict[str, Any]:
    """Give a line of the gateway's access log, which is all fields, a message; return `told`."""
    if "message" not in told and told.get("logger") == "access":
        told["message"] = f"{told.get('method', '')} {told.get('path', '')} {told.get('status', '')} {told.get('ms', '')} ms"
    return told


def readable(line: str) -> str:
    """Return a line of a log for people; one that is not ours as it is."""
    told = parsed(line)
    return line if told is None else pretty(told)


def pretty(told: dict[str, Any]) -> str:
    """Return one log object for people: a line, its fields, and the traceback below it."""
    where = " ".join(f"{name}={told[name]}" for name in ("request_id", "trace_id") if told.get(name))
    more = " ".join(f"{name}={value}" for name, value in (told.get("fields") or {}).items())
    text = " ".join(part for part in (str(told["time"]), f"{told.get('instance', '')}", str(told.get("level", "")).upper(),
                                      str(told["message"]), more, f"[{where}]" if where else "") if part)
    return f"{text}\n{told['error']}" if told.get("error") else text
