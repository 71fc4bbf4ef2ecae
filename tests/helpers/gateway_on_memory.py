"""A gateway on memory ports without sockets: one ASGI call per request, and a stub service behind it."""

from __future__ import annotations

import contextlib
import json
import time

from system import bootstrap
from system.kernel.policies import Policies
from system.services.gateway import policy
from system.services.gateway.access_log import AccessLog
from system.services.gateway.handlers import Edge, Forward
from system.services.gateway.openapi import document
from system.services.gateway.parameters import Parameters
from system.services.gateway.tokens import Tokens
from system.services.gateway.upstream import Reply
from system.services.shared import signing
from system.services.shared.signing import Keys
from tests.fakes.limits import MemoryLimits
from tests.fakes.tokens import MemoryTokens

SECRET, OLDER = "s" * 32, "o" * 32
ROUTES = {route.name: route for route in policy.ROUTES}


def bearer(secret: str = SECRET, **changed) -> str:
    claims = {"sub": "42", "exp": time.time() + 60, "jti": "g1.1", "scope": "tweet.read users.read"} | changed
    return "Bearer " + signing.sign(claims, secret)


class Service:
    """A stub behind the mesh that records the requests that reach it."""

    def __init__(self) -> None:
        self.reached: list[tuple[str, dict[str, str]]] = []

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def send(self, method, path, headers, body, deadline_s) -> Reply:
        self.reached.append((path, dict(headers) | {"left_s": f"{deadline_s - time.monotonic():.3f}"}))
        return Reply(200, {"content-type": "application/json"}, b"{}", 0)


class MemoryGateway:
    """A gateway on memory ports; `ask` sends a request to one of its routes."""

    def __init__(self, edge: Edge, service: Service, store: MemoryTokens, lines: list[bytes]) -> None:
        self.edge, self.service, self.store, self.lines = edge, service, store, lines

    async def ask(self, route: str, token: str | None = None, body: bytes = b"", **headers: str):
        raw_headers = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        if token is not None:
            raw_headers.append((b"authorization", token.encode()))
        path = ROUTES[route].path
        scope = {"type": "http", "method": ROUTES[route].method, "path": path, "raw_path": path.encode(), "query_string": b"",
                 "headers": raw_headers, "client": ("127.0.0.1", 1)}
        sent: list = []

        async def receive():
            return {"type": "http.request", "body": body}

        async def send(message) -> None:
            sent.append(message)

        await Forward(self.edge, ROUTES[route], Parameters(document.OPERATIONS[route]))(scope, receive, send)
        return sent[0]["status"], json.loads(sent[1]["body"]), {k.decode(): v.decode() for k, v in sent[0]["headers"]}


@contextlib.asynccontextmanager
async def running_gateway(ratio: float = 0.0, **knobs):
    service, store, lines = Service(), MemoryTokens(), []
    upstreams = {route.service: service for route in policy.ROUTES}
    edge = Edge(Tokens(Keys(SECRET, OLDER)), upstreams, Policies(**knobs), AccessLog("gateway-1", ratio, lines.append))
    await edge.open(bootstrap.ports_of({"limits": MemoryLimits(), "tokens": store}))
    try:
        yield MemoryGateway(edge, service, store, lines)
    finally:
        await edge.close()
