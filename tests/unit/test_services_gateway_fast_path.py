"""The way in: which requests go straight to their route, and which take FastAPI's way."""

from __future__ import annotations

import asyncio

import pytest

from system.services.gateway import policy
from system.services.gateway.fast_path import FastPath

NAMES = {(route.method, route.path): route.name for route in policy.ROUTES}


def way(method: str, path: str) -> str:
    """Return the name of the route that a request reaches, "rest" where it takes the long way."""
    reached: list[str] = []

    def answering(name):
        async def application(scope, receive, send):
            reached.append(name)
        return application

    door = FastPath({route: answering(route.name) for route in policy.ROUTES}, answering("rest"))
    asyncio.run(door({"type": "http", "method": method, "path": path}, None, None))
    return reached[0]


@pytest.mark.parametrize("route", policy.ROUTES, ids=lambda route: route.name)
def test_each_route_is_reached_by_its_own_path(route):
    """Literal segments win over names: `me` is no user's id, `recent` no tweet's."""
    path = route.path.replace("{name}", "jack")
    for name in ("id", "requester", "follower", "tweet_id", "target"):
        path = path.replace("{" + name + "}", "12")
    assert way(route.method, path) == route.name


@pytest.mark.parametrize("method, path", [
    ("GET", "/health"), ("GET", "/"), ("GET", "/openapi.json"), ("GET", "/2/users/12/"), ("GET", "/2/users//tweets"),
    ("GET", "/2/users/"), ("PATCH", "/2/tweets"), ("HEAD", "/2/users/me"), ("GET", "/2/oauth2/token"), ("GET", "2/users/me"),
])
def test_what_is_no_route_takes_the_long_way(method, path):
    """An empty segment is no id, a wrong method is FastAPI's to refuse, a page is a page."""
    assert way(method, path) == "rest"


def test_what_is_no_request_takes_the_long_way():
    """The start and the end of the process are FastAPI's to handle."""
    seen = []

    async def rest(scope, receive, send):
        seen.append(scope["type"])

    asyncio.run(FastPath({}, rest)({"type": "lifespan"}, None, None))
    assert seen == ["lifespan"]
