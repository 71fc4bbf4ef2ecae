"""The way in: a request of a known route goes straight to its application, all else to FastAPI.

FastAPI's own stack (its middlewares, its router, an exit stack a request) is a fifth of what a home read costs the gateway,
and a route's application answers its errors itself: it needs none of that. What matches no row here (pages, /health,
/openapi.json, an unknown path, a wrong method) takes the long way, which knows the answer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from system.kernel.http.asgi import Receive, Router, Scope, Send
from system.services.gateway.policy import Route

Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class FastPath:
    """An ASGI application. `routes`: those that go straight, by their row. `rest`: who answers everything else."""

    def __init__(self, routes: Mapping[Route, Application], rest: Application) -> None:
        self._rest = rest
        self._router = Router[Application]((route.method, route.path, routes[route]) for route in routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = self._router.find(scope["method"], scope["path"]) if scope["type"] == "http" else None
        await (found[0] if found else self._rest)(scope, receive, send)
