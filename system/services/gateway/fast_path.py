"""Dispatches a request of a known route directly to its application, all others to FastAPI.

FastAPI's own stack (middlewares, router, an exit stack per request) is a fifth of what a home read costs the
gateway, and a route's application handles its own errors: it needs none of that. Requests that match no route
here (pages, /health, /openapi.json, an unknown path, a wrong method) go through FastAPI.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from system.kernel.http.asgi import Receive, Router, Scope, Send
from system.services.gateway.policy import Route

Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class FastPath:
    """An ASGI application.

    `routes`: the application of each route. `rest`: the application for all other requests.
    """

    def __init__(self, routes: Mapping[Route, Application], rest: Application) -> None:
        self._rest = rest
        self._router = Router[Application]((route.method, route.path, routes[route]) for route in routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match = self._router.find(scope["method"], scope["path"]) if scope["type"] == "http" else None
        await (match[0] if match else self._rest)(scope, receive, send)
