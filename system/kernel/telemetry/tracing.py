"""Tracing: which requests are sampled, and how trace context propagates between processes.

Nothing is exported here.

A trace starts at the gateway, which alone decides whether it is *sampled*: by TWEETLAB_TRACE_RATIO,
regardless of the client. A client's `traceparent` (W3C) becomes the parent, but its sampled flag is ignored;
`x-tweetlab-trace: 1` requests a sample and gets one at most `ASKED_PER_S` times per second, so clients cannot
make tracing expensive. From there on:

| hop | carries |
|---|---|
| gateway -> service | header `traceparent`; the flag 01 means sampled, every process follows it |
| service -> outbox row, event | `Event.trace`: the request id and, if sampled, a space and the traceparent |
| event -> consumer | header `traceparent` of the Kafka record: the span of the publish |

Without an exporter (no TWEETLAB_OTLP) a span is only the request's id, for log lines; the OpenTelemetry SDK
is not imported, and a call costs about a microsecond. An unsampled request costs the same, plus one header.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import random
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Literal, Protocol

ASKED_PER_S = 5  # traces that clients may request, per gateway
TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")

Kind = Literal["server", "client", "producer", "consumer"]
Attributes = Mapping[str, str | int]


class Recorded(Protocol):
    """A span that is exported when it ends."""

    @property
    def traceparent(self) -> str:
        """Return the traceparent that child spans use as their parent."""

    def set_attribute(self, name: str, value: str | int) -> None:
        """Set an attribute."""

    def fail(self, kind: str, detail: str) -> None:
        """Mark the span as failed."""

    def end(self) -> None:
        """End it now."""


class Exporter(Protocol):
    """Makes spans that are exported."""

    def start(self, service: str, name: str, parent: str, kind: Kind, attributes: Attributes,
              links: Sequence[str] = ()) -> Recorded:
        """Start a span now.

        `parent`: a traceparent; "" starts a trace. `links`: traceparents of related spans.
        """

    def close(self) -> None:
        """Export pending spans, for at most two seconds."""


class Span:
    """The request or event that a task handles.

    `request_id`: "" outside of requests. `traceparent`: "" without tracing.
    """

    __slots__ = ("_recorded", "request_id", "service", "traceparent")

    def __init__(self, request_id: str, service: str, traceparent: str = "", recorded: Recorded | None = None) -> None:
        self.request_id, self.service, self._recorded = request_id, service, recorded
        self.traceparent = traceparent if recorded is None else recorded.traceparent

    @property
    def sampled(self) -> bool:
        """Return whether the span is exported."""
        return self._recorded is not None

    @property
    def trace_id(self) -> str:
        """Return the trace id, 32 hexadecimal digits, or ""."""
        return self.traceparent[3:35]

    @property
    def carried(self) -> str:
        """Return the `Event.trace` for events of this span."""
        return f"{self.request_id} {self.traceparent}" if self._recorded is not None else self.request_id

    def set_attribute(self, name: str, value: str | int) -> None:
        """Set an attribute."""
        if self._recorded is not None:
            self._recorded.set_attribute(name, value)

    def fail(self, problem: BaseException) -> None:
        """Mark the span as failed."""
        if self._recorded is not None:
            self._recorded.fail(type(problem).__name__, str(problem)[:300])

    def answer(self, status: int, problem: BaseException | None = None) -> None:
        """End a request's span; a status of 500 or above marks it as failed, with `problem` if there is one.
        """
        if self._recorded is not None:
            self._recorded.set_attribute("http.response.status_code", status)
            if status >= 500 and problem is not None:
                self.fail(problem)
            elif status >= 500:
                self._recorded.fail(str(status), "")
            self._recorded.end()

    def end(self) -> None:
        """End it now."""
        if self._recorded is not None:
            self._recorded.end()


_current: ContextVar[Span | None] = ContextVar("span", default=None)
_service: ContextVar[str] = ContextVar("service", default="tweetlab")
_exporter: Exporter | None = None
_ratio = 0.0


class _RequestedTraces:
    """Rate limit of traces that clients request."""

    def __init__(self) -> None:
        self._second, self._left = 0, 0

    def take(self) -> bool:
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._left = second, ASKED_PER_S
        self._left -= 1
        return self._left >= 0


_requested = _RequestedTraces()


def use(exporter: Exporter | None, ratio: float = 1.0) -> None:
    """Export spans by `exporter` from now on; None exports nothing. Clears the current span of this task."""
    global _exporter, _ratio
    _exporter, _ratio = exporter, ratio
    _current.set(None)


def stop() -> None:
    """Export pending spans, for at most two seconds. Safe to repeat."""
    if _exporter is not None:
        _exporter.close()


def serve_as(service: str) -> None:
    """Set the service of spans in this context and in tasks created from it."""
    _service.set(service)


def current() -> Span | None:
    """Return the span of this task; None outside of requests and events."""
    return _current.get()


def carried(request_id: str) -> str:
    """Return the `Event.trace` for events of the request."""
    span = _current.get()
    return span.carried if span is not None and span.request_id == request_id else request_id


def at_edge(route: str, request_id: str, headers: Mapping[bytes, bytes]) -> Span:
    """Start the span of a client's request at the gateway. Only this function decides whether to sample."""
    if _exporter is None:
        span = Span(request_id, "gateway")
    else:
        parent = headers.get(b"traceparent", b"").decode("latin-1")
        parent = parent if TRACEPARENT.fullmatch(parent) else ""
        if random.random() < _ratio or (headers.get(b"x-tweetlab-trace") == b"1" and _requested.take()):
            span = _request(_exporter, route, request_id, parent, "gateway")
        else:  # still propagated, so that log lines of all services contain one trace id
            span = Span(request_id, "gateway", _unsampled(parent))
    _current.set(span)
    return span


