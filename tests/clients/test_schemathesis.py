"""Schemathesis over the lab's own OpenAPI document: no 5xx, and no response that violates the document."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests

from system.platform import native
from tests.helpers.people import CANARY, GATEWAY, RANGE, Person
from tweetlab import home

pytestmark = pytest.mark.real

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
HEALTHY_S, FAULTY_S = 15, 12  # seconds; for a longer search run `st run` by hand with the same options


def run_schemathesis(person: Person, tmp_path: Path, seconds: int, allowed: str = "") -> subprocess.CompletedProcess[str]:
    """Let Schemathesis call every route for `seconds`. `allowed`: a 5xx status that counts as success."""
    config = tmp_path / "schemathesis.toml"
    good = ["2xx", "3xx", "4xx", *([allowed] if allowed else [])]
    config.write_text(f"[checks]\nnot_a_server_error.expected-statuses = {json.dumps(good)}\n")
    options = {
        "url": GATEWAY, "header": f"Authorization: Bearer {person.token}", "checks": CHECKS,
        "phases": "examples,coverage,fuzzing", "report": "ndjson", "report-ndjson-path": str(tmp_path / "answers.ndjson"),
        "max-examples": "12", "max-time": str(seconds), "seed": "11", "request-timeout": "10", "workers": "1",
        "suppress-health-check": "all", "warnings": "off",
    }
    arguments = [word for name, value in options.items() for word in (f"--{name}", value)]
    # One worker: two threads trigger a bug of CPython 3.11, "AST constructor recursion depth mismatch".
    tool = str(Path(sys.executable).with_name("st"))
    command = [tool, "--no-color", "--config-file", str(config), "run", f"{GATEWAY}/openapi.json", *arguments,
               "--no-shrink", "--continue-on-failure"]
    return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=seconds * 4 + 60)


@dataclass
class Report:
    """The content of a report: all response bodies, the statuses, and the operations that were called."""

    bodies: list[str] = field(default_factory=list)
    statuses: set[int] = field(default_factory=set)
    operations: set[str] = field(default_factory=set)


def read_report(tmp_path: Path) -> Report:
    """Read the report of `run_schemathesis`: one event per line, bodies as base64."""
    report = Report()
    for line in (tmp_path / "answers.ndjson").read_text().splitlines():
        for part in _parts(json.loads(line)):
            if "status_code" in part and "content" in part:
                report.statuses.add(part["status_code"])
                content = part["content"] or {}
                report.bodies.append(base64.b64decode(content.get("$base64", "")).decode("utf-8", "replace"))
            if isinstance(part.get("label"), str):
                report.operations.add(part["label"])
    return report


def _parts(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _parts(each)


def test_every_response_conforms_to_the_document(someone: Person, tmp_path: Path) -> None:
    """Generated requests, valid and invalid, to every route.

    2xx match the schemas, 4xx are errors, never a 5xx. No canary.

    No random value names an existing follow request, like or upload of another user, so about a third of the
    operations return only 4xx here: their success responses are checked against the same document by
    `tests/helpers/described.py`.
    """
    done = run_schemathesis(someone, tmp_path, HEALTHY_S)
    report = read_report(tmp_path)
    paths = requests.get(f"{GATEWAY}/openapi.json", timeout=5).json()["paths"]

    assert done.returncode == 0, done.stdout[-6000:]
    assert {f"{method.upper()} {path}" for path, ways in paths.items() for method in ways} - report.operations == set()
    assert any(someone.username in body for body in report.bodies)  # the scan works: /2/users/me contains the username
    assert not any(CANARY in body for body in report.bodies)


def test_every_response_conforms_to_the_document_while_services_are_killed(someone: Person, tmp_path: Path) -> None:
    """Services are killed one after the other and restarted by auto-heal; 503 is allowed, 500 is not."""
    stop = threading.Event()
    killed: list[str] = []

    def kill() -> None:
        for kind in ("tweets", "timelines", "users", "search"):
            if not stop.wait(3.0):
                asyncio.run(native.Lab(home.ROOT, RANGE).kill(f"{kind}-1"))
                killed.append(kind)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        done = run_schemathesis(someone, tmp_path, FAULTY_S, allowed="503")
    finally:
        stop.set()
        killer.join()
    time.sleep(3.0)  # restarts finish before the next test

    report = read_report(tmp_path)
    assert len(killed) >= 2
    assert done.returncode == 0, done.stdout[-6000:]
    assert not any(CANARY in body for body in report.bodies) and 200 in report.statuses
