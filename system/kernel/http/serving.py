"""Serve an ASGI application: uvicorn on uvloop, with head and body of a response in one write.

uvicorn writes the head and the body of a response separately; each costs a system call, a segment, and a read
by every hop that receives it: HAProxy, then the gateway, then HAProxy again.
"""

from __future__ import annotations

import asyncio
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from system.kernel.telemetry import logs


class CoalescingTransport:
    """A transport that holds the head of a response until its body, at most one loop iteration."""

    __slots__ = ("_held", "_loop", "_transport", "get_extra_info", "is_closing", "pause_reading", "resume_reading")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop, self._held = transport, loop, b""
        self.is_closing, self.get_extra_info = transport.is_closing, transport.get_extra_info
        self.pause_reading, self.resume_reading = transport.pause_reading, transport.resume_reading

    def write(self, data: bytes) -> None:
        """Write the held bytes and `data`, or hold `data` if it starts a response."""
        if self._held:
            data, self._held = self._held + data, b""
        elif data.startswith(b"HTTP/1.1 "):
            self._held = data
            self._loop.call_soon(self._flush)
            return
        self._transport.write(data)

    def _flush(self) -> None:
        if self._held:
            held, self._held = self._held, b""
            self._transport.write(held)

    def close(self) -> None:
        """Write the held bytes and close."""
        self._flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Protocol(HttpToolsProtocol):
    """uvicorn's protocol over a `CoalescingTransport`."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start a connection."""
        super().connection_made(CoalescingTransport(transport, self.loop))  # type: ignore[arg-type]


def serve(app: Any, host: str, port: int) -> None:
    """Serve `app` on `host:port` until SIGTERM.

    Logs in the format of `kernel/telemetry/logs.py`, no access log.

    The public load balancer determines the client's address, and `handlers.Passing` reads it: uvicorn ignores
    forwarded headers.
    """
    logs.setup()
    uvicorn.run(app, host=host, port=port, loop="uvloop", http=Protocol, ws="none", lifespan="on", access_log=False,
                log_config=None, server_header=False, date_header=False, proxy_headers=False, timeout_keep_alive=75,
                backlog=2048, timeout_graceful_shutdown=5)
