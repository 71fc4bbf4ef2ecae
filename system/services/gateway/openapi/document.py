"""The OpenAPI document of the public API, generated from the table of routes and a description of each.

To describe a route, add its name to `OPERATIONS` of the module of its service in this package; a test fails
on a route without a description, and on a description without a route.
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
    "x-rate-limit-limit": {"description": "requests allowed in one window", "schema": {"type": "integer", "minimum": 0}},
    "x-rate-limit-remaining": {"description": "requests that remain in the window", "schema": {"type": "integer", "minimum": 0}},
    "x-rate-limit-reset": {"description": "when more requests are allowed, in seconds since 1970", "schema": {"type": "integer"}},
}
_RETRY_AFTER = {"retry-after": {"description": "seconds after which to retry", "schema": {"type": "integer", "minimum": 1}}}
_ERROR = {"application/json": {"schema": named("Error")}}
_REFUSED = {"description": "refused; certainly not executed", "content": _ERROR, "headers": {**_LIMITS, **_RETRY_AFTER}}
_UNAVAILABLE = {"description": "no response from the service; `detail` says whether it may have been executed",
                "content": _ERROR, "headers": _RETRY_AFTER}


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


def _operation(route: Route, description: Operation) -> dict[str, Any]:
    names = re.findall(r"{(\w+)}", route.path)
    in_path = [Parameter(name, description.path.get(name, ASKED_ID), "", required=True, place="path") for name in names]
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": description.summary,
        "tags": [route.service],
        "parameters": [_parameter(parameter) for parameter in (*in_path, *description.parameters)],
        "responses": {
            **{str(status): _answer(status, schema) for status, schema in description.answers.items()}, "4XX": _REFUSED,
            "5XX": _UNAVAILABLE},
    }
    if not route.open:
        operation["security"] = [{"bearer": [route.scope]}]
    if description.body is not None:
        kind = "application/x-www-form-urlencoded" if description.form else "application/json"
        operation["requestBody"] = {"required": True, "content": {kind: {"schema": description.body}}}
    return operation


def _parameter(parameter: Parameter) -> dict[str, Any]:
    shape: dict[str, Any] = {"name": parameter.name, "in": parameter.place, "required": parameter.required,
                             "schema": parameter.schema}
    return shape | ({"description": parameter.about} if parameter.about else {})


def _answer(status: int, schema: Any) -> dict[str, Any]:
    description = "done" if status < 400 else "refused; certainly not executed"
    return {"description": description, "content": {"application/json": {"schema": schema}}, "headers": _LIMITS}
