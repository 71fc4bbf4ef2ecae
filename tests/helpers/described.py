"""Checks every response of a test against the schema of its route in /openapi.json."""

from __future__ import annotations

import functools
import re
from typing import Any

from jsonschema import Draft202012Validator

from system.services.gateway import policy
from system.services.gateway.openapi import document as describe


@functools.cache
def _document() -> dict[str, Any]:
    return describe.document(policy.ROUTES)


@functools.cache
def _routes() -> list[tuple[str, re.Pattern[str], dict[str, Any]]]:
    """Return (method, pattern of the path, operation), literal paths before those with parameters."""
    rows = [(method.upper(), path, operation) for path, methods in _document()["paths"].items()
            for method, operation in methods.items()]
    rows.sort(key=lambda row: row[1].count("{"))
    return [(method, re.compile(re.sub(r"{\w+}", "[^/]+", path)), operation) for method, path, operation in rows]


def check(method: str, path: str, status: int, body: Any) -> None:
    """Fail if the response of a described route does not match its description. Other paths are ignored."""
    plain = path.partition("?")[0]
    for known, pattern, operation in _routes():
        if known == method and pattern.fullmatch(plain):
            response = operation["responses"].get(str(status)) or operation["responses"].get(f"{status // 100}XX")
            assert response is not None, f"{method} {plain} answered {status}, which {operation['operationId']} does not describe"
            schema = response["content"]["application/json"]["schema"]
            problem = next(Draft202012Validator({**schema, "components": _document()["components"]}).iter_errors(body), None)
            assert problem is None, f"{operation['operationId']} {status}: {problem.message} at {problem.json_path}"
            return
