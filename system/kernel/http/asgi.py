"""A minimal HTTP service: raw ASGI, one table of routes, one error format.

The gateway calls a service through the mesh (the internal HAProxy) with these request headers:

    x-user-id         the user of the token
    x-deadline-ms     time left when the gateway forwarded the request
    x-deadline-at-us  the deadline in µs of this machine's CLOCK_MONOTONIC, so that time in a queue, or in the
                      socket of a paused process, counts
    x-request-id      id of the request

Responses are JSON; every error is `{title, detail, type, status}`. The response headers `server-timing` and
`x-tweetlab-instance` report how long the request took, and in which instance.

A read is cancelled at its deadline. A write is never cancelled: the caller gets 504 (outcome unknown) and the
write runs to completion.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping, Sequence
from typing import Any, Generic, TypeVar
from urllib.parse import unquote_plus

import orjson

from system.kernel import background, numbers
from system.kernel.errors import DeadlineExceeded, LabError, NotFound, TooLarge, Unauthorized, WrongInput
from system.kernel.telemetry import metrics, tracing

MAX_BODY_BYTES = 64 * 1024
DEFAULT_DEADLINE_MS = 5_000
OLDEST_NS = 3_600 * 10**9  # a deadline that passed longer ago comes from another clock, and counts as absent
NO_ROUTE = "none"  # metric label of requests that match no route

_log = logging.getLogger("tweetlab")

Headers = list[tuple[bytes, bytes]]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Answer:
    """The response of a handler. `body`: bytes, or a value to send as JSON. `headers`: lower-case names."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, body: Any = None, status: int = 200, headers: Headers | None = None) -> None:
        self.body = body if isinstance(body, bytes) else orjson.dumps(body)
        self.status = status
        self.headers = headers if headers is not None else []


class Spent:
    """Time spent in each store within one request, in ns, for `server-timing`."""

    __slots__ = ("parts",)

    def __init__(self) -> None:
        self.parts: dict[str, int] = {}

    def since(self, name: str, start_ns: int) -> None:
        """Add the time from `start_ns` (perf_counter_ns) until now to `name`."""
        self.parts[name] = self.parts.get(name, 0) + time.perf_counter_ns() - start_ns


def deadline_ns(left_ms: bytes, at_us: bytes, now_ns: int) -> int:
    """Return a request's deadline on the monotonic clock (ns since boot), as of `now_ns`.

    `left_ms`, `at_us`: the headers `x-deadline-ms` (time left) and `x-deadline-at-us` (time on the shared
    clock), b"" if absent. The earlier of the two applies. A value that is not a number counts as absent, and
    so does a time more than an hour (`OLDEST_NS`) ago: it comes from another clock. Without `left_ms`,
    DEFAULT_DEADLINE_MS from now replaces it.
    """
    latest_ns = now_ns + (int(left_ms) if left_ms.isdigit() and len(left_ms) <= 9 else DEFAULT_DEADLINE_MS) * 1_000_000
    at_ns = int(at_us) * 1_000 if at_us.isdigit() and len(at_us) <= 16 else 0
    return min(at_ns, latest_ns) if at_ns > max(0, now_ns - OLDEST_NS) else latest_ns


class Call:
    """One request as a handler sees it. `params`: path parameters; `deadline_ns`: monotonic."""

    __slots__ = ("_receive", "deadline_ns", "headers", "method", "params", "query_string", "spent")

    def __init__(self, scope: Scope, receive: Receive, params: dict[str, str]) -> None:
        self.method: str = scope["method"]
        self.params = params
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.query_string: bytes = scope["query_string"]
        self.deadline_ns = deadline_ns(
            self.headers.get(b"x-deadline-ms", b""), self.headers.get(b"x-deadline-at-us", b""), time.monotonic_ns())
        self.spent = Spent()
        self._receive = receive

    @property
    def user_id(self) -> int:
        """Return the id of the calling user.

        Raises Unauthorized if the gateway set none, so that a request that bypasses the gateway has no user.
        """
        text = self.headers.get(b"x-user-id", b"")
        if not text.isdigit():
            raise Unauthorized("The request names no user; send it through the gateway with a bearer token.")
        return int(text)

    @property
    def request_id(self) -> str:
        """Return the id that the gateway gave to this request; empty if it gave none."""
        return self.headers.get(b"x-request-id", b"").decode("latin-1")[:64]

    @property
    def trace(self) -> str:
        """Return `Event.trace` for events of this request: its id and, if sampled, its traceparent."""
        return tracing.carried(self.request_id)

    def header(self, name: str) -> str:
        """Return a request header by its lower-case name, empty if it is absent."""
        return self.headers.get(name.encode(), b"").decode("latin-1")

    def query(self) -> dict[str, str]:
        """Return the query parameters by name; of a repeated parameter, the last value."""
        if not self.query_string:
            return {}
        pairs = (part.partition("=") for part in self.query_string.decode("latin-1").split("&") if part)
        return {unquote_plus(name): unquote_plus(value) for name, _, value in pairs}

    async def body(self) -> bytes:
        """Return the whole body. Raises TooLarge above 64 KiB."""
        return await read_body(self._receive, MAX_BODY_BYTES)

    async def json(self) -> Any:
        """Return the body as JSON. Raises WrongInput if it is not JSON."""
        data = await self.body()
        try:
            return numbers.parse_json(data)
        except numbers.NotFinite as problem:
            raise WrongInput(f"In the body, {problem}") from None
        except ValueError:
            raise WrongInput(f"The body is not JSON: {data[:60]!r}. Send UTF-8 JSON.") from None


