"""Serves the console on 127.0.0.1 only: the page, a stream of frames, the end of a node's log, the reports of runs.

Every route is read-only. A request whose Host header is not this machine's loopback address and this port is
refused, so a foreign page gets nothing even if its name resolves to loopback (DNS rebinding).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from system.kernel.errors import CouldNotRun, LabError
from tweetlab.console.collector import EVERY_S, Collector

_log = logging.getLogger("tweetlab")

HOST = "127.0.0.1"
DEFAULT_PORT = 8799
LINGER_S = 5.0   # frames are still produced this long after the last viewer left, so that a reload continues
LOG_LINES = 200
PAGE = Path(__file__).parent / "page"
TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8",
         ".svg": "image/svg+xml"}
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
                               "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
    "x-content-type-options": "nosniff", "referrer-policy": "no-referrer", "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin", "cache-control": "no-cache",
}
REPORT_HEADERS = HEADERS | {"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"}


class LoopbackOnly:
    """Middleware that refuses requests that are not addressed to loopback, and methods other than GET and HEAD."""

    def __init__(self, app: ASGIApp, port: Callable[[], int]) -> None:
        self._app, self._port = app, port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            problem = self._problem(scope)
            if problem:
                await PlainTextResponse(problem[1], problem[0], HEADERS)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _problem(self, scope: Scope) -> tuple[int, str] | None:
        if scope["method"] not in ("GET", "HEAD"):
            return 405, "The console is read-only.\n"
        host = next((value for name, value in scope["headers"] if name == b"host"), b"").decode("latin-1").lower()
        port = self._port()
        if host in (f"{HOST}:{port}", f"localhost:{port}"):
            return None
        return 421, f"This console serves {HOST}:{port} only.\n"


class Console:
    """The application. `port` is set once its socket is bound."""

    def __init__(self, collector: Collector, runs: Path) -> None:
        self.port = 0
        self._collector, self._runs = collector, runs
        self._viewers = 0
        self._frame = b""
        self._fresh = asyncio.Condition()
        self._left_s = 0.0
        files = [Route(_path_of(path), _file(path)) for path in sorted(PAGE.iterdir()) if path.suffix in TYPES]
        routes = [Route("/events", self.events), Route("/logs/{node}", self.log),
                  Route("/runs/{scenario}/{utc}/report.html", self.report), *files]
        inner = Starlette(routes=routes, lifespan=self._lifespan)
        self.app: ASGIApp = LoopbackOnly(inner, lambda: self.port)

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        producing = asyncio.create_task(self._produce_frames())
        try:
            yield
        finally:
            producing.cancel()
            await asyncio.gather(producing, return_exceptions=True)
            await self._collector.close()

    async def _produce_frames(self) -> None:
        """Produce a frame each second while any browser has the page open."""
        due_s = time.monotonic()
        while True:
            if not self._viewers and time.monotonic() - self._left_s > LINGER_S:
                await self._rest()
                due_s = time.monotonic()
            try:
                frame = b"event: frame\ndata: " + orjson.dumps(await self._collector.frame()) + b"\n\n"
                async with self._fresh:
                    self._frame = frame
                    self._fresh.notify_all()
            except Exception:  # the page reports that no frame came; the next one may succeed
                _log.exception("a frame of the console failed")
            due_s = max(due_s + EVERY_S, time.monotonic() + EVERY_S / 2)  # a slow frame never makes the next ones pile up
            await asyncio.sleep(due_s - time.monotonic())

    async def _rest(self) -> None:
        await self._collector.close()
        self._frame = b""
        async with self._fresh:
            await self._fresh.wait_for(lambda: self._viewers > 0)
        self._collector.rest()

    async def events(self, _: Request) -> Response:
        """`GET /events`: the past of the charts, then a frame each second, as server-sent events."""
        return StreamingResponse(self._stream(), media_type="text/event-stream", headers={**HEADERS, "cache-control": "no-store"})

    async def _stream(self) -> AsyncIterator[bytes]:
        self._viewers += 1
        try:
            async with self._fresh:
                self._fresh.notify_all()
            past = {"points": list(self._collector.past), **self._collector.load_so_far()}
            yield b"retry: 1000\nevent: past\ndata: " + orjson.dumps(past) + b"\n\n"
            if self._frame:
                yield self._frame
            while True:
                async with self._fresh:
                    await self._fresh.wait()
                    frame = self._frame
                yield frame
        finally:
            self._viewers -= 1
            self._left_s = time.monotonic()

    async def log(self, request: Request) -> Response:
        """`GET /logs/{node}`: the end of a node's log, as plain text."""
        node = request.path_params["node"]
        if not NAME.fullmatch(node):
            return PlainTextResponse("There is no such node.\n", 404, HEADERS)
        try:
            text = await asyncio.to_thread(self._collector.lab.logs, node, LOG_LINES)
        except LabError as problem:
            return PlainTextResponse(f"{problem.detail}\n", 404, HEADERS)
        return PlainTextResponse(text or "The log is empty.\n", headers=HEADERS)

    async def report(self, request: Request) -> Response:
        """`GET /runs/{scenario}/{utc}/report.html`: a run's report, without scripts and in a sandbox."""
        scenario, utc = request.path_params["scenario"], request.path_params["utc"]
        path = self._runs / scenario / utc / "report.html"
        if not (NAME.fullmatch(scenario) and NAME.fullmatch(utc) and path.is_file()):
            return PlainTextResponse("There is no such report.\n", 404, HEADERS)
        return Response(await asyncio.to_thread(path.read_bytes), media_type=TYPES[".html"], headers=REPORT_HEADERS)


def _path_of(path: Path) -> str:
    return "/" if path.name == "index.html" else f"/{path.name}"


def _file(path: Path) -> Callable[[Request], Any]:
    body, media_type = path.read_bytes(), TYPES[path.suffix]

    async def send(_: Request) -> Response:
        return Response(body, media_type=media_type, headers=HEADERS)

    return send


def bind(port: int) -> socket.socket:
    """Return a socket that listens on 127.0.0.1.

    `port` 0: any free one. Raises CouldNotRun if the port is taken.
    """
    try:
        return socket.create_server((HOST, port))
    except OSError as problem:
        raise CouldNotRun(f"Cannot listen on {HOST}:{port} ({problem.strerror}). To fix: tweetlab console "
                          f"--port {port + 1 if 0 < port < 65535 else DEFAULT_PORT}.") from None


def serve(console: Console, listener: socket.socket) -> None:
    """Serve until Ctrl-C or SIGTERM. Open streams are then closed."""
    console.port = listener.getsockname()[1]
    config = uvicorn.Config(console.app, loop="uvloop", http="httptools", ws="none", lifespan="on", access_log=False,
                            log_config=None, server_header=False, timeout_graceful_shutdown=1)
    uvicorn.Server(config).run(sockets=[listener])
