"""The fast path: which requests go directly to their route, and which to FastAPI."""

from __future__ import annotations

import asyncio

import pytest

from system.services.gateway import policy
from system.services.gateway.fast_path import FastPath

NAMES = {(route.method, route.path): route.name for route in policy.ROUTES}


def route_of(method: str, path: str) -> str:
    """Return the name of the route that a request reaches, "rest" if FastAPI handles it."""
    reached: list[str] = []

    def answering(name):
        async def application(scope, receive, send):
            reached.append(name)
        return application

    fast_path = FastPath({route: answering(route.name) for route in policy.ROUTES}, answering("rest"))
    asyncio.run(fast_path({"type": "http", "method": method, "path": path}, None, None))
    return reached[0]


@pytest.mark.parametrize("route", policy.ROUTES, ids=lambda route: route.name)
def test_each_route_is_reached_by_its_own_path(route):
    """Literal segments win over parameters: `me` is not a user id, `recent` is not a tweet id."""
    path = route.path.replace("{name}", "jack")
    for name in ("id", "requester", "follower", "tweet_id", "target"):
        path = path.replace("{" + name + "}", "12")
    assert route_of(route.method, path) == route.name


@pytest.mark.parametrize("method, path", [
    ("GET", "/health"), ("GET", "/"), ("GET", "/openapi.json"), ("GET", "/2/users/12/"), ("GET", "/2/users//tweets"),
    ("GET", "/2/users/"), ("PATCH", "/2/tweets"), ("HEAD", "/2/users/me"), ("GET", "/2/oauth2/token"), ("GET", "2/users/me"),
])
def test_requests_without_a_route_go_to_fastapi(method, path):
    """An empty segment is not an id; wrong methods and pages are handled by FastAPI."""
    assert route_of(method, path) == "rest"


def test_lifespan_events_go_to_fastapi():
    """Startup and shutdown are handled by FastAPI."""
    scope_types = []

    async def rest(scope, receive, send):
        scope_types.append(scope["type"])

    asyncio.run(FastPath({}, rest)({"type": "lifespan"}, None, None))
    assert scope_types == ["lifespan"]