def only(body: Mapping[str, Any], names: Sequence[str], prefix: str = "") -> None:
    """Check that a JSON object has no other fields than these, null ones excepted.

    `prefix`: path of the object in the body, with a dot. Raises WrongInput: a field that is ignored would make
    its sender believe that it has an effect.
    """
    unknown = sorted(str(name) for name, value in body.items() if name not in names and value is not None)
    if unknown:
        raise WrongInput(f"The body has `{prefix}{unknown[0][:60]}`, which is not supported; it may have "
                         f"{', '.join(prefix + name for name in names)}. Leave the field out.")


async def read_body(receive: Receive, limit: int) -> bytes:
    """Return the body of a request.

    Raises TooLarge above `limit` bytes, WrongInput if the client disconnects.
    """
    message = await receive()
    data: bytes = message.get("body", b"")
    while message.get("more_body") and len(data) <= limit:
        message = await receive()
        data += message.get("body", b"")
    if message["type"] == "http.disconnect":
        raise WrongInput(f"The connection ended after {len(data)} bytes of the body; send the whole body.")
    if len(data) > limit:
        raise TooLarge(f"The body is larger than {limit} bytes; send less, and pictures by a signed URL.")
    return data


Handler = Callable[[Call], Awaitable[Answer]]
Row = tuple[str, str, Handler]
"""(method, path with {names}, handler)"""
T = TypeVar("T")


class Router(Generic[T]):
    """Maps a method and a path to a value.

    A route with fewer parameters takes precedence. The value of a parameter is never empty.
    """

    def __init__(self, rows: Iterable[tuple[str, str, T]] = ()) -> None:
        self._rows: dict[tuple[str, int], list[tuple[list[str | None], list[tuple[int, str]], T, str]]] = {}
        self.add(rows)

    def add(self, rows: Iterable[tuple[str, str, T]]) -> None:
        """Add routes to the table."""
        for method, path, target in rows:
            parts = path.split("/")
            names = [(n, part.strip("{}")) for n, part in enumerate(parts) if part.startswith("{")]
            literal = [None if part.startswith("{") else part for part in parts]
            self._rows.setdefault((method, len(parts)), []).append((literal, names, target, f"{method} {path}"))
        for candidates in self._rows.values():
            candidates.sort(key=lambda row: len(row[1]))

    def find(self, method: str, path: str) -> tuple[T, dict[str, str], str] | None:
        """Return (value, path parameters, route pattern) of the matching route; None if no route matches."""
        parts = path.split("/")
        for literal, names, target, route in self._rows.get((method, len(parts)), ()):
            for expected, part in zip(literal, parts):
                if (expected != part) if expected is not None else not part:
                    break
            else:
                return target, {name: parts[n] for n, name in names}, route
        return None


