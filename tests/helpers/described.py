"""Holds every answer of a test against what /openapi.json says of its route: a field that nobody told of fails the test."""

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
    """Return (method, pattern of the path, operation), literal paths before those with names in them."""
    rows = [(method.upper(), path, told) for path, methods in _document()["paths"].items() for method, told in methods.items()]
    rows.sort(key=lambda row: row[1].count("{"))
    return [(method, re.compile(re.sub(r"{\w+}", "[^/]+", path)), told) for method, path, told in rows]


def check(method: str, path: str, status: int, body: Any) -> None:
    """Fail where a described route answered what it does not tell of. Other paths are not looked at."""
    plain = path.partition("?")[0]
    for known, pattern, told in _routes():
        if known == method and pattern.fullmatch(plain):
            answer = told["responses"].get(str(status)) or told["responses"].get(f"{status // 100}XX")
            assert answer is not None, f"{method} {plain} answered {status}, which {told['operationId']} does not tell of"
            schema = answer["content"]["application/json"]["schema"]
            problem = next(Draft202012Validator({**schema, "components": _document()["components"]}).iter_errors(body), None)
            assert problem is None, f"{told['operationId']} {status}: {problem.message} at {problem.json_path}"
            return
