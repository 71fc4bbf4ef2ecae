"""Requests to one application, as the gateway sends them."""

from __future__ import annotations

import json
from typing import Any

from system.kernel.http import asgi


async def call(app: asgi.App, method: str, path: str, user: int | None = None, body: Any = None,
               **headers: str) -> tuple[int, Any]:
    """Send one request to an application as the gateway does; return (status, JSON)."""
    raw_headers = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    if user is not None:
        raw_headers.append((b"x-user-id", str(user).encode()))
    data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    path, _, query = path.partition("?")
    scope = {"type": "http", "method": method, "path": path, "query_string": query.encode(), "headers": raw_headers}
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": data}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent[0]["status"], json.loads(sent[1]["body"])