async def send_metrics(send: Send) -> None:
    """Respond to GET /metrics."""
    body = metrics.text()
    headers = [(b"content-type", metrics.CONTENT_TYPE.encode()), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class App:
    """A raw ASGI application.

    `open_`, `close`: run before the first and after the last request. `ready`: whether /health responds 200.
    """

    def __init__(self, name: str, rows: Sequence[Row], instance: str,
                 open_: Callable[[], Awaitable[None]] | None = None, close: Callable[[], Awaitable[None]] | None = None,
                 ready: Callable[[], bool] = lambda: True) -> None:
        self.name = name
        self._router = Router[Handler](rows)
        self._instance = instance.encode()
        self._open, self._close, self._ready = open_, close, ready
        self._writes: set[asyncio.Task[Answer]] = set()
        self._requests = metrics.Requests()

    def route(self, rows: Sequence[Row]) -> None:
        """Add routes, for a service whose handlers exist only after its stores are open."""
        self._router.add(rows)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._serve(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            if self._open:
                await self._open()
        except Exception as problem:
            _log.exception("%s cannot start", self.name)
            await send({"type": "lifespan.startup.failed", "message": str(problem)})
            return
        watch = asyncio.ensure_future(background.run_forever(metrics.watch_loop, "loop_watch", once=True))
        await send({"type": "lifespan.startup.complete"})
        await receive()
        if self._writes:
            await asyncio.wait(self._writes, timeout=5.0)
        if self._close:
            await self._close()
        watch.cancel()
        await send({"type": "lifespan.shutdown.complete"})

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        start_ns = time.perf_counter_ns()
        spent: Spent | None = None
        if scope["path"] == "/health":
            answer = Answer({"status": "ok"}) if self._ready() else Answer({"status": "starting"}, 503)
        elif scope["path"] == "/metrics":
            await send_metrics(send)
            return
        else:
            route, span, error = NO_ROUTE, None, None
            self._requests.inside += 1
            try:
                if (match := self._router.find(scope["method"], scope["path"])) is None:
                    raise NotFound(f"No route {scope['method']} {scope['path'][:80]}; "
                                   "the API is described at /openapi.json of the gateway.")
                handler, params, route = match
                call = Call(scope, receive, params)
                spent = call.spent
                span = tracing.behind_mesh(route, call.request_id, call.header("traceparent"), self.name)
                answer = await self._run(handler, call)
            except Exception as problem:
                answer, error = error_response(problem), problem
            finally:
                self._requests.inside -= 1
            self._requests.done(route, answer.status, start_ns)
            if span is not None:
                span.answer(answer.status, error)
        headers = answer.headers
        headers.append((b"content-type", b"application/json"))
        headers.append((b"content-length", b"%d" % len(answer.body)))
        headers.append((b"x-tweetlab-instance", self._instance))
        headers.append((b"server-timing", self._timing(start_ns, spent)))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})

    def _timing(self, start_ns: int, spent: Spent | None) -> bytes:
        parts = [f"{self.name};dur={(time.perf_counter_ns() - start_ns) / 1e6:.3f}"]
        if spent is not None:
            parts += [f"{name};dur={ns / 1e6:.3f}" for name, ns in spent.parts.items()]
        return ", ".join(parts).encode()

    async def _run(self, handler: Handler, call: Call) -> Answer:
        left_s = (call.deadline_ns - time.monotonic_ns()) / 1e9
        if left_s <= 0:
            raise DeadlineExceeded("The request's deadline passed before it was started.", definite=True)
        if call.method == "GET":
            try:
                async with asyncio.timeout(left_s):
                    return await handler(call)
            except TimeoutError:
                raise DeadlineExceeded(f"The read took longer than the {left_s:.3f} s it had.") from None
        return await self._write(handler, call, left_s)

    async def _write(self, handler: Handler, call: Call, left_s: float) -> Answer:
        task = asyncio.ensure_future(handler(call))
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)
        done, _ = await asyncio.wait({task}, timeout=left_s)
        if not done:
            task.add_done_callback(_log_failure)
            raise DeadlineExceeded(f"The write took longer than the {left_s:.3f} s it had; it may still happen.")
        return task.result()


def _log_failure(task: asyncio.Task[Answer]) -> None:
    """Log the error of a write that failed after its deadline; its caller has already received a 504."""
    if not task.cancelled() and task.exception() is not None:
        _log.warning("a write that outlived its deadline failed: %s", task.exception())


def error_response(problem: BaseException) -> Answer:
    """Return the response for an error.

    An error that is not a LabError is a bug: the response is a 500, and only the log has the details.
    """
    if not isinstance(problem, LabError):
        _log.error("unexpected error", exc_info=problem)
        problem = LabError("An unexpected error of the service; see its log.")
    headers: Headers = []
    if problem.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % max(1, round(problem.retry_after_s))))
    return Answer(problem.body(), problem.status, headers)
