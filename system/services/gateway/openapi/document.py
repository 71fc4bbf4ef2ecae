"""The OpenAPI document of the public API, made from the table of routes and what is told of each beside it.

To describe a route, add its name to `OPERATIONS` of the `describe_*` module of its service; a test fails on a route that
is not described, and on a description without a route.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from system.services.gateway.openapi import (
    likes as describe_likes,
)
from system.services.gateway.openapi import (
    media as describe_media,
)
from system.services.gateway.openapi import (
    tokens as describe_tokens,
)
from system.services.gateway.openapi import (
    tweets as describe_tweets,
)
from system.services.gateway.openapi import (
    users as describe_users,
)
from system.services.gateway.openapi.parts import ASKED_ID, COMPONENTS, Operation, Parameter, named
from system.services.gateway.policy import Route

OPERATIONS: dict[str, Operation] = {
    **describe_likes.OPERATIONS,
    **describe_media.OPERATIONS,
    **describe_tokens.OPERATIONS,
    **describe_tweets.OPERATIONS,
    **describe_users.OPERATIONS,
}

_LIMITS = {
    "x-rate-limit-limit": {"description": "requests in one window", "schema": {"type": "integer", "minimum": 0}},
    "x-rate-limit-remaining": {"description": "of them still free", "schema": {"type": "integer", "minimum": 0}},
    "x-rate-limit-reset": {"description": "when there is more room, in seconds since 1970", "schema": {"type": "integer"}},
}
_LATER = {"retry-after": {"description": "seconds after which to ask again", "schema": {"type": "integer", "minimum": 1}}}
_ERROR = {"application/json": {"schema": named("Error")}}
_REFUSED = {"description": "refused; certainly not done", "content": _ERROR, "headers": {**_LIMITS, **_LATER}}
_NOT_ANSWERED = {"description": "not answered; `detail` says whether it may have been done", "content": _ERROR, "headers": _LATER}


def document(routes: Sequence[Route]) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of `routes`."""
    paths: dict[str, dict[str, Any]] = {}
    for route in sorted(routes, key=lambda route: (route.path, route.method)):
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, OPERATIONS[route.name])
    return {
        "openapi": "3.1.0",
        "info": {"title": "Tweetlab", "version": "2", "description": "The shapes of Twitter's API v2."},
        "paths": paths,
        "components": {
            "schemas": COMPONENTS,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


def _operation(route: Route, told: Operation) -> dict[str, Any]:
    names = re.findall(r"{(\w+)}", route.path)
    in_path = [Parameter(name, told.path.get(name, ASKED_ID), "", required=True, place="path") for name in names]
    found: dict[str, Any] = {
        "operationId": route.name,
        "summary": told.summary,
        "tags": [route.service],
        "parameters": [_parameter(each) for each in (*in_path, *told.parameters)],
        "responses": {
            **{str(status): _answer(status, schema) for status, schema in told.answers.items()}, "4XX": _REFUSED,
            "5XX": _NOT_ANSWERED},
    }
    if not route.open:
        found["security"] = [{"bearer": [route.scope]}]
    if told.body is not None:
        kind = "application/x-www-form-urlencoded" if told.form else "application/json"
        found["requestBody"] = {"required": True, "content": {kind: {"schema": told.body}}}
    return found


def _parameter(told: Parameter) -> dict[str, Any]:
    found: dict[str, Any] = {"name": told.name, "in": told.place, "required": told.required, "schema": told.schema}
    return found | ({"description": told.about} if told.about else {})


def _answer(status: int, schema: Any) -> dict[str, Any]:
    what = "done" if status < 400 else "refused; certainly not done"
    return {"description": what, "content": {"application/json": {"schema": schema}}, "headers": _LIMITS}
