"""The way in: a request of a known route goes straight to its application, all else to FastAPI.

FastAPI's own stack (its middlewares, its router, an exit stack a request) is a fifth of what a home read costs the gateway,
and a route's application answers its errors itself: it needs none of that. What matches no row here (pages, /health,
/openapi.json, an unknown path, a wrong method) takes the long way, which knows the answer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from system.kernel.http import Receive, Scope, Send
from system.services.gateway.policy import Route

Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class Door:
    """An ASGI application. `routes`: those that go straight, by their row. `rest`: who answers everything else."""

    def __init__(self, routes: Mapping[Route, Application], rest: Application) -> None:
        self._rest = rest
        self._rows: dict[tuple[str, int], list[tuple[tuple[str, ...], Application]]] = {}
        for route in sorted(routes, key=lambda route: route.path.count("{")):  # a literal segment wins over a name
            parts = tuple("" if part.startswith("{") else part for part in route.path.split("/")[1:])
            self._rows.setdefault((route.method, len(parts)), []).append((parts, routes[route]))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = self._find(scope["method"], scope["path"]) if scope["type"] == "http" else None
        await (found or self._rest)(scope, receive, send)

    def _find(self, method: str, path: str) -> Application | None:
        segments = path.split("/")
        del segments[0]
        for parts, application in self._rows.get((method, len(segments)), ()):
            for part, segment in zip(parts, segments):
                if (part != segment) if part else not segment:  # a name takes any segment but an empty one
                    break
            else:
                return application
        return None