def behind_mesh(route: str, request_id: str, parent: str, service: str) -> Span:
    """Start the span of a request from the mesh, with its header `traceparent`.

    Sampled if the gateway sampled it.
    """
    if _exporter is not None and parent.endswith("-01") and TRACEPARENT.fullmatch(parent):
        span = _request(_exporter, route, request_id, parent, service)
    else:
        span = Span(request_id, service, parent if _exporter is not None else "")
    _current.set(span)
    return span


def _request(exporter: Exporter, route: str, request_id: str, parent: str, service: str) -> Span:
    method, _, path = route.partition(" ")
    attributes = {"http.request.method": method, "http.route": path, "tweetlab.request_id": request_id}
    return Span(request_id, service, recorded=exporter.start(service, route, parent, "server", attributes))


def _unsampled(parent: str) -> str:
    if parent:
        return parent[:-2] + "00"
    return f"00-{random.getrandbits(128) or 1:032x}-{random.getrandbits(64) or 1:016x}-00"


@contextlib.contextmanager
def step(name: str, kind: Kind = "client", attributes: Attributes | None = None) -> Iterator[Span | None]:
    """Run the block as a child span of a sampled request; yields None if it is not sampled.

    An error marks the span.
    """
    above = _current.get()
    if above is None or above._recorded is None or _exporter is None:
        yield None
        return
    recorded = _exporter.start(above.service, name, above.traceparent, kind, attributes or {})
    with _entered(Span(above.request_id, above.service, recorded=recorded)) as span:
        yield span


def inject(headers: dict[str, str]) -> None:
    """Add `traceparent` to the headers of a call to another process."""
    span = _current.get()
    if span is not None and span.traceparent:
        headers["traceparent"] = span.traceparent


# ---- events ------------------------------------------------------------------------------------------


def produced(trace: str, topic: str) -> Recorded | None:
    """Start the span of publishing an event with this `Event.trace`; None if it is not sampled.

    The caller ends it.
    """
    if _exporter is None or not (parent := _parent(trace)):
        return None
    return _exporter.start(_service.get(), f"{topic} publish", parent, "producer", _messaging(topic))


@contextlib.contextmanager
def consumed(trace: str, topic: str) -> Iterator[Span]:
    """Run the block as the handling of an event with this `Event.trace`, in its trace.

    An error marks the span.
    """
    with _entered(_consumer(trace, topic, ())) as span:
        yield span


@contextlib.contextmanager
def consumed_together(events: Sequence[tuple[str, str]]) -> Iterator[None]:
    """Run the block as the handling of a batch of events, given as (trace, topic).

    Each sampled event gets a span; spans of the shared work are children of the first, to which the others
    link.
    """
    sampled = [(trace, topic) for trace, topic in events if _parent(trace)] if _exporter is not None else []
    if not sampled:
        yield
        return
    first = _consumer(*sampled[0], ())
    others = [_consumer(trace, topic, (first.traceparent,)) for trace, topic in sampled[1:]]
    try:
        with _entered(first):
            yield
    except BaseException as problem:
        for span in others:
            span.fail(problem)
        raise
    finally:
        for span in others:
            span.end()


def _consumer(trace: str, topic: str, links: Sequence[str]) -> Span:
    request_id, recorded, service = trace.partition(" ")[0], None, _service.get()
    if _exporter is not None and (parent := _parent(trace)):
        recorded = _exporter.start(service, f"{topic} process", parent, "consumer", _messaging(topic), links)
        recorded.set_attribute("tweetlab.request_id", request_id)
    return Span(request_id, service, recorded=recorded)


def _parent(trace: str) -> str:
    """Return the traceparent in an `Event.trace`, "" without a valid one."""
    parent = trace.partition(" ")[2]
    return parent if parent and TRACEPARENT.fullmatch(parent) else ""


def _messaging(topic: str) -> Attributes:
    return {"messaging.system": "kafka", "messaging.destination.name": topic}


@contextlib.contextmanager
def _entered(span: Span) -> Iterator[Span]:
    token = _current.set(span)
    try:
        yield span
    except BaseException as problem:
        span.fail(problem)
        raise
    finally:
        _current.reset(token)
        span.end()


# ---- stores ------------------------------------------------------------------------------------------


def traced(port: Any, dependency: str) -> Any:
    """Wrap `port` so that each call in a sampled request is a span; return `port` itself without an exporter.
    """
    return port if _exporter is None else _Traced(port, dependency)


class _Traced:
    def __init__(self, port: Any, dependency: str) -> None:
        self._port, self._dependency = port, dependency

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._port, name)
        if not inspect.iscoroutinefunction(attribute):
            return attribute
        call = self.__dict__[name] = _with_span(attribute, f"{self._dependency} {name}", {"db.system.name": self._dependency})
        return call


def _with_span(method: Any, name: str, attributes: Attributes) -> Any:
    @functools.wraps(method)
    async def call(*args: Any, **more: Any) -> Any:
        above = _current.get()
        if above is None or above._recorded is None:
            return await method(*args, **more)
        with step(name, "client", attributes):
            return await method(*args, **more)

    return call
